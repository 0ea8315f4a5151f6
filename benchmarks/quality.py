"""Quality at equal time: random orders, BRKGA, annealing and the whole portfolio on one core.

    python -m benchmarks.quality [--seconds 10] [--seeds 0 1 2] [--output build/quality.csv] [--plot FILE.png]

Every method gets the same contracted instance and the same wall time. Gap is to the best lower bound that
the portfolio proves; the table gives geometric means of bottleneck / bound, the plot gap against time.
"""

from __future__ import annotations

import argparse
import csv
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from benchmarks.generators import layered, nasnet
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
from onnx_pipeline.partition.search.annealing import Annealer
from onnx_pipeline.partition.search.brkga import brkga
from onnx_pipeline.partition.search.orders import in_degrees, kahn
from onnx_pipeline.partition.task import Task
from onnx_pipeline.progress import silent
from onnx_pipeline.stop import Deadline

Trace = list[tuple[float, float]]
METHODS = ("random", "brkga", "anneal", "portfolio")


def instances() -> Iterator[tuple[CostGraph, Target, int]]:
    for name in ("bert_l-12_operator", "inceptionv3_layer", "resnet50_operator"):
        if (MSR / f"{name}.json").exists():
            yield read_graph(MSR / f"{name}.json", ignore_colocation=True), Target(host_io=False), 8
    for graph, k in ((nasnet(21), 16), (nasnet(21), 64), (layered(1000, 10), 16), (layered(500, 20), 16)):
        yield graph, Target(bandwidth=1e9), k


def run(method: str, graph: CostGraph, target: Target, k: int, seconds: float, seed: int) -> Trace:
    """Best bottleneck found against time."""
    if method == "portfolio":
        result = partition(graph, k, target, time_limit=seconds, threads=1, seed=seed)
        return [(point.seconds, point.bottleneck) for point in result.history]
    known = Incumbent(graph, target, k)
    inst = contract(build(graph, target))
    task, stop = Task(inst, known), Deadline(seconds)
    rng = np.random.default_rng(seed)
    degrees, ends = in_degrees(inst), np.zeros(k, dtype=np.int64)
    low = max(inst.total_work // k, int(inst.work.max()))
    known.bound(Bound("simple", low))
    order = kahn(inst, degrees, rng.random(inst.n))
    found, _ = slicing.evaluate(inst, order, k, low, low + low // 50, 1 << 60, ends)
    task.offer(slicing.stages_of(order, ends, found), "random")
    if method == "random":
        while not stop():
            order = kahn(inst, degrees, rng.random(inst.n))
            tape = tapes.make_tape(inst, order)
            found, _ = slicing.slice_order(tape, k, low, known.upper - 1, ends)
            if found:
                task.offer(slicing.stages_of(order, ends, found), "random")
    elif method == "brkga":
        trace = [(known.seconds, graph.seconds(known.upper))]
        return trace + [(known.seconds, graph.seconds(value)) for value, _ in brkga(task, [], rng, stop)]
    else:
        Annealer(task, seed).turn(stop)
    return [(point.seconds, point.bottleneck) for point in known.history]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--output", type=Path, default=Path("build/quality.csv"))
    parser.add_argument("--plot", type=Path)
    options = parser.parse_args()
    ensure_compiled(silent)
    options.output.parent.mkdir(parents=True, exist_ok=True)
    ratios: dict[str, list[float]] = {method: [] for method in METHODS}
    rows: list[tuple[object, ...]] = []
    print("| graph | k | " + " | ".join(METHODS) + " |\n|" + "---|" * (2 + len(METHODS)))
    for graph, target, k in instances():
        bound = partition(graph, k, target, time_limit=options.seconds, threads=1).lower_bound
        cells = []
        for method in METHODS:
            finals = []
            for seed in options.seeds:
                trace = run(method, graph, target, k, options.seconds, seed)
                finals.append(trace[-1][1] / bound)
                rows += [(graph.name, k, method, seed, t, value / bound) for t, value in trace]
            ratios[method] += finals
            cells.append(f"{np.exp(np.mean(np.log(finals))):.4f}")
        print(f"| {graph.name} | {k} | " + " | ".join(cells) + " |", flush=True)
    means = [f"{np.exp(np.mean(np.log(ratios[m]))):.4f}" for m in METHODS]
    print("| geometric mean | | " + " | ".join(means) + " |")
    with options.output.open("w", newline="") as file:
        csv.writer(file).writerows([("graph", "k", "method", "seed", "seconds", "ratio"), *rows])
    if options.plot:
        plot(rows, options.seconds, options.plot)


def plot(rows: list[tuple[object, ...]], seconds: float, path: Path) -> None:
    """Geometric mean of bottleneck / bound over all instances against time."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    times = np.geomspace(0.01, seconds, 200)
    figure, axes = pyplot.subplots(figsize=(7, 4))
    for method in METHODS:
        curves = []
        for key in sorted({row[:2] + row[3:4] for row in rows}, key=str):
            points = [row[4:] for row in rows if row[:2] + row[3:4] == key and row[2] == method]
            at, ratio = (np.array(x, dtype=float) for x in zip(*points, strict=True))
            curves.append(np.log(ratio[np.maximum(np.searchsorted(at, times, side="right") - 1, 0)]))
        axes.plot(times, 100 * (np.exp(np.mean(curves, axis=0)) - 1), label=method)
    axes.set(xscale="log", xlabel="seconds", ylabel="gap to the bound, percent (geometric mean)")
    axes.legend()
    figure.tight_layout()
    figure.savefig(path, dpi=110)


if __name__ == "__main__":
    main()
