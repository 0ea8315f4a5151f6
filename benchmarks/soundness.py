"""Random small nets with every feature against brute force, in bulk.

    python -m benchmarks.soundness [--count 20000] [--seed 0]        (make soundness)

Checks on each net: contraction keeps the optimum; no bound exceeds it; the exact search finds it from either
end and proves that nothing is below; the portfolio's result is valid, no better than the optimum, and optimal
when it says so. On every second net activations count: there the exact search and contraction work on a lower
bound of peak(S), so only bounds and results are checked. Stops at the first contradiction.
"""

from __future__ import annotations

import argparse
import dataclasses
import time
from collections import Counter

import numpy as np

from onnx_pipeline.errors import InfeasibleError
from onnx_pipeline.graph.costgraph import CostGraph
from onnx_pipeline.graph.target import Target
from onnx_pipeline.graph.ticks import NS
from onnx_pipeline.partition.bounds.crossings import Crossings
from onnx_pipeline.partition.bounds.mincut import mincut
from onnx_pipeline.partition.bounds.models.bottleneck import bottleneck
from onnx_pipeline.partition.bounds.models.linear import SolveParams
from onnx_pipeline.partition.bounds.simple import simple
from onnx_pipeline.partition.bounds.windows import reach_by_cuts, reach_by_sets
from onnx_pipeline.partition.certificate import check
from onnx_pipeline.partition.ideals.question import IdealSearch
from onnx_pipeline.partition.instance.build import build
from onnx_pipeline.partition.instance.contract import contract
from onnx_pipeline.partition.portfolio import partition
from onnx_pipeline.stop import never
from tests.random_graphs import brute_force, random_graph, random_target


def examine(graph: CostGraph, target: Target, k: int, number: int) -> str:
    optimum = brute_force(graph, target, k)
    if optimum is None:
        try:
            result = partition(graph, k, target, time_limit=0.05, threads=1)
        except InfeasibleError:
            return "infeasible, said so"
        raise AssertionError(f"infeasible, yet the partitioner returns {result.upper}")
    full = build(graph, target)
    small = contract(full)
    if not target.activations:
        merged = dataclasses.replace(graph, colocation=small.node_of)
        assert brute_force(merged, target, k) == optimum, "contraction loses the optimum"
    for name, bound in (("simple", simple(full, k)), ("min-cut", mincut(small))):
        assert bound <= optimum, f"{name} bound {bound} above the optimum {optimum}"
    reach = reach_by_cuts(small, reach_by_sets(small))
    assert not Crossings(small, k, reach).refutes(optimum), "the crossings refute the optimum"
    if number % 20 == 0 and small.n:
        assert bottleneck(small, k, optimum, SolveParams(5.0)) <= optimum, "bottleneck MIP above the optimum"
    for reverse in (False, True):
        search = IdealSearch(small, k, reverse=reverse)
        assert not search.ask(optimum, 10**6, never).proved_none, "the exact search misses the optimum"
        none = search.ask(optimum - 1, 10**6, never).proved_none
        assert none or target.activations, "the exact search goes below the optimum"
    try:
        result = partition(graph, k, target, time_limit=0.05, threads=1)
    except InfeasibleError as error:
        if not target.activations or "no partition was found" not in str(error):
            raise AssertionError(f"feasible, yet: {error}") from None
        return "feasible, not found"
    assert check(result.partition, result.certificate) == []
    assert result.lower <= optimum <= result.upper
    return "optimal, proved" if result.status == "optimal" else "feasible"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--count", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    rng = np.random.default_rng(options.seed)
    verdicts: Counter[str] = Counter()
    start = time.perf_counter()
    for number in range(options.count):
        k = int(rng.integers(1, 5))
        fine = None if number % 4 >= 2 else NS  # ticks in which transfers are rounded, or nanoseconds
        graph = random_graph(rng, pins=k if rng.random() < 0.3 else 0, ticks_per_second=fine)
        target = random_target(rng, activations=number % 2 == 1)
        verdicts[examine(graph, target, k, number)] += 1
    print(f"{options.count} nets, no contradiction, {time.perf_counter() - start:.0f} s")
    for verdict, count in verdicts.most_common():
        print(f"  {count:6d} {verdict}")


if __name__ == "__main__":
    main()
