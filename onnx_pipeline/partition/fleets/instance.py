"""A cost graph priced for every kind of device of a fleet: one instance per kind, all with the same nodes."""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

import numpy as np

from onnx_pipeline.graph.constraints import constrain
from onnx_pipeline.graph.costgraph import BoolArray, CostGraph, IntArray
from onnx_pipeline.graph.fleet import FleetTarget, graph_on
from onnx_pipeline.graph.objective import countable
from onnx_pipeline.graph.target import INFEASIBLE
from onnx_pipeline.partition.instance.build import constrained, price_nodes, share_stages, stage_labels
from onnx_pipeline.partition.instance.coarsen import RUNS, run_labels
from onnx_pipeline.partition.instance.contract import JOINS, LEAVES, disjoint_merges, safe_moves
from onnx_pipeline.partition.instance.instance import Instance
from onnx_pipeline.partition.instance.quotient import quotient
from onnx_pipeline.stop import Stop, never


class FleetInstance(NamedTuple):
    """A graph priced for a fleet.

    Attributes
    ----------
    fleet : FleetTarget
    kinds : tuple of Instance
        One for each kind of the fleet, in its order. Nodes, edges and ``node_of`` are the same in all; nets
        may differ. Work is ``INFEASIBLE`` where a kind cannot run a node: never add such up.
    """

    fleet: FleetTarget
    kinds: tuple[Instance, ...]

    @property
    def n(self) -> int:
        """Number of nodes."""
        return self.kinds[0].n

    @property
    def used(self) -> tuple[int, ...]:
        """Kinds of which there are devices."""
        return tuple(sorted(set(self.fleet.devices)))

    @property
    def runs(self) -> BoolArray:
        """Whether each kind runs each node; bool[kinds, n]."""
        return np.array([inst.work < INFEASIBLE for inst in self.kinds])

    @property
    def least_work(self) -> IntArray:
        """Work of each node on the device that is fastest with it; int64[n]."""
        return np.asarray(np.min([self.kinds[kind].work for kind in self.used], axis=0), dtype=np.int64)

    @property
    def common(self) -> Instance:
        """One instance for what needs only one, such as good orders: every node where it is fastest."""
        return self.kinds[self.fleet.devices[0]]._replace(work=self.least_work)

    def expand(self, stage_of: IntArray) -> IntArray:
        """Translate stages of these nodes into stages of the original nodes."""
        return self.kinds[0].expand(stage_of)

    def merged(self, label: IntArray) -> FleetInstance:
        """Merge nodes with equal label; the result runs where all of them do."""
        return self._replace(kinds=tuple(quotient(inst, label) for inst in self.kinds))


def counted(graph: CostGraph, fleet: FleetTarget) -> CostGraph:
    """Return the graph with ticks so long that what any placement pays can be counted on every kind.

    Raises
    ------
    UsageError
        If a link is so slow that ticks of a second are too short.
    """
    ticks = graph.ticks_per_second
    for kind in fleet.kinds:
        one = graph_on(graph, kind)
        one = replace(one, work=np.where(one.work >= INFEASIBLE, 0, one.work))
        ticks = min(ticks, countable(one, kind.target, len(fleet.devices)).ticks_per_second)
    return graph.counted(ticks)


def build_fleet(graph: CostGraph, fleet: FleetTarget) -> FleetInstance:
    """Price a cost graph for every kind; what must share a device becomes one node.

    With one stage per device, so must all nodes that a single device of the fleet can run, and what is
    between them.

    Parameters
    ----------
    graph : CostGraph
        Its pins name devices.
    fleet : FleetTarget

    Raises
    ------
    InfeasibleError
        If nodes with different pins must share a device.
    """
    graph = _with_sole_devices(graph, fleet)
    kinds = [price_nodes(graph_on(graph, kind), kind.target) for kind in fleet.kinds]
    if constrained(graph):
        label = stage_labels(kinds[0], graph, "device")  # edges are the same on all kinds
        kinds = [share_stages(inst, label) for inst in kinds]
    return FleetInstance(fleet, tuple(kinds))


def _with_sole_devices(graph: CostGraph, fleet: FleetTarget) -> CostGraph:
    """Return the graph with a group of the nodes that only one device runs, for every such device."""
    if fleet.shared:
        return graph
    runs = np.array([graph_on(graph, kind).work < INFEASIBLE for kind in fleet.kinds])
    used = np.array(fleet.counts) > 0
    groups = []
    for kind, count in enumerate(fleet.counts):
        if count == 1:
            sole = runs[kind] & (runs[used].sum(axis=0) == 1)
            groups.append([graph.node_names[v] for v in np.flatnonzero(sole)])
    groups = [group for group in groups if len(group) > 1]
    return constrain(graph, together=groups) if groups else graph


def contract_fleet(inst: FleetInstance, stop: Stop = never) -> FleetInstance:
    """Merge nodes that share a device in some optimal placement, until nothing changes.

    Rules and proof are in :mod:`onnx_pipeline.partition.instance.contract`: a node joins another if no stage
    that it joins would pay more, on any kind that runs the other, and none that it leaves, on any kind that
    runs it.

    Parameters
    ----------
    inst : FleetInstance
    stop : Stop
        Checked before every round.
    """
    while not stop():
        moves = [safe_moves(inst.kinds[kind]) for kind in inst.used]
        runs = inst.runs[list(inst.used)]
        consumer, producer = moves[0].consumer, moves[0].producer  # readers are the same on all kinds
        forward = _on_all(np.array([each.forward for each in moves]), runs, consumer)
        backward = _on_all(np.array([each.backward for each in moves]), runs, producer)
        label = disjoint_merges(consumer, forward, producer, backward)
        if (label == np.arange(inst.n)).all():
            break
        inst = inst.merged(label)
    return inst


def coarsen_fleet(inst: FleetInstance, order: IntArray) -> FleetInstance:
    """Merge a topological order into runs, see :mod:`onnx_pipeline.partition.instance.coarsen`.

    Runs end where other kinds begin to run or to lack nodes, unless that is everywhere.
    """
    runs = inst.runs[:, order]
    breaks = 1 + np.flatnonzero((runs[:, 1:] != runs[:, :-1]).any(axis=0))
    return inst.merged(run_labels(inst.common, order, breaks=breaks if len(breaks) <= RUNS else None))


def _on_all(verdicts: IntArray, runs: BoolArray, partner: IntArray) -> IntArray:
    """Join the verdicts of kinds: bits that hold wherever they have to; int64[n]."""
    leaves = ((verdicts & LEAVES > 0) | ~runs).all(axis=0)
    joins = ((verdicts & JOINS > 0) | ~runs[:, partner]).all(axis=0)
    return np.where(partner >= 0, LEAVES * leaves + JOINS * joins, 0)
