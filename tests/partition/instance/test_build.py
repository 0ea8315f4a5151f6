"""Pricing a graph."""

from __future__ import annotations

from onnx_pipeline.graph.builder import GraphBuilder
from onnx_pipeline.graph.costgraph import CostGraph
from onnx_pipeline.graph.target import Target
from onnx_pipeline.graph.ticks import NS
from onnx_pipeline.partition.instance.build import build
from onnx_pipeline.partition.instance.instance import Instance

Case = tuple[CostGraph, Target, int, Instance]


def test_colocation_takes_in_what_lies_between() -> None:
    """A group that is not convex pulls the path between its members along."""
    b = GraphBuilder("g", ticks_per_second=NS)
    nodes = [b.add_node(f"n{i}", 10, colocation=1 if i in (0, 2) else -1) for i in range(4)]
    for i in range(3):
        b.add_net(f"t{i}", nodes[i], [nodes[i + 1]], nbytes=1)
    inst = build(b.build(), Target())
    assert inst.n == 2
    assert inst.node_of[0] == inst.node_of[1] == inst.node_of[2] != inst.node_of[3]
