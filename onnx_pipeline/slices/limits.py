"""Which node limits a plan: no partition can be better than the stage that has to hold it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from onnx_pipeline.figures import format_percent
from onnx_pipeline.graph.costgraph import CostGraph
from onnx_pipeline.graph.target import Target
from onnx_pipeline.partition.bounds.mincut import network
from onnx_pipeline.partition.instance.build import build
from onnx_pipeline.partition.result import PartitionResult

#: A node limits a plan whose bottleneck is above the node's own bound by less than this share.
NEAR = 0.03


@dataclass(frozen=True)
class Limit:
    """A node that no partition can hold at much less than the bottleneck.

    Attributes
    ----------
    node : str
    work : int
        Ticks that the node takes.
    own : int
        Ticks of the cheapest stage that holds it: alpha, its work, and what has to be paid for its tensors.
    bottleneck : int
        Ticks of the plan.
    """

    node: str
    work: int
    own: int
    bottleneck: int

    @property
    def share(self) -> float:
        """Work of the node by the bottleneck."""
        return self.work / self.bottleneck if self.bottleneck else 0.0

    def told(self, op_type: str) -> str:
        """Return the beginning of a sentence: ``limited by node 'head' (MatMul, 41 % of the bottleneck)``."""
        return f"limited by node {self.node!r} ({op_type}, {format_percent(self.share)} of the bottleneck)"


def limits(result: PartitionResult, near: float = NEAR) -> list[Limit]:
    """Return the nodes because of which more stages bring nothing, the largest bound first.

    Parameters
    ----------
    result : PartitionResult
    near : float
        How far below the bottleneck, as a share of it, a node's own bound may be.
    """
    graph = result.graph
    found = [
        Limit(graph.node_names[v], int(graph.work[v]), own, result.upper)
        for v, own in own_bounds(graph, result.target, int(result.upper * (1 - near))).items()
    ]
    return sorted(found, key=lambda each: (-each.own, each.node))


def own_bounds(graph: CostGraph, target: Target, floor: int = 0) -> dict[int, int]:
    """Return by node the ticks of the cheapest stage that can hold it, where they exceed ``floor``.

    That is alpha and a minimum cut, see :mod:`onnx_pipeline.partition.bounds.mincut`: other nodes may share
    the stage to spare it transfers. Of nodes that must share a stage only the heaviest is named.
    """
    from ortools.graph.python import max_flow

    inst = build(graph, target)
    sink, tails, heads, capacity = network(inst)
    flow = max_flow.SimpleMaxFlow()
    flow.add_arcs_with_capacity(tails, heads, capacity)
    alone = inst.work.copy()
    for ptr, nets in ((inst.in_ptr, inst.in_net), (inst.out_ptr, inst.out_net)):
        np.add.at(alone, np.repeat(np.arange(inst.n), np.diff(ptr)), inst.net_cost[nets])
    heaviest: dict[int, int] = {}
    for v, home in enumerate(inst.node_of.tolist()):
        if home not in heaviest or graph.work[v] > graph.work[heaviest[home]]:
            heaviest[home] = v
    bounds: dict[int, int] = {}
    for home, v in sorted(heaviest.items()):
        # Anything heavy limits itself; what is light beside heavy transfers is not worth a cut.
        if inst.alpha + int(alone[home]) <= floor or flow.solve(home, sink) != flow.OPTIMAL:
            continue
        own = inst.alpha + flow.optimal_flow()
        if own > floor:
            bounds[v] = own
    return bounds
