"""Devices that differ: against brute force, and what is proved on real graphs.

    python -m benchmarks.fleets --count 20000 [--seed 0] [--free]
    python -m benchmarks.fleets [--time-limit 1] [--orders] [COSTS.json MODEL.onnx ...]

With ``--count``: random small nets and fleets of up to three kinds, with host tensors, pins, colocation,
memory of both kinds and nodes that some kinds cannot run. No bound may exceed the optimum over all stages and
devices, no placement may be better, "optimal" and "infeasible" have to be true. Stops at the first
contradiction.

Without: the MSR workloads and the models of the zoo at estimated costs, 16 GB/s, on

* 2 fast and 6 slow devices, fast ones four times as fast, in three orders and in any;
* a CPU and three accelerators eight times as fast which lack an operator (of models, the first in ``LACKING``
  that recurs; of workloads, a node in eight), the CPU first and in any order.

Printed are gap and time of every case and how many are proved. With ``--orders``, the free order is held
against all orders of the devices.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from itertools import permutations
from pathlib import Path
from typing import NamedTuple

import numpy as np

import onnx_pipeline as op
from onnx_pipeline.errors import InfeasibleError
from onnx_pipeline.graph.costgraph import CostGraph
from onnx_pipeline.graph.fleet import FleetTarget, Kind, device_loads
from onnx_pipeline.graph.target import INFEASIBLE, Target
from onnx_pipeline.partition.fleets.kernels import ensure_compiled
from onnx_pipeline.progress import silent
from tests.fleet_oracle import best_placement, random_fleet

DATA = Path(os.environ.get("ONNX_PIPELINE_DATA", "../shared/data"))
#: Operators that accelerators may lack, and how many nodes of one make it recur.
LACKING, RECURS = ("LayerNormalization", "ReduceMean", "Concat", "MaxPool", "GlobalAveragePool", "Softmax"), 3
FAST, ACCELERATED = 4, 8


def examine(graph: CostGraph, fleet: FleetTarget) -> str:
    """Check one net; return the verdict."""
    optimum = best_placement(graph, fleet)
    try:
        found = op.place(graph, fleet, time_limit=0.2)
    except InfeasibleError as error:
        if optimum is not None and "was found" not in str(error):
            raise AssertionError(f"feasible, yet: {error}") from None
        return "infeasible, said so" if optimum is None else "feasible, not found"
    assert optimum is not None, "infeasible, yet there is a placement"
    loads = device_loads(graph, fleet, found.stage_of, found.device_of)
    assert found.lower <= optimum <= found.upper, (found.lower, optimum, found.upper)
    assert max(load.total for load in loads) == found.upper
    if found.status == "optimal":
        return "optimal, proved"
    return "optimal, not proved" if found.upper == optimum else "feasible"


def campaign(count: int, seed: int, *, free: bool) -> None:
    """Check many nets and count the verdicts."""
    rng = np.random.default_rng(seed)
    verdicts: Counter[str] = Counter()
    start = time.perf_counter()
    for _ in range(count):
        verdicts[examine(*random_fleet(rng, 7, free=free))] += 1
    order = "any order" if free else "a fixed order"
    print(f"{count} nets, devices in {order}, no contradiction, {time.perf_counter() - start:.0f} s")
    for verdict, number in verdicts.most_common():
        print(f"  {number:6d} {verdict}")


class Case(NamedTuple):
    """One graph on one fleet."""

    name: str
    devices: str
    placement: op.Placement
    seconds: float


def graphs(files: list[Path]) -> Iterator[CostGraph]:
    """Yield the given graphs, or those of the data folder, with work for accelerators."""
    chosen = files or [*sorted((DATA / "msr").glob("*.json")), *sorted((DATA / "zoo").glob("*.onnx"))]
    for path in chosen:
        if path.suffix == ".onnx":
            dims = {"s12": 2} if path.stem == "llama_small_past_dyn" else None
            graph = replace(op.profile(path, cost_model="analytic", dims=dims), name=path.stem)
            lacking = lacking_operator(path, graph)
        elif path.name != "optima.json":
            graph = op.read_graph(path)
            lacking = np.random.default_rng(0).random(graph.num_nodes) < 1 / 8
        else:
            continue
        works = {"fast": graph.work // FAST, "npu": np.where(lacking, INFEASIBLE, graph.work // ACCELERATED)}
        yield replace(graph, work_on=works)


def lacking_operator(path: Path, graph: CostGraph) -> np.ndarray:
    """Whether each node is of the operator that accelerators lack; bool[n]."""
    import onnx

    model = onnx.load(path, load_external_data=False)
    types = {node.name: node.op_type for node in model.graph.node}
    count = Counter(types.values())
    operator = next((each for each in LACKING if count[each] >= RECURS), None)
    return np.array([any(types.get(n) == operator for n in names) for names in graph.onnx_nodes])


def fleets(graph: CostGraph) -> Iterator[tuple[str, FleetTarget]]:
    """Yield the fleets with a name each."""
    target = Target(bandwidth=16e9, host_io=graph.meta.get("host_io", True) is not False)
    fast, slow = Kind("fast", target), Kind("slow", target)
    for name, line in (
        ("FFssssss", (0, 0) + (1,) * 6),
        ("ssssssFF", (1,) * 6 + (0, 0)),
        ("sssFFsss", (1, 1, 1, 0, 0, 1, 1, 1)),
    ):
        yield name, FleetTarget((fast, slow), line)
    yield "2F6s any", FleetTarget((fast, slow), (0, 0) + (1,) * 6, free=True)
    npu, cpu = Kind("npu", target), Kind("cpu", target)
    yield "CPU NPU*3", FleetTarget((npu, cpu), (1, 0, 0, 0))
    yield "CPU NPU*3 any", FleetTarget((npu, cpu), (1, 0, 0, 0), free=True)


def measure(graph: CostGraph, limit: float, *, orders: bool) -> Iterator[Case]:
    """Yield the cases of a graph."""
    for name, fleet in fleets(graph):
        begin = time.perf_counter()
        found = op.place(graph, fleet, time_limit=limit)
        case = Case(graph.name, name, found, time.perf_counter() - begin)
        methods = "/".join(bound.method for bound in found.bounds if bound.ticks == found.lower)
        print(
            f"| {graph.name} | {graph.num_nodes} | {name} | {found.stages} | {found.bottleneck:.4g} | "
            f"{found.status} {found.gap:.2%} | {found.method} | {methods} | {case.seconds:.2f} |",
            flush=True,
        )
        if orders and fleet.free:
            compare(graph, fleet, found, limit)
        yield case


def compare(graph: CostGraph, fleet: FleetTarget, free: op.Placement, limit: float) -> None:
    """Hold a free order against all orders of the devices."""
    found = {
        line: op.place(graph, replace(fleet, devices=line, free=False), time_limit=limit)
        for line in sorted(set(permutations(fleet.devices)))
    }
    uppers = sorted(each.upper for each in found.values())
    print(
        f"|  | {len(found)} orders | best / free {uppers[0] / free.upper:.4f} | "
        f"worst / best {uppers[-1] / uppers[0]:.3f} |",
        flush=True,
    )
    assert all(each.upper >= free.lower for each in found.values())
    if uppers[0] < free.upper:
        print(f"|  | WORSE than an order: {free.upper} > {uppers[0]} |", flush=True)


def summary(cases: list[Case]) -> None:
    """Print what is proved, by fleet."""
    print("\n| devices | cases | proved | largest gap | seconds, median | largest |")
    print("|---|---|---|---|---|---|")
    for name in dict.fromkeys(case.devices for case in cases):
        chosen = [case for case in cases if case.devices == name]
        proved = sum(case.placement.status == "optimal" for case in chosen)
        seconds = [case.seconds for case in chosen]
        print(
            f"| {name} | {len(chosen)} | {proved} | {max(case.placement.gap for case in chosen):.2%} | "
            f"{statistics.median(seconds):.2f} | {max(seconds):.2f} |"
        )
    proved = sum(case.placement.status == "optimal" for case in cases)
    print(f"\n{proved} of {len(cases)} proved")


def main() -> None:
    """Run what the options ask for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("files", nargs="*", type=Path)
    parser.add_argument("--count", type=int)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--free", action="store_true")
    parser.add_argument("--orders", action="store_true")
    parser.add_argument("--time-limit", type=float, default=1.0)
    options = parser.parse_args()
    ensure_compiled(silent)
    if options.count:
        campaign(options.count, options.seed, free=options.free)
        return
    cases: list[Case] = []
    for graph in graphs(options.files):
        cases += measure(graph, options.time_limit, orders=options.orders)
    if cases:
        summary(cases)


if __name__ == "__main__":
    main()
