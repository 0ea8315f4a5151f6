"""The annealed walk."""

from __future__ import annotations

import numpy as np

import onnx_pipeline as op
from onnx_pipeline.graph.costgraph import CostGraph
from onnx_pipeline.graph.objective import check_partition
from onnx_pipeline.graph.target import Target
from onnx_pipeline.partition.instance.build import build
from onnx_pipeline.partition.instance.hypergraph import hypergraph, place_free_sources
from onnx_pipeline.partition.instance.instance import Instance
from onnx_pipeline.partition.search import slicing, walk
from onnx_pipeline.partition.search.orders import in_degrees, kahn
from tests.random_graphs import brute_force, solvable

Case = tuple[CostGraph, Target, int, Instance]


def test_annealing_keeps_its_books() -> None:
    """After thousands of moves every cost is what the objective says, and limits are kept."""
    improved = 0
    for i, (graph, target, k) in enumerate(solvable(150, 77, 8)):
        inst = build(graph, target)
        h, index = hypergraph(inst)
        ends = np.zeros(k, dtype=np.int64)
        order = kahn(inst, in_degrees(inst), np.arange(inst.n, dtype=np.float64))
        used, _ = slicing.evaluate(inst, order, k, 0, 1, 1 << 61, ends)
        start = slicing.stages_of(order, ends, used)[index >= 0]
        state = walk.new_walk(h, k, start, i)
        optimum = brute_force(graph, target, k)
        first = int(state.cost.max())
        found = walk.anneal(h, state, optimum * 9 // 10, optimum, 100.0, 1.0, 3000, False)
        stage = inst.expand(place_free_sources(inst, index, state.stage))
        assert not check_partition(graph, stage, k)
        costs = [cost.total for cost in op.stage_costs(graph, target, stage, k)]
        assert costs == state.cost.tolist()
        assert found == (max(costs) <= optimum)
        improved += found and optimum < first
    assert improved > 10
