"""What the tests of reports report on."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

import numpy as np

from onnx_pipeline.graph.builder import GraphBuilder
from onnx_pipeline.graph.costgraph import HOST, CostGraph
from onnx_pipeline.graph.target import Target
from onnx_pipeline.graph.ticks import NS
from onnx_pipeline.partition.result import (
    Bound,
    Certificate,
    HistoryPoint,
    Partition,
    PartitionResult,
    SearchRecord,
)

#: Names as a hostile model gives them: markup, a template, a terminal's escape, another direction of writing.
HOSTILE = (
    "</script><img src=x onerror=alert(1)>",
    "\"><svg onload=alert(2)>'",
    "{{ 7 * 7 }}{% raw %}",
    "\x1b[31mred\x07",
    "\u202egnp.exe",
    "]]><!--",
)


def chain(names: Sequence[str], *, skip: bool = True, milliseconds: float = 1.0) -> CostGraph:
    """A chain of nodes, each with a tensor of 1000 bytes to the next and 500 bytes of parameters.

    With ``skip`` the first node also feeds the last.
    """
    builder = GraphBuilder("chain <b>", meta={"cost_model": "analytic"}, ticks_per_second=NS)
    nodes = [builder.add_node(name, milliseconds * 1e6) for name in names]
    builder.add_net(f"in {names[0]}", HOST, [nodes[0]], nbytes=1000)
    for u, v in pairwise(nodes):
        builder.add_net(f"t {names[u]}", u, [v], nbytes=1000)
    if skip:
        builder.add_net("skipping", nodes[0], [nodes[-1]], nbytes=3000)
    builder.add_net("result", nodes[-1], [], nbytes=100, to_host=True)
    for v in nodes:
        builder.add_group(f"w {names[v]}", 500, [v])
    return builder.build()


def cut(graph: CostGraph, stages: int, *, memory: float = math.inf) -> PartitionResult:
    """Cut a chain into stages of equal numbers of nodes, with a bound 20 % below and a short history."""
    stage_of = np.arange(graph.num_nodes, dtype=np.int64) * stages // graph.num_nodes
    partition = Partition(graph, Target(bandwidth=1e6, memory=memory, name="<i>test"), stages, stage_of)
    bound = Bound("simple", int(partition.ticks * 0.8), ticks_per_second=graph.ticks_per_second)
    history = (
        HistoryPoint(0.1, "first", 2 * partition.bottleneck, 0.0),
        HistoryPoint(0.2, '"><img src=x>', partition.bottleneck, bound.seconds),
    )
    record = SearchRecord(("first", "walk"), 7, 0.5, 0, False, history)
    return PartitionResult(partition, Certificate((bound,)), record)
