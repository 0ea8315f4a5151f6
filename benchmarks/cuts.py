"""Partitions that need no search: the topological order cut into equal parts."""

from __future__ import annotations

import heapq

import numpy as np

from onnx_pipeline.graph.costgraph import CostGraph
from onnx_pipeline.graph.target import Target
from onnx_pipeline.partition.instance.build import build
from onnx_pipeline.partition.result import Bound, Certificate, Partition, PartitionResult, SearchRecord


def even_cut(graph: CostGraph, stages: int, target: Target | None = None) -> PartitionResult:
    """Cut the topological order into parts of equal length; colocation groups count as one node.

    There are fewer stages only where there are fewer groups.
    """
    target = target or Target(bandwidth=1e9)
    inst = build(graph, target)
    readers: list[set[int]] = [set() for _ in range(inst.n)]
    for u, v in zip(*(ends.tolist() for ends in inst.edges()), strict=True):
        readers[u].add(v)
    waiting = np.bincount([v for each in readers for v in each], minlength=inst.n)
    ready = [v for v in range(inst.n) if not waiting[v]]
    stage_of = np.zeros(inst.n, dtype=np.int64)
    rank = 0
    while ready:
        u = heapq.heappop(ready)
        stage_of[u] = rank * min(stages, inst.n) // inst.n
        rank += 1
        for v in readers[u]:
            waiting[v] -= 1
            if not waiting[v]:
                heapq.heappush(ready, v)
    whole = inst.expand(stage_of)
    work = int(graph.work.sum()) // stages
    bound = Bound("simple", work, ticks_per_second=graph.ticks_per_second)
    return PartitionResult(
        Partition(graph, target, stages, whole), Certificate((bound,)), SearchRecord(("even",))
    )
