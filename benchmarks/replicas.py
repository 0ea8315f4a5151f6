"""Stages with replicas: against brute force, and against equal replicas of k stages on real graphs.

    python -m benchmarks.replicas --count 20000 [--seed 0]
    python -m benchmarks.replicas [--devices 8,16,64] [--time-limit 5] [--measured] [COSTS MODEL ...]
    python -m benchmarks.replicas --table [--time-limit 0.03] [--measured] [COSTS MODEL ...]

With ``--count``: random small nets with every feature, host tensors, pins, colocation, memory of both kinds,
activations on every second one. No bound may exceed the optimum over all stages and devices, no plan may be
better, "optimal" and "infeasible" have to be true, and no plan may be worse than floor(N / k) replicas of k
stages. Half of them are planned as if they had too many ideals to list. Stops at the first contradiction.

Without: the MSR workloads and the models of the zoo at estimated (or measured) costs, 16 GB/s, with memory of
P / 2, P / 4 and P / 8 per device for P bytes of parameters, hard, activations not counted. Cases that do not
fit are left out. Printed are the gain over the best of floor(N / k) replicas of k stages and what is proved;
with ``--table``, what is proved for N = 1..64 in one search, in seconds of processor time and on the clock:
0.03 s each are two seconds for all of them.
"""

from __future__ import annotations

import argparse
import math
import os
import statistics
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from fractions import Fraction
from itertools import product
from pathlib import Path
from typing import NamedTuple
from unittest import mock

import numpy as np

import onnx_pipeline as op
from onnx_pipeline.errors import InfeasibleError
from onnx_pipeline.graph.costgraph import CostGraph
from onnx_pipeline.graph.replicas import price_replicas
from onnx_pipeline.graph.target import Target
from onnx_pipeline.graph.ticks import NS
from onnx_pipeline.partition.replicas import lattice
from tests.random_graphs import brute_force, random_graph, random_target
from tests.replica_oracle import brute_force_period

DATA = Path(os.environ.get("ONNX_PIPELINE_DATA", "../shared/data"))
SHARES = (2, 4, 8)


