"""Three follow-ups of the paper.

    python -m benchmarks.followups [--evaluations 10000] [--samples 10]

1. Random orders against BRKGA at equal evaluations (the paper: BRKGA loses at 100, wins at 10,000).
2. Slicing from 1,000 to 20,000 nodes: time of a feasibility pass and of the exact value, and memory of the
   segment buffer.
3. Sensitivity: costs perturbed by 5, 10 and 20 %, how the bottleneck of the partition and the certified ratio
   move, and how often another partition would win.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import replace
from functools import partial

import numpy as np

from benchmarks.generators import layered, nasnet, transformer
from benchmarks.proofs import MSR
from onnx_pipeline.graph.costgraph import CostGraph
from onnx_pipeline.graph.costs_json import read_graph
from onnx_pipeline.graph.target import Target
from onnx_pipeline.partition.incumbent import Incumbent
from onnx_pipeline.partition.instance.build import build
from onnx_pipeline.partition.instance.contract import contract
from onnx_pipeline.partition.kernels import ensure_compiled
from onnx_pipeline.partition.portfolio import partition
from onnx_pipeline.partition.result import Bound
from onnx_pipeline.partition.search import slicing, tapes
from onnx_pipeline.partition.search.brkga import BrkgaParams, brkga
from onnx_pipeline.partition.search.orders import in_degrees, kahn
from onnx_pipeline.partition.sensitivity import sensitivity
from onnx_pipeline.partition.task import Task
from onnx_pipeline.progress import silent
from onnx_pipeline.stop import never


def cases() -> list[tuple[CostGraph, Target, int]]:
    found: list[tuple[CostGraph, Target, int]] = []
    if MSR.is_dir():
        graph = read_graph(MSR / "inceptionv3_layer.json")
        found.append((graph, Target(host_io=False), 8))
    wide = Target(bandwidth=1e9)
    return [*found, (nasnet(21), wide, 16), (layered(300, 8), wide, 8), (layered(1000, 10), wide, 16)]


def equal_evaluations(evaluations: int) -> None:
    print(f"| graph | k | random 100 | BRKGA 100 | random {evaluations} | BRKGA {evaluations} |")
    print("|---|---|---|---|---|---|")
    for graph, target, k in cases():
        inst = contract(build(graph, target))
        low = max(inst.total_work // k, int(inst.work.max()))
        cells = []
        for budget in (100, evaluations):
            for method in ("random", "brkga"):
                rng = np.random.default_rng(0)
                degrees, ends = in_degrees(inst), np.zeros(k, dtype=np.int64)
                best = [1 << 60]
                if method == "random":
                    high = low + low // 50
                    for _ in range(budget):
                        order = kahn(inst, degrees, rng.random(inst.n))
                        best.append(int(slicing.evaluate(inst, order, k, low, high, best[-1], ends)[1]))
                        best[-1] = min(best[-2:])
                        high = best[-1]
                else:
                    params = BrkgaParams(population=32)
                    rounds = 1 + max(0, budget - params.population) // (params.population - params.elites)
                    known = Incumbent(graph, target, k, upper=4 * low, bounds=[Bound("simple", low)])
                    found = brkga(Task(inst, known), [], rng, never, replace(params, generations=rounds))
                    best += [value for value, _ in found]
                cells.append(f"{min(best) / low:.4f}")
        print(f"| {graph.name} | {k} | " + " | ".join(cells) + " |", flush=True)


def structure() -> None:
    print("\n| nodes | k | feasibility | exact value | segments | buffer |\n|---|---|---|---|---|---|")
    for n in (1000, 2000, 5000, 10_000, 20_000):
        for k in (16, 64):
            inst = build(transformer(n), Target(bandwidth=1e9))
            order = kahn(inst, in_degrees(inst), np.arange(inst.n, dtype=np.float64))
            ends, tape = np.zeros(k, dtype=np.int64), tapes.make_tape(inst, order)
            low = inst.total_work // k
            _, value = slicing.evaluate(inst, order, k, low, low + low // 50, 1 << 60, ends)
            times = []
            for run in (
                partial(slicing.feasible, tape, k, value, ends),
                partial(slicing.slice_order, tape, k, low, value + value // 50, ends),
            ):
                start = time.perf_counter()
                run()
                times.append(time.perf_counter() - start)
            # A segment is buffered while its work is at most the value: count them by two pointers.
            reach = np.searchsorted(np.cumsum(tape.work), np.cumsum(tape.work) - tape.work + value, "right")
            segments = int((reach - np.arange(inst.n)).sum())
            print(
                f"| {inst.n} | {k} | {times[0] * 1e3:.1f} ms | {times[1] * 1e3:.0f} ms | {segments} "
                f"| {8 * segments / 2**20:.0f} MiB |",
                flush=True,
            )


def noise(samples: int) -> None:
    print("\n| graph | k | noise | result of `plan --perturb` |\n|---|---|---|---|")
    for graph, target, k in cases()[:3]:
        result = partition(graph, k, target, time_limit=2, threads=1)
        for share in (0.05, 0.1, 0.2):
            found = sensitivity(result, perturb=share, samples=samples, seed=0, time_limit=0.5, threads=1)
            figures = {
                key: round(value, 4) for key, value in found.to_json().items() if isinstance(value, float)
            }
            print(f"| {graph.name} | {k} | {share:.0%} | {figures} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--evaluations", type=int, default=10_000)
    parser.add_argument("--samples", type=int, default=10)
    options = parser.parse_args()
    ensure_compiled(silent)
    equal_evaluations(options.evaluations)
    structure()
    noise(options.samples)


if __name__ == "__main__":
    main()
