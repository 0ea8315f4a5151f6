"""The cost graph: nodes, nets (tensors) and parameter groups.

Times are whole ticks (:mod:`onnx_pipeline.graph.ticks`), sizes whole bytes.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from onnx_pipeline.errors import InputError
from onnx_pipeline.graph.target import INFEASIBLE, Target
from onnx_pipeline.graph.ticks import NS
from onnx_pipeline.graph.ticks import IntArray as IntArray

if TYPE_CHECKING:
    import networkx

BoolArray = npt.NDArray[np.bool_]

#: Element type and concrete shape of a tensor, each None where unknown.
TensorType = tuple[str | None, tuple[int, ...] | None]

#: Producer of a net that enters from outside (a model input).
HOST = -1


@dataclass(frozen=True, eq=False)
class CostGraph:
    """A computation graph with costs: nodes, nets (tensors) and parameter groups.

    Attributes
    ----------
    name : str
        Name of the graph, for reports.
    node_names : tuple of str, length n
        Unique names.
    work : int64[n]
        Ticks to run each node with its operands in fast memory.
    net_names : tuple of str, length m
        Tensor names.
    net_producer : int64[m]
        Producing node, or ``HOST`` for a model input.
    net_bytes : int64[m]
        Size of each tensor.
    net_to_host : bool[m]
        Whether the tensor is a model output.
    net_ptr, net_consumers : int64[m + 1], int64[p]
        CSR list of the distinct consumers of each net.
    net_time : int64[m] or None
        Transfer times in ticks that replace those of the target (imported graphs).
    group_names, group_bytes : tuple of str, int64[g]
        Parameter groups; a group is counted once per stage that uses it.
    group_ptr, group_nodes : int64[g + 1], int64[q]
        CSR list of the nodes that read each group.
    colocation : int64[n]
        Nodes with the same non-negative number share a stage; -1 means free.
    pinned : int64[n]
        Stage that a node must be in; -1 means free.
    onnx_nodes : tuple of tuple of str, length n
        Names of the ONNX nodes that each node stands for.
    meta : mapping
        Provenance: cost model, provider, runs, dims.
    net_extra : int64[m] or None
        Ticks that a crossing tensor costs each side beyond the transfer: a change of layout that only a cut
        makes necessary.
    ticks_per_second : int
        How finely times are counted: a power of ten.
    net_types : tuple of (str or None, tuple of int or None), length m, or None
        Element type and concrete shape of each tensor, to show; nothing is computed from them.
    work_on : mapping of str to int64[n], or None
        Ticks to run each node on devices of a kind, by its name, where that is not ``work``; ``INFEASIBLE``
        for a node that the kind cannot run. Only fleets ask for it.
    operators : tuple of str, length n, or None
        Operator type of each node, of its first ONNX node where there are more; "" where nobody knows.
    """

    name: str
    node_names: tuple[str, ...]
    work: IntArray
    net_names: tuple[str, ...]
    net_producer: IntArray
    net_bytes: IntArray
    net_to_host: BoolArray
    net_ptr: IntArray
    net_consumers: IntArray
    net_time: IntArray | None
    group_names: tuple[str, ...]
    group_bytes: IntArray
    group_ptr: IntArray
    group_nodes: IntArray
    colocation: IntArray
    pinned: IntArray
    onnx_nodes: tuple[tuple[str, ...], ...]
    meta: Mapping[str, Any] = field(default_factory=dict)
    net_extra: IntArray | None = None
    ticks_per_second: int = NS
    net_types: tuple[TensorType, ...] | None = None
    work_on: Mapping[str, IntArray] | None = None
    operators: tuple[str, ...] | None = None

    def __repr__(self) -> str:
        """Return the figures that matter, in one line."""
        from onnx_pipeline.brief import of_graph

        return of_graph(self)

    @cached_property
    def order(self) -> tuple[int, ...]:
        """The graph's own topological order: the smallest available index first."""
        return tuple(topological_order(self))

    @cached_property
    def readers(self) -> tuple[tuple[int, ...], ...]:
        """Distinct consumers of every net, as :meth:`consumers` returns them one by one."""
        return _parts(self.net_ptr, self.net_consumers)

    @cached_property
    def users(self) -> tuple[tuple[int, ...], ...]:
        """Nodes that read each parameter group, as :meth:`group_members` returns them one by one."""
        return _parts(self.group_ptr, self.group_nodes)

    @cached_property
    def node_nets(self) -> tuple[tuple[int, ...], ...]:
        """Nets that each node produces or reads, ascending."""
        nets: list[list[int]] = [[] for _ in range(self.num_nodes)]
        for t in range(self.num_nets):
            for v in {int(self.net_producer[t]), *self.consumers(t).tolist()} - {HOST}:
                nets[v].append(t)
        return tuple(tuple(each) for each in nets)

    @property
    def num_nodes(self) -> int:
        """Number of nodes, n."""
        return len(self.node_names)

    @property
    def num_nets(self) -> int:
        """Number of nets, m."""
        return len(self.net_names)

    def consumers(self, net: int) -> IntArray:
        """Distinct consumers of a net."""
        return self.net_consumers[self.net_ptr[net] : self.net_ptr[net + 1]]

    def group_members(self, group: int) -> IntArray:
        """Nodes that read a parameter group."""
        return self.group_nodes[self.group_ptr[group] : self.group_ptr[group + 1]]

    def net_ticks(self, target: Target, *, up: bool = False) -> IntArray:
        """c(t) of every net, rounded down, or up."""
        times = self.net_time
        if times is None:
            times = target.transfer_ticks(self.net_bytes, self.ticks_per_second, up=up)
        return times if self.net_extra is None else times + self.net_extra

    def seconds(self, ticks: int) -> float:
        """Return a time of this graph in seconds."""
        return ticks / self.ticks_per_second

    def counted(self, ticks_per_second: int) -> CostGraph:
        """Return the graph with longer ticks, every time rounded down."""
        longer = self.ticks_per_second // ticks_per_second
        if longer <= 1:
            return self
        return replace(
            self,
            work=self.work // longer,
            net_time=None if self.net_time is None else self.net_time // longer,
            net_extra=None if self.net_extra is None else self.net_extra // longer,
            ticks_per_second=ticks_per_second,
            work_on=None
            if self.work_on is None
            else {k: _longer(w, longer) for k, w in self.work_on.items()},
        )

    def to_json(self) -> dict[str, Any]:
        """Return the COSTS.json document, as :func:`onnx_pipeline.write_graph` writes it."""
        from onnx_pipeline.graph import graph_to_json

        return graph_to_json(self)

    def to_networkx(self) -> networkx.MultiDiGraph:
        """Return a networkx graph from which :meth:`from_networkx` makes the same cost graph again.

        Nodes are keyed by name and carry ``work`` (seconds), ``onnx_nodes`` and, where they are set,
        ``colocation`` and ``stage`` (a pin). There is one edge per tensor and consumer, with ``tensor``,
        ``bytes``, ``index`` (the tensor's number) and, where they apply, ``to_host``, ``time`` and ``border``
        (seconds). The graph itself carries ``name``, ``meta``, ``ticks_per_second``, ``parameters`` (name,
        bytes and nodes of every group) and ``tensors``: those that no edge can hold, which are model inputs
        and results that no node reads, with ``producer`` and ``consumers``.
        """
        from onnx_pipeline.graph import to_networkx

        return to_networkx(self)

    @classmethod
    def from_networkx(
        cls,
        graph: networkx.DiGraph,
        *,
        work: str = "work",
        bytes: str = "bytes",
        tensor: str = "tensor",
        parameters: str = "parameter_bytes",
    ) -> CostGraph:
        """Make a cost graph of a directed networkx graph, with or without parallel edges.

        A node costs its ``work`` in seconds. An edge without a tensor name is a tensor of its own with one
        consumer; edges from one node with the same ``tensor`` are one tensor with several consumers, which
        every stage receives only once. Everything that :meth:`to_networkx` writes is read back; all of it but
        ``work`` and ``bytes`` may be missing.

        Parameters
        ----------
        graph : networkx.DiGraph or networkx.MultiDiGraph
            Acyclic; nodes of any kind, named by their text.
        work : str
            Node attribute: seconds.
        bytes : str
            Edge attribute: size of the tensor.
        tensor : str
            Edge attribute: name of the tensor.
        parameters : str
            Node attribute, optional: bytes of the weights that only this node reads. Weights that several
            nodes share are listed in ``graph.graph["parameters"]``.

        Raises
        ------
        InputError
            If the graph is undirected or has a cycle, or an attribute is missing or wrong; the message names
            node or edge and the attribute.

        Examples
        --------
        >>> import networkx
        >>> plain = networkx.DiGraph()
        >>> plain.add_node("a", work=0.003)
        >>> plain.add_node("b", work=0.001)
        >>> plain.add_edge("a", "b", bytes=4096)
        >>> CostGraph.from_networkx(plain).num_nets
        1
        """
        from onnx_pipeline.graph import from_networkx

        return from_networkx(graph, work=work, bytes=bytes, tensor=tensor, parameters=parameters)


