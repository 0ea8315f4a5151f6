"""The best cut of an order."""

from __future__ import annotations

import numpy as np

from onnx_pipeline.graph.costgraph import CostGraph
from onnx_pipeline.graph.objective import bottleneck, price_stages
from onnx_pipeline.graph.target import INFEASIBLE, Target
from onnx_pipeline.partition.instance.build import build
from onnx_pipeline.partition.instance.instance import Instance
from onnx_pipeline.partition.search import slicing, tapes
from onnx_pipeline.partition.search.orders import in_degrees, kahn
from tests.random_graphs import solvable

Case = tuple[CostGraph, Target, int, Instance]


def best_cut(inst: Instance, graph: CostGraph, target: Target, order: np.ndarray, k: int) -> int | None:
    """Best bottleneck of one order by trying all cut positions with the one objective."""
    n = inst.n
    best = {0: 0}
    for b in range(k):
        step = dict(best)
        for i, value in best.items():
            for j in range(i + 1, n + 1):
                if any(inst.pin[v] not in (-1, b) for v in order[i:j]):
                    continue
                inside = np.zeros(n, dtype=np.int64)
                inside[order[i:j]] = 1
                stage = inst.expand(inside)
                cost = price_stages(graph, target, stage, 2)[1].total
                step[j] = min(step.get(j, max(value, cost)), max(value, cost))
        best = step
    return best[n] if best[n] < INFEASIBLE else None


def test_slicing_is_optimal_for_its_order() -> None:
    """Threshold slicing finds the best cut of each order, exactly and in objective terms."""
    rng = np.random.default_rng(1)
    for graph, target, k in solvable(250, 11):
        inst = build(graph, target)
        order = kahn(inst, in_degrees(inst), rng.random(inst.n))
        expected = best_cut(inst, graph, target, order, k)
        if expected is None:
            continue
        ends = np.zeros(k, dtype=np.int64)
        found, value = slicing.evaluate(inst, order, k, 0, max(1, expected // 3), 1 << 60, ends)
        stage = inst.expand(slicing.stages_of(order, ends, found))
        assert value == expected == bottleneck(graph, target, stage, k)
        tape = tapes.make_tape(inst, order)
        # At the value there is a cut, one nanosecond below there is none.
        assert slicing.feasible(tape, k, expected, ends)[0] > 0
        assert expected == 0 or slicing.feasible(tape, k, expected - 1, ends)[0] == 0
        assert slicing.slice_order(tape, k, 0, expected - 1, ends)[0] == 0
