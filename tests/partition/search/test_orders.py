"""Topological orders."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from onnx_pipeline.graph.costgraph import CostGraph
from onnx_pipeline.graph.target import Target
from onnx_pipeline.partition.instance.build import build
from onnx_pipeline.partition.instance.instance import Instance
from onnx_pipeline.partition.search.orders import in_degrees, kahn, keys_of, starting_orders
from tests.random_graphs import random_graph, random_target

Case = tuple[CostGraph, Target, int, Instance]


@given(st.integers(0, 2**32 - 1))
@settings(max_examples=60, deadline=None)
def test_orders_are_topological_and_decode_their_keys(seed: int) -> None:
    """Every starting order is topological, and Kahn on its keys gives it back."""
    rng = np.random.default_rng(seed)
    inst = build(random_graph(rng), random_target(rng))
    heads, tails = inst.edges()
    for _, order in starting_orders(inst, rng):
        position = np.empty(inst.n, dtype=np.int64)
        position[order] = np.arange(inst.n)
        assert sorted(order.tolist()) == list(range(inst.n))
        assert (position[heads] < position[tails]).all()
        assert (kahn(inst, in_degrees(inst), keys_of(order)) == order).all()
