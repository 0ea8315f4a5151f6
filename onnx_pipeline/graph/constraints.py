"""Constraints of users, written into the cost graph so that every method and check sees them.

Colocation, pins and tensors that must not cross are properties of the graph; a hard memory limit belongs to
the target, and "exactly k stages" to the call of the partitioner.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from onnx_pipeline.errors import UsageError
from onnx_pipeline.graph.costgraph import HOST, CostGraph
from onnx_pipeline.graph.patterns import matching, unknown
from onnx_pipeline.parameters import Parameters
from onnx_pipeline.settings import SETTINGS


@dataclass(frozen=True)
class Demands(Parameters):
    """Constraints on one partition beyond graph and target.

    Every name may be a pattern (``encoder/*``) for all nodes or tensors that it matches; a name that the
    graph has is itself.

    Attributes
    ----------
    together : tuple of tuple of str
        Groups of nodes that must share a stage.
    uncut : tuple of str
        Tensors that must not cross a stage border.
    pins : mapping of str to int
        Stage, counted from 0, that a node must be in.
    exactly : bool
        Leave no stage empty.
    bounds : tuple of str or None
        Bounds to compute; see :data:`onnx_pipeline.settings.BOUNDS`.
    """

    together: tuple[tuple[str, ...], ...] = ()
    uncut: tuple[str, ...] = ()
    pins: Mapping[str, int] = field(default_factory=dict)
    exactly: bool = False
    bounds: tuple[str, ...] | None = None

    def apply(self, graph: CostGraph) -> CostGraph:
        """Write the constraints into a graph.

        Raises
        ------
        UsageError
            If a name or pattern meets nothing in the graph, with close names, or a node has two pins.
        """
        if not (self.together or self.uncut or self.pins):
            return graph
        nodes, nets = dict.fromkeys(graph.node_names), dict.fromkeys(graph.net_names)
        return constrain(
            graph,
            together=[
                [n for name in group for n in matching(name, nodes, "node")] for group in self.together
            ],
            uncut=[n for name in self.uncut for n in matching(name, nets, "tensor")],
            pins=joint_pins((n, s) for name, s in self.pins.items() for n in matching(name, nodes, "node")),
        )

    def joined(
        self,
        pins: Mapping[str, int] | None = None,
        together: Iterable[Collection[str]] = (),
        no_cut: Collection[str] = (),
    ) -> Demands:
        """Return these demands and more, which callers gave one by one.

        Raises
        ------
        UsageError
            If one is malformed; the message names the parameter.
        """
        more = SETTINGS["pins"].check(pins or {}, "pins")
        groups = SETTINGS["together"].check(together, "together")
        uncut = SETTINGS["uncut"].check(no_cut, "no_cut")
        if not (more or groups or uncut):
            return self
        return replace(
            self,
            pins=joint_pins([*self.pins.items(), *more.items()]),
            together=(*self.together, *groups),
            uncut=(*self.uncut, *uncut),
        )


NO_DEMANDS = Demands()


def joint_pins(pairs: Iterable[tuple[str, int]]) -> dict[str, int]:
    """Return pins by node from pairs that may repeat.

    Raises
    ------
    UsageError
        If a node is pinned to two stages.
    """
    pins: dict[str, int] = {}
    for name, stage in pairs:
        if pins.setdefault(name, stage) != stage:
            raise UsageError(f"node {name!r} is pinned to stage {pins[name]} and to stage {stage}")
    return pins


def constrain(
    graph: CostGraph,
    *,
    together: Iterable[Collection[str]] = (),
    uncut: Collection[str] = (),
    pins: Mapping[str, int] | None = None,
) -> CostGraph:
    """Return the graph with further constraints; those it has already stay.

    Parameters
    ----------
    graph : CostGraph
    together : iterable of collections of str
        Names of nodes that must share a stage.
    uncut : collection of str
        Names of tensors that must not cross a stage border.
    pins : mapping of str to int
        Stage, counted from 0, that a node must be in.

    Raises
    ------
    UsageError
        If a node or tensor is unknown, with close matches in the message, or a node has two pins.
    """
    import networkx

    node = {name: v for v, name in enumerate(graph.node_names)}
    net = {name: t for t, name in enumerate(graph.net_names)}
    groups = networkx.utils.UnionFind(range(graph.num_nodes))
    for colour in set(graph.colocation.tolist()) - {-1}:
        groups.union(*np.flatnonzero(graph.colocation == colour).tolist())
    for names in together:
        groups.union(*(_find(name, node, "node") for name in names))
    for name in uncut:
        t = _find(name, net, "tensor")
        members = graph.consumers(t).tolist()
        if graph.net_producer[t] != HOST:
            members.append(int(graph.net_producer[t]))
        groups.union(*members)
    colocation = np.full(graph.num_nodes, -1, dtype=np.int64)
    for number, members in enumerate(groups.to_sets()):
        if len(members) > 1:
            colocation[list(members)] = number
    pinned = graph.pinned.copy()
    for name, stage in (pins or {}).items():
        if stage < 0:
            raise UsageError(f"node {name!r} cannot be pinned to stage {stage}: stages count from 0")
        v = _find(name, node, "node")
        if pinned[v] not in (-1, stage):
            raise UsageError(f"node {name!r} is pinned to stage {pinned[v]} and to stage {stage}")
        pinned[v] = stage
    return replace(graph, colocation=colocation, pinned=pinned)


def _find(name: str, known: Mapping[str, int], kind: str) -> int:
    if name not in known:
        raise unknown(name, known, kind)
    return known[name]
