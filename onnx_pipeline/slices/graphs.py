"""Slices in costs and in cost graphs: the graph of the sliced model, without the model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import NamedTuple

from onnx_pipeline.costmodel.request import NodeCosts
from onnx_pipeline.errors import UsageError
from onnx_pipeline.graph.builder import GraphBuilder
from onnx_pipeline.graph.costgraph import HOST, CostGraph
from onnx_pipeline.graph.target import INFEASIBLE
from onnx_pipeline.graph.ticks import NS
from onnx_pipeline.slices.slicing import Slicing


class Shares(NamedTuple):
    """What slices cost, as shares of the time that the node and its followers take as a whole.

    A slice of 1/q is not 1/q: ``parts`` sum to 1 or more. ``join`` is the Concat's.
    """

    parts: tuple[float, ...]
    join: float

    @property
    def total(self) -> float:
        """All slices and the Concat together, by the whole."""
        return sum(self.parts) + self.join


def ideal_shares(slicing: Slicing) -> Shares:
    """Return what slices would cost if dividing were free."""
    return Shares(tuple(width / slicing.size for width in slicing.widths), 0.0)


def slice_costs(costs: NodeCosts, slicing: Slicing, shares: Shares) -> NodeCosts:
    """Return the costs of the model with a node in slices.

    Parameters
    ----------
    costs : NodeCosts
        Of the model with the node as a whole.
    slicing : Slicing
    shares : Shares
    """
    work = dict(costs.work_ns)
    spread, borders, held = dict(costs.spread), dict(costs.border_ns), dict(costs.parameter_bytes)
    whole = [work.pop(name) for name in slicing.members]
    scatter = [spread.pop(name, None) for name in slicing.members]
    for part, share in enumerate(shares.parts):
        for number, name in enumerate(slicing.pieces[part]):
            work[name] = whole[number] * share
            known = scatter[number]
            if known is not None:
                spread[name] = known
    work[slicing.joined] = sum(whole) * shares.join
    for number, output in enumerate(slicing.outputs):
        extra = borders.get(output) if output == slicing.result else borders.pop(output, None)
        for part, width in enumerate(slicing.widths):
            if extra is not None:
                borders[slicing.values[part][number]] = extra * width / slicing.size
    for group in slicing.groups:
        for name, width in zip(group.parts, slicing.widths, strict=True):
            if group.name in held:
                held[name] = held[group.name] * width // slicing.size
    return replace(costs, work_ns=work, spread=spread, border_ns=borders, parameter_bytes=held)


def slice_graph(graph: CostGraph, slicing: Slicing, shares: Shares) -> CostGraph:
    """Return the cost graph of the model with a node in slices: what lowering that model gives.

    Every part has the pins and the groups of the whole. Names and numbers of stages do not change.

    Raises
    ------
    UsageError
        If the graph does not have the nodes: it is of another model, or nodes were merged.
    """
    return _Divider(graph, slicing, shares).build()


class _Divider:
    """Builds one graph from another."""

    def __init__(self, graph: CostGraph, slicing: Slicing, shares: Shares) -> None:
        self.graph, self.slicing, self.shares = graph, slicing, shares
        place = {name: v for v, name in enumerate(graph.node_names)}
        missing = [name for name in slicing.members if name not in place]
        if missing:
            raise UsageError(f"the cost graph has no node {missing[0]!r}")
        self.members = [place[name] for name in slicing.members]
        self.number = {v: number for number, v in enumerate(self.members)}
        self.builder = GraphBuilder(
            graph.name, meta=dict(graph.meta), ticks_per_second=graph.ticks_per_second
        )
        #: Nodes of the new graph that stand for one of the old; parts of members in order.
        self.now: dict[int, list[int]] = {}
        self.join = -1
        #: Parts of groups: those that another slicing made already have the same names.
        names = {name for group in slicing.groups for name in group.parts}
        self.shared: dict[str, tuple[int, set[int]]] = {
            name: (int(size), set())
            for name, size in zip(graph.group_names, graph.group_bytes, strict=True)
            if name in names
        }

    def build(self) -> CostGraph:
        """Add nodes, then nets, then groups."""
        for v in range(self.graph.num_nodes):
            if v not in self.number:
                self.now[v] = [self._add(self.graph.node_names[v], v, 1.0, self.graph.onnx_nodes[v])]
            elif v == max(self.members):
                self._add_pieces()
        for net in range(self.graph.num_nets):
            self._add_net(net)
        cut: dict[str, dict[int, tuple[str, ...]]] = {}
        for group in self.slicing.groups:
            cut.setdefault(group.name, {})[self.members[group.member]] = group.parts
        for index, name in enumerate(self.graph.group_names):
            self._add_group(index, cut.get(name, {}))
        for name, (size, readers) in self.shared.items():
            self.builder.add_group(name, size, sorted(readers))
        return self.builder.build()

    def _ns(self, ticks: float) -> float:
        return ticks * (NS / self.graph.ticks_per_second)

    def _add(self, name: str, like: int, share: float, onnx_nodes: tuple[str, ...]) -> int:
        """Add a node that does a share of the work of another, where that may be."""
        graph = self.graph
        on = {kind: int(work[like]) for kind, work in (graph.work_on or {}).items()}
        return self.builder.add_node(
            name,
            self._ns(int(graph.work[like]) * share),
            colocation=int(graph.colocation[like]),
            pinned=int(graph.pinned[like]),
            onnx_nodes=onnx_nodes,
            work_on={
                kind: float("inf") if work >= INFEASIBLE else self._ns(work * share)
                for kind, work in on.items()
            },
        )

    def _add_pieces(self) -> None:
        slicing, graph = self.slicing, self.graph
        for v in self.members:
            self.now[v] = []
        for part, share in enumerate(self.shares.parts):
            for v, name in zip(self.members, slicing.pieces[part], strict=True):
                self.now[v].append(self._add(name, v, share, (name,)))
        work = sum(int(graph.work[v]) for v in self.members)
        last = self.members[-1]
        kinds = {
            kind: sum(int(on[v]) for v in self.members if on[v] < INFEASIBLE)
            for kind, on in (graph.work_on or {}).items()
        }
        self.join = self.builder.add_node(
            slicing.joined,
            self._ns(work * self.shares.join),
            colocation=int(graph.colocation[last]),
            pinned=int(graph.pinned[last]),
            onnx_nodes=(slicing.joined,),
            work_on={kind: self._ns(on * self.shares.join) for kind, on in kinds.items()},
        )

    def _readers(self, net: int) -> list[list[int]]:
        """New consumers of a net, by the old ones."""
        return [self.now[int(v)] for v in self.graph.consumers(net)]

    def _add_net(self, net: int) -> None:
        graph, slicing = self.graph, self.slicing
        producer = int(graph.net_producer[net])
        if producer not in self.number:
            home = HOST if producer == HOST else self.now[producer][0]
            self._put(net, graph.net_names[net], home, [v for each in self._readers(net) for v in each])
            return
        number = self.number[producer]
        for part, width in enumerate(slicing.widths):
            inside = [self.now[v][part] for v in map(int, graph.consumers(net)) if v in self.number]
            if number == len(self.members) - 1:
                inside = [self.join]
            home = self.now[producer][part]
            self._put(net, slicing.values[part][number], home, inside, width, to_host=False)
        if number == len(self.members) - 1:
            self._put(net, graph.net_names[net], self.join, [v for e in self._readers(net) for v in e])

    def _put(
        self,
        net: int,
        name: str,
        producer: int,
        consumers: list[int],
        width: int | None = None,
        *,
        to_host: bool = True,
    ) -> None:
        """Add a net like another one, or a part of it."""
        graph, size = self.graph, self.slicing.size
        width = size if width is None else width
        time, extra = graph.net_time, graph.net_extra
        self.builder.add_net(
            name,
            producer,
            consumers,
            nbytes=int(graph.net_bytes[net]) * width // size,
            to_host=to_host and bool(graph.net_to_host[net]),
            time=None if time is None else self._ns(int(time[net]) * width / size),
            extra=0 if extra is None else self._ns(int(extra[net]) * width / size),
            kind=(None, None) if graph.net_types is None or width != size else graph.net_types[net],
        )

    def _add_group(self, index: int, cut: Mapping[int, tuple[str, ...]]) -> None:
        """Add a parameter group for those who still read the whole, and one for every part."""
        graph = self.graph
        size = int(graph.group_bytes[index])
        users = [int(v) for v in graph.group_members(index)]
        whole = [v for each in users if each not in cut for v in self.now[each]]
        if graph.group_names[index] in self.shared:
            self.shared[graph.group_names[index]][1].update(whole)
        elif whole or not cut:
            self.builder.add_group(graph.group_names[index], size, whole)
        for part, width in enumerate(self.slicing.widths):
            for v, parts in cut.items():
                _, readers = self.shared.setdefault(parts[part], (size * width // self.slicing.size, set()))
                readers.add(self.now[v][part])
