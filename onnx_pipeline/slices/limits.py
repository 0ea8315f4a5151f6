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
    """A node that no stage can hold at much less than the bottleneck.

    Attributes
    ----------
    node : str
    work : int
        Ticks that the node takes.
    own : int
        Ticks of the cheapest stage that holds it: alpha, its work, and what has to be paid for its tensors.
    bottleneck : int
        Ticks of the plan.
    members : tuple of str
        The nodes of the cheapest stage, itself included, the heaviest first: it is among them that something
        has to change.
    """

    node: str
    work: int
    own: int
    bottleneck: int
    members: tuple[str, ...]

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
    found: dict[str, Limit] = {}
    for own, stage in own_stages(graph, result.target, int(result.upper * (1 - near))).values():
        names = tuple(graph.node_names[v] for v in stage)
        limit = Limit(names[0], int(graph.work[stage[0]]), own, result.upper, names)
        if names[0] not in found or found[names[0]].own < own:
            found[names[0]] = limit
    return sorted(found.values(), key=lambda each: (-each.own, each.node))


def own_stages(graph: CostGraph, target: Target, floor: int = 0) -> dict[int, tuple[int, list[int]]]:
    """Return by node the cheapest stage that can hold it, where it costs more than ``floor`` ticks.

    That is alpha and a minimum cut, see :mod:`onnx_pipeline.partition.bounds.mincut`: other nodes may share
    the stage to spare it transfers. Each comes with the nodes of that stage, the heaviest first.
    """
    from ortools.graph.python import max_flow

    inst = build(graph, target)
    sink, tails, heads, capacity = network(inst)
    flow = max_flow.SimpleMaxFlow()
    flow.add_arcs_with_capacity(tails, heads, capacity)
    alone = inst.work.copy()
    for ptr, nets in ((inst.in_ptr, inst.in_net), (inst.out_ptr, inst.out_net)):
        np.add.at(alone, np.repeat(np.arange(inst.n), np.diff(ptr)), inst.net_cost[nets])
    stages: dict[int, tuple[int, list[int]]] = {}
    for home in np.flatnonzero(inst.alpha + alone > floor).tolist():
        if flow.solve(home, sink) != flow.OPTIMAL or inst.alpha + flow.optimal_flow() <= floor:
            continue
        own = inst.alpha + flow.optimal_flow()
        side = np.isin(inst.node_of, np.asarray(flow.get_source_side_min_cut(), dtype=np.int64))
        stage = sorted(np.flatnonzero(side).tolist(), key=lambda v: (-int(graph.work[v]), v))
        stages.update((v, (own, stage)) for v in np.flatnonzero(inst.node_of == home).tolist())
    return stages