def _longer(work: IntArray, factor: int) -> IntArray:
    """Count times in longer ticks; what cannot run still cannot."""
    return np.where(work >= INFEASIBLE, work, work // factor)


def _parts(ptr: IntArray, flat: IntArray) -> tuple[tuple[int, ...], ...]:
    """Return the lists of a CSR list of lists, as plain integers."""
    values = flat.tolist()
    return tuple(tuple(values[begin:end]) for begin, end in itertools.pairwise(ptr.tolist()))


def topological_order(graph: CostGraph, source: str | None = None) -> list[int]:
    """Return the topological order that takes the smallest available index first.

    Raises
    ------
    InputError
        If the graph has a cycle; the message names a node on it.
    """
    import heapq

    waiting = [0] * graph.num_nodes
    outs: list[list[int]] = [[] for _ in range(graph.num_nodes)]
    for t in range(graph.num_nets):
        if graph.net_producer[t] == HOST:
            continue
        outs[graph.net_producer[t]].append(t)
        for v in graph.consumers(t):
            waiting[v] += 1
    ready = [v for v in range(graph.num_nodes) if waiting[v] == 0]
    order: list[int] = []
    while ready:
        u = heapq.heappop(ready)
        order.append(u)
        for t in outs[u]:
            for v in graph.consumers(t):
                waiting[v] -= 1
                if waiting[v] == 0:
                    heapq.heappush(ready, int(v))
    if len(order) < graph.num_nodes:
        stuck = next(v for v in range(graph.num_nodes) if waiting[v] > 0)
        raise InputError(source, f"the graph has a cycle through or before node {graph.node_names[stuck]!r}")
    return order
