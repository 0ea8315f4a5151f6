"""Merging nodes of an instance."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from onnx_pipeline.graph.costgraph import CostGraph
from onnx_pipeline.graph.objective import bottleneck
from onnx_pipeline.graph.target import Target
from onnx_pipeline.partition.instance.build import build
from onnx_pipeline.partition.instance.instance import Instance
from onnx_pipeline.partition.instance.quotient import quotient
from onnx_pipeline.partition.search import slicing
from onnx_pipeline.partition.search.orders import in_degrees, kahn
from tests.random_graphs import random_graph, random_target

Case = tuple[CostGraph, Target, int, Instance]


@given(st.integers(0, 2**32 - 1))
@settings(max_examples=60, deadline=None)
def test_quotient_keeps_the_objective(seed: int) -> None:
    """Merging nodes that share a stage anyway changes no segment cost."""
    rng = np.random.default_rng(seed)
    graph, target = random_graph(rng, colocation=False), random_target(rng)
    inst = build(graph, target)
    order = kahn(inst, in_degrees(inst), rng.random(inst.n))
    # Merge random runs of consecutive positions: convex, so a partition of runs is one of the graph.
    runs = np.cumsum(rng.random(inst.n) < 0.6)
    label = np.empty(inst.n, dtype=np.int64)
    label[order] = runs
    small = quotient(inst, label)
    ends = np.zeros(3, dtype=np.int64)
    coarse = np.arange(small.n)  # labels rise along the order
    found, value = slicing.evaluate(small, coarse, 3, 0, 1, 1 << 60, ends)
    stage = small.expand(slicing.stages_of(coarse, ends, found))
    assert value == bottleneck(graph, target, stage, 3)
