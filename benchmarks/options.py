"""Random small nets with every option at random against brute force: answers, certificates and time.

    python -m benchmarks.options [--count 20000] [--seed 0]

Pins, groups, exactly k stages, both memory modes, activations, three time limits, one and two threads,
selected bounds, costs up to 2^62 ns. Checked on each net: the partition is valid, fills all stages where it
must, and its certificate holds; the bottleneck is no better than the optimum and the bound no higher, so that
"optimal" is the optimum; no partition is missed where one exists, except where the message leaves that open;
nothing is returned where none exists; no run takes 0.5 s more than its limit, or raises anything but
its own errors.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import time
from collections import Counter
from typing import Any

import numpy as np

from onnx_pipeline.errors import InfeasibleError, InputError
from onnx_pipeline.graph.builder import GraphBuilder
from onnx_pipeline.graph.costgraph import CostGraph
from onnx_pipeline.graph.objective import check_partition, countable
from onnx_pipeline.graph.target import Target
from onnx_pipeline.graph.ticks import NS
from onnx_pipeline.partition.certificate import check, recheck
from onnx_pipeline.partition.portfolio import partition
from onnx_pipeline.partition.result import PartitionResult
from onnx_pipeline.settings import BOUNDS
from tests.random_graphs import brute_force, random_graph, random_target

#: Seconds that a run may take beyond its limit, and how often it is tried: other programs delay it, too.
SLACK, TRIES = 0.5, 3
LIMITS = (0.01, 0.05, 0.3)


def magnified(graph: CostGraph, rng: np.random.Generator) -> CostGraph:
    """Return a graph with work between 2^40 and 2^62 nanoseconds and tensors to match."""
    builder = GraphBuilder(graph.name)
    nanoseconds = graph.work * (NS / graph.ticks_per_second)
    factor = 2.0 ** rng.uniform(40, 62) / max(1.0, float(nanoseconds.max(initial=0.0)))
    for v, name in enumerate(graph.node_names):
        builder.add_node(
            name,
            float(nanoseconds[v]) * factor,
            colocation=int(graph.colocation[v]),
            pinned=int(graph.pinned[v]),
        )
    for t, name in enumerate(graph.net_names):
        builder.add_net(
            name,
            int(graph.net_producer[t]),
            graph.consumers(t).tolist(),
            nbytes=int(graph.net_bytes[t]),
            to_host=bool(graph.net_to_host[t]),
            time=float(graph.net_bytes[t]) * factor,
        )
    for g, name in enumerate(graph.group_names):
        builder.add_group(name, int(graph.group_bytes[g]), graph.group_members(g).tolist())
    return builder.build()


def draw(rng: np.random.Generator) -> tuple[CostGraph, Target, int, dict[str, Any]]:
    """Return a graph, a target, a number of stages and the options of one run."""
    k = int(rng.integers(1, 5))
    fine = None if rng.random() < 0.5 else NS
    graph = random_graph(rng, 7, pins=k if rng.random() < 0.3 else 0, ticks_per_second=fine)
    if rng.random() < 0.3:
        with contextlib.suppress(InputError):  # refused in one line: tensors far longer than all work
            graph = magnified(graph, rng)
    target = random_target(rng, activations=bool(rng.random() < 0.5))
    if rng.random() < 0.2:
        target = dataclasses.replace(target, memory_mode="hard")
    chosen = [name for name in BOUNDS if name != "mip" and rng.random() < 0.4]
    options = {
        "time_limit": float(rng.choice(LIMITS)),
        "threads": int(rng.integers(1, 3)),
        "exactly": bool(rng.random() < 0.4),
        "bounds": chosen if rng.random() < 0.4 else None,
        "gap": float(rng.choice([0.0, 0.0, 0.2])),
        "seed": int(rng.integers(0, 100)),
    }
    return graph, target, k, options


Answer = PartitionResult | InfeasibleError


def in_time(graph: CostGraph, target: Target, k: int, options: dict[str, Any]) -> Answer:
    """Run the search until it once keeps its limit; return the result, or why there is none."""
    late = 0.0
    for _ in range(TRIES):
        start = time.perf_counter()
        try:
            answer: Answer = partition(graph, k, target, **options)
        except InfeasibleError as error:
            answer = error
        late = time.perf_counter() - start - options["time_limit"]
        if late < SLACK:
            return answer
    raise AssertionError(f"{late:.2f} s late")


def examine(graph: CostGraph, target: Target, k: int, options: dict[str, Any]) -> str:
    """Run one net; return a verdict or raise an AssertionError."""
    exactly = options["exactly"]
    optimum = brute_force(countable(graph, target, k), target, k, exactly=exactly)
    result = in_time(graph, target, k, options)
    if isinstance(result, InfeasibleError):
        message = str(result)
        assert "inf bytes" not in message
        if optimum is None:
            return "infeasible, said so"
        assert "was found that fits" in message, f"feasible at {optimum}, yet: {message}"
        assert target.memory_mode == "hard", message
        return "feasible, not found"
    assert optimum is not None, f"infeasible, yet {result.upper}"
    assert check_partition(graph, result.stage_of, k) == []
    assert check(result.partition, result.certificate) == []
    assert not exactly or result.used == k, "an empty stage"
    assert result.lower <= optimum <= result.upper, (result.lower, optimum, result.upper)
    assert all(point.bottleneck < 1e18 and point.lower_bound < 1e18 for point in result.history)
    if result.status == "optimal" and options["seed"] % 5 == 0 and not target.activations:
        assert recheck(result.partition, result.certificate, 2.0) == []
    return "optimal, proved" if result.status == "optimal" else "feasible"


def warm_up() -> None:
    """Load the kernels and solvers, which a program does once."""
    graph = random_graph(np.random.default_rng(1), 7)
    for exactly in (False, True):
        partition(graph, 2, Target(bandwidth=1e8), time_limit=3.0, threads=1, exactly=exactly)


def main() -> None:
    """Examine nets until one contradicts."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--count", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    verdicts: Counter[str] = Counter()
    warm_up()
    start = time.perf_counter()
    for number in range(options.count):
        case = draw(np.random.default_rng((options.seed, number)))
        try:
            verdicts[("exactly: " if case[3]["exactly"] else "") + examine(*case)] += 1
        except BaseException:
            print(f"net {number} of seed {options.seed}: {case[2]} stages, {case[1]}, {case[3]}")
            raise
    print(f"{options.count} nets, no contradiction, {time.perf_counter() - start:.0f} s")
    for verdict, count in verdicts.most_common():
        print(f"  {count:6d} {verdict}")


if __name__ == "__main__":
    main()
