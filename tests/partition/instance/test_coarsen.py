"""Runs of an order as nodes."""

from __future__ import annotations

import numpy as np

from benchmarks.generators import layered
from onnx_pipeline.graph.costgraph import CostGraph
from onnx_pipeline.graph.objective import bottleneck, check_partition
from onnx_pipeline.graph.target import Target
from onnx_pipeline.partition.instance.build import build
from onnx_pipeline.partition.instance.coarsen import coarsen
from onnx_pipeline.partition.instance.instance import Instance
from onnx_pipeline.partition.search import slicing
from onnx_pipeline.partition.search.orders import in_degrees, kahn

Case = tuple[CostGraph, Target, int, Instance]


def test_coarse_slicing_is_valid() -> None:
    """A large graph sliced at the borders of runs gives a partition of the graph itself."""
    graph = layered(600, 6)
    target = Target(bandwidth=1e9)
    inst = build(graph, target)
    order = kahn(inst, in_degrees(inst), np.arange(inst.n, dtype=np.float64))
    coarse = coarsen(inst, order, runs=80)
    assert 40 <= coarse.n <= 90
    ends = np.zeros(8, dtype=np.int64)
    line = np.arange(coarse.n)
    used, value = slicing.evaluate(coarse, line, 8, 1, 1, 1 << 60, ends)
    stage = coarse.expand(slicing.stages_of(line, ends, used))
    assert not check_partition(graph, stage, 8)
    assert bottleneck(graph, target, stage, 8) == value
