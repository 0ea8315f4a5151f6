"""Partitions that need no search: the topological order cut into equal parts."""

from __future__ import annotations

import numpy as np

from onnx_pipeline.graph import CostGraph, Target, bottleneck, topological_order
from onnx_pipeline.partition.result import Bound, PartitionResult


def even_cut(graph: CostGraph, stages: int, target: Target | None = None) -> PartitionResult:
    """Cut the topological order into equal parts, then mend colocation by merging stages."""
    target = target or Target(bandwidth=1e9)
    order = topological_order(graph)
    stage_of = np.zeros(graph.num_nodes, dtype=np.int64)
    for rank, v in enumerate(order):
        stage_of[v] = rank * stages // len(order)
    for colour in set(graph.colocation.tolist()) - {-1}:
        inside = stage_of[graph.colocation == colour]
        stage_of[(stage_of >= inside.min()) & (stage_of <= inside.max())] = inside.min()
    stage_of = np.unique(stage_of, return_inverse=True)[1].astype(np.int64)
    cost = bottleneck(graph, target, stage_of, stages)
    work = int(graph.work.sum()) // stages
    return PartitionResult(
        graph, target, stages, stage_of, cost, (Bound("simple", work),), (), ("even",), 1, 0.0, 0
    )