def examine(graph: CostGraph, target: Target, devices: int) -> str:
    """Check one net; return the verdict."""
    optimum = brute_force_period(graph, target, devices)
    try:
        plan = op.replicate(graph, devices, target, time_limit=0.05)
    except InfeasibleError as error:
        if optimum is not None and "whatever" in str(error):
            raise AssertionError(f"feasible, yet: {error}") from None
        return "infeasible, said so" if optimum is None else "feasible, not found"
    assert optimum is not None, "infeasible, yet there is a plan"
    assert plan.lower_ticks <= optimum <= plan.period_ticks, (plan.lower_ticks, optimum, plan.period_ticks)
    assert price_replicas(graph, target, plan.stage_of, plan.replicas).period == plan.period_ticks
    assert sum(plan.replicas) <= devices
    for k in range(1, devices + 1):
        if (graph.pinned < k).all():
            equal = brute_force(graph, target, k)
            worst = None if equal is None else Fraction(equal, devices // k)
            assert worst is None or plan.status != "optimal" or plan.period_ticks <= worst
    return "optimal, proved" if plan.status == "optimal" else "feasible"


def campaign(count: int, seed: int) -> None:
    """Check many nets and count the verdicts."""
    rng = np.random.default_rng(seed)
    verdicts: Counter[str] = Counter()
    start = time.perf_counter()
    for number in range(count):
        devices = int(rng.integers(1, 7))
        fine = None if number % 4 >= 2 else NS  # ticks in which transfers are rounded, or nanoseconds
        pins = devices if rng.random() < 0.3 else 0
        graph = random_graph(rng, 6, pins=pins, ticks_per_second=fine)
        target = random_target(rng, activations=number % 2 == 1)
        with mock.patch.object(lattice, "IDEALS", 1 if number % 8 >= 4 else lattice.IDEALS):
            verdicts[examine(graph, target, devices)] += 1
    print(f"{count} nets, no contradiction, {time.perf_counter() - start:.0f} s")
    for verdict, number in verdicts.most_common():
        print(f"  {number:6d} {verdict}")


class Case(NamedTuple):
    """One graph, N and memory."""

    name: str
    devices: int
    share: int
    plan: op.ReplicaPlan
    seconds: float

    @property
    def gain(self) -> float:
        """Period of the best equal replicas over the plan's; infinite where there are none."""
        return math.inf if self.plan.equal is None else self.plan.equal.period / self.plan.period


def graphs(files: list[Path], cost_model: str) -> Iterator[CostGraph]:
    """Yield the given graphs, or those of the data folder, models at estimated or measured costs."""
    chosen = files or [*sorted((DATA / "msr").glob("*.json")), *sorted((DATA / "zoo").glob("*.onnx"))]
    for path in chosen:
        if path.suffix == ".onnx":
            dims = {"s12": 2} if path.stem == "llama_small_past_dyn" else None
            yield replace(op.profile(path, cost_model=cost_model, dims=dims), name=path.stem)
        elif path.name != "optima.json":
            yield op.read_graph(path)


def target_of(graph: CostGraph, share: int) -> Target:
    """Devices that hold a share of the parameters each."""
    total = int(graph.group_bytes.sum())
    return Target(bandwidth=16e9, memory=total / share, memory_mode="hard", activations=False)


def measure(graph: CostGraph, numbers: list[int], limit: float) -> Iterator[Case]:
    """Yield the cases of a graph that fit, and print those that do not."""
    for share in SHARES:
        for devices in numbers:
            begin = time.perf_counter()
            try:
                plan = op.replicate(graph, devices, target_of(graph, share), time_limit=limit)
            except InfeasibleError as error:
                print(f"| {graph.name} | {devices} | P / {share} | {error} |", flush=True)
                continue
            case = Case(graph.name, devices, share, plan, time.perf_counter() - begin)
            counts = "+".join(map(str, plan.replicas))
            equal = f"{plan.equal.replicas} x {plan.equal.stages}" if plan.equal else "none"
            print(
                f"| {graph.name} | {devices} | P / {share} | {counts} | {equal} | {case.gain:.3f} | "
                f"{plan.status} {plan.gap:.2%} | {plan.method} | {case.seconds:.2f} |",
                flush=True,
            )
            yield case


def summary(cases: list[Case], models: list[str], numbers: list[int]) -> None:
    """Print gains and proofs by memory and devices, over those of the models that fit."""
    print(f"\n{len(models)} models: {', '.join(models)}\n")
    print("| memory | devices | fit | no equal | gain, geometric mean | largest | proved | seconds, median |")
    print("|---|---|---|---|---|---|---|---|")
    for share, devices in product(SHARES, numbers):
        chosen = [case for case in cases if (case.share, case.devices) == (share, devices)]
        gains = [case.gain for case in chosen if math.isfinite(case.gain)]
        if gains:
            proved = sum(case.plan.status == "optimal" for case in chosen)
            print(
                f"| P / {share} | {devices} | {len(chosen)} | {len(chosen) - len(gains)} | "
                f"{statistics.geometric_mean(gains):.3f} | {max(gains):.2f} | {proved} | "
                f"{statistics.median(case.seconds for case in chosen):.2f} |"
            )
    proved = sum(case.plan.status == "optimal" for case in cases)
    print(f"\n{proved} of {len(cases)} proved, least gain {min(case.gain for case in cases):.4f}")


def tables(graph: CostGraph, limit: float) -> None:
    """Print what is known of N = 1..64 after how long: plans, proofs (of "none", too), the largest gap."""
    for share in SHARES:
        begin, busy = time.perf_counter(), time.process_time()
        table = op.replicate(graph, range(1, 65), target_of(graph, share), time_limit=limit)
        busy, seconds = time.process_time() - busy, time.perf_counter() - begin
        proved = sum(plan.status == "optimal" for plan in table) + len(table.infeasible)
        gap = max((plan.gap for plan in table), default=0.0)
        print(
            f"| {graph.name} | {graph.num_nodes} | P / {share} | {len(table)} | {proved} of 64 | {gap:.2%} | "
            f"{busy:.2f} | {seconds:.2f} |",
            flush=True,
        )


def main() -> None:
    """Run what the options ask for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("files", nargs="*", type=Path)
    parser.add_argument("--count", type=int)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--devices", default="8,16,64")
    parser.add_argument("--time-limit", type=float, default=5.0)
    parser.add_argument("--table", action="store_true")
    parser.add_argument("--measured", action="store_true")
    options = parser.parse_args()
    if options.count:
        campaign(options.count, options.seed)
        return
    numbers = [int(each) for each in options.devices.split(",")]
    cases: list[Case] = []
    models: list[str] = []
    for graph in graphs(options.files, "profile" if options.measured else "analytic"):
        if options.table:
            tables(graph, options.time_limit)
        elif graph.group_bytes.sum():
            models.append(graph.name)
            cases += measure(graph, numbers, options.time_limit)
    if cases:
        summary(cases, models, numbers)


if __name__ == "__main__":
    main()
