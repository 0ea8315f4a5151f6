"""Contraction, cheap bounds and sliced orders against brute force over all partitions."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from onnx_pipeline.graph.costgraph import CostGraph
from onnx_pipeline.graph.objective import bottleneck, check_partition
from onnx_pipeline.graph.target import Target
from onnx_pipeline.partition.bounds.mincut import mincut
from onnx_pipeline.partition.bounds.models.bottleneck import bottleneck as bottleneck_mip
from onnx_pipeline.partition.bounds.models.linear import SolveParams
from onnx_pipeline.partition.bounds.simple import simple
from onnx_pipeline.partition.instance.build import build
from onnx_pipeline.partition.instance.contract import contract
from onnx_pipeline.partition.instance.instance import Instance
from onnx_pipeline.partition.search import slicing
from onnx_pipeline.partition.search.orders import starting_orders
from tests.random_graphs import brute_force, solvable

Case = tuple[CostGraph, Target, int, Instance]


@pytest.mark.parametrize("chunk", range(4))
def test_brute_force(chunk: int) -> None:
    """Over 2,000 random nets: contraction keeps the optimum, and bound <= optimum <= result."""
    for i, (graph, target, k) in enumerate(solvable(500, 100 + chunk)):
        optimum = brute_force(graph, target, k)
        full = build(graph, target)
        small = contract(full)
        assert _optimum(small, graph, target, k) == optimum
        assert simple(full, k) <= optimum
        assert mincut(full) <= optimum
        assert mincut(small) <= optimum
        if i % 5 == 0 and small.n:
            assert bottleneck_mip(small, k, optimum, SolveParams(5.0)) <= optimum
        ends = np.zeros(k, dtype=np.int64)
        for _, order in starting_orders(small, np.random.default_rng(i), 1):
            found, value = slicing.evaluate(small, order, k, 0, max(1, optimum), 1 << 60, ends)
            stage = small.expand(slicing.stages_of(order, ends, found))
            assert not check_partition(graph, stage, k)
            assert value == bottleneck(graph, target, stage, k) >= optimum


def _optimum(inst: Instance, graph: CostGraph, target: Target, k: int) -> int:
    """Brute force over partitions that respect an instance's merged nodes."""
    merged = dataclasses.replace(graph, colocation=inst.node_of)
    return brute_force(merged, target, k)
