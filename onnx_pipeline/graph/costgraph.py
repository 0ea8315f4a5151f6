"""The cost graph, the target and THE objective, written plainly.

Everything that computes a cost, a bound or a gap agrees with :func:`stage_costs`.
Times are integer nanoseconds and sizes integer bytes, so "upper bound = lower bound" is an
exact test. Times are rounded *down* on entry: a lower bound of the rounded instance is then
a lower bound of the unrounded one.

References
----------
Archer, Fahrbach, Liu, Prabhu, *Practical Performance Guarantees for Pipelined DNN Inference*,
ICML 2024, section 2 (the MTPP problem).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from onnx_pipeline.errors import InputError, UsageError

if TYPE_CHECKING:
    import networkx

IntArray = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]

#: Producer of a net that enters from outside (a model input).
HOST = -1
NS = 1_000_000_000
#: Cost in nanoseconds of a stage that breaks a hard limit: 36 years.
INFEASIBLE = 1 << 60


@dataclass(frozen=True)
class Target:
    """k identical devices behind one kind of link.

    Parameters
    ----------
    bandwidth : float
        Interconnect bandwidth in bytes/second; ``math.inf`` makes transfers free of size cost.
    memory : float
        Fast memory per device in bytes; ``math.inf`` for no limit.
    transfer_latency : float
        Fixed seconds per transferred tensor (lambda).
    stage_overhead : float
        Fixed seconds per non-empty stage and inference (alpha).
    host_io : bool
        Whether model inputs and outputs are paid for as transfers.
    memory_mode : {"overflow", "hard"}
        What happens to bytes beyond ``memory``: streamed over the link in every inference, or forbidden.
    activations : bool
        Whether a stage's peak of live activations needs room in ``memory`` beside its parameters.
    name : str
        Shown in reports.

    Raises
    ------
    UsageError
        If a figure is out of its range.
    """

    bandwidth: float = math.inf
    memory: float = math.inf
    transfer_latency: float = 0.0
    stage_overhead: float = 0.0
    host_io: bool = True
    name: str = "custom"
    memory_mode: str = "overflow"
    activations: bool = True

    def __post_init__(self) -> None:
        """Check every range once."""
        for label, value in (("bandwidth", self.bandwidth), ("memory", self.memory)):
            if not value > 0:
                raise UsageError(f"{label} must be positive, got {value!r}")
        for label, value in (
            ("transfer_latency", self.transfer_latency),
            ("stage_overhead", self.stage_overhead),
        ):
            if not 0 <= value < math.inf:
                raise UsageError(f"{label} must be a finite number of seconds >= 0, got {value!r}")
        if self.memory_mode not in ("overflow", "hard"):
            raise UsageError(f"memory_mode must be 'overflow' or 'hard', got {self.memory_mode!r}")

    @property
    def ns_per_byte(self) -> float:
        """Nanoseconds to move one byte over the link."""
        return NS / self.bandwidth

    def transfer_ns(self, nbytes: int) -> int:
        """c(t) = lambda + size / B in nanoseconds, rounded down."""
        return int(self.transfer_latency * NS + nbytes * self.ns_per_byte)

    def overflow_ns(self, nbytes: int) -> int:
        """Nanoseconds to stream what does not fit into fast memory of a stage's bytes, rounded down."""
        if nbytes <= self.memory:
            return 0
        if self.memory_mode == "hard":
            return INFEASIBLE
        return int((nbytes - self.memory) * self.ns_per_byte)

    @property
    def counts_activations(self) -> bool:
        """Whether peak(S) can matter."""
        return self.activations and math.isfinite(self.memory)

    @property
    def overhead_ns(self) -> int:
        """Alpha in nanoseconds, rounded down."""
        return int(self.stage_overhead * NS)


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
        Nanoseconds to run each node with its operands in fast memory.
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
        Transfer times in nanoseconds that replace ``Target.transfer_ns`` (imported graphs).
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
        Nanoseconds that a crossing tensor costs each side beyond the transfer: a change of layout that only
        a cut makes necessary.
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

    @cached_property
    def order(self) -> tuple[int, ...]:
        """The graph's own topological order: the smallest available index first."""
        return tuple(topological_order(self))

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

    def net_ns(self, target: Target) -> IntArray:
        """c(t) of every net in nanoseconds."""
        if self.net_time is not None:
            times = self.net_time
        else:
            times = np.array([target.transfer_ns(int(b)) for b in self.net_bytes], dtype=np.int64)
        return times if self.net_extra is None else times + self.net_extra

    def to_networkx(self) -> networkx.MultiDiGraph:
        """Return the graph people can hold: nodes keyed by name, one edge per (tensor, consumer).

        Nodes carry ``work`` (ns) and ``onnx_nodes``; edges carry ``tensor`` and ``bytes``.
        """
        import networkx

        out = networkx.MultiDiGraph(name=self.name)
        for v, name in enumerate(self.node_names):
            out.add_node(name, work=int(self.work[v]), onnx_nodes=self.onnx_nodes[v])
        for t in range(self.num_nets):
            if self.net_producer[t] == HOST:
                continue
            for v in self.consumers(t):
                out.add_edge(
                    self.node_names[self.net_producer[t]],
                    self.node_names[v],
                    key=self.net_names[t],
                    tensor=self.net_names[t],
                    bytes=int(self.net_bytes[t]),
                )
        return out


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


@dataclass(frozen=True)
class StageCost:
    """What one stage pays, in nanoseconds, and what it holds, in bytes and nodes.

    ``activation_bytes`` is peak(S), 0 where the target does not count it.
    """

    nodes: int
    work: int
    input: int
    output: int
    overflow: int
    overhead: int
    parameter_bytes: int
    activation_bytes: int = 0

    @property
    def total(self) -> int:
        """cost(S) in nanoseconds."""
        return self.work + self.input + self.output + self.overflow + self.overhead


def stage_costs(
    graph: CostGraph, target: Target, stage_of: Sequence[int] | IntArray, stages: int
) -> list[StageCost]:
    """Evaluate the objective of Archer et al. 2024, section 2, slowly and obviously.

    Parameters
    ----------
    graph : CostGraph
    target : Target
    stage_of : sequence of int, length n
        Stage of every node, in ``range(stages)``.
    stages : int
        Number of stages k.

    Returns
    -------
    list of StageCost, length k
        Empty stages cost nothing.
    """
    transfer = graph.net_ns(target)
    nodes, work, incoming, outgoing = [0] * stages, [0] * stages, [0] * stages, [0] * stages
    for v in range(graph.num_nodes):
        nodes[stage_of[v]] += 1
        work[stage_of[v]] += int(graph.work[v])
    for t in range(graph.num_nets):
        producer = int(graph.net_producer[t])
        home = HOST if producer == HOST else int(stage_of[producer])
        readers = {int(stage_of[v]) for v in graph.consumers(t)}
        if producer != HOST or target.host_io:
            for s in readers - {home}:
                incoming[s] += int(transfer[t])
        if producer != HOST and (readers - {home} or (target.host_io and graph.net_to_host[t])):
            outgoing[home] += int(transfer[t])
    parameters = [0] * stages
    for g in range(len(graph.group_names)):
        for s in {int(stage_of[v]) for v in graph.group_members(g)}:
            parameters[s] += int(graph.group_bytes[g])
    peaks = [0] * stages
    if target.counts_activations:
        from onnx_pipeline.graph.activations import stage_peaks

        peaks = stage_peaks(graph, stage_of, stages, [target.memory - held for held in parameters])
    return [
        StageCost(
            nodes=nodes[s],
            work=work[s],
            input=incoming[s],
            output=outgoing[s],
            overflow=target.overflow_ns(parameters[s] + peaks[s]),
            overhead=target.overhead_ns if nodes[s] else 0,
            parameter_bytes=parameters[s],
            activation_bytes=peaks[s],
        )
        for s in range(stages)
    ]


def memory_binds(graph: CostGraph, target: Target) -> bool:
    """Whether some stage may not fit: the whole model with all its tensors at once exceeds the memory."""
    tensors = int(graph.net_bytes.sum()) if target.activations else 0
    return int(graph.group_bytes.sum()) + tensors > target.memory


def bottleneck(graph: CostGraph, target: Target, stage_of: Sequence[int] | IntArray, stages: int) -> int:
    """Return the largest stage cost in nanoseconds."""
    return max(cost.total for cost in stage_costs(graph, target, stage_of, stages))


def check_partition(graph: CostGraph, stage_of: Sequence[int] | IntArray, stages: int) -> list[str]:
    """Return everything that is wrong with a partition; an empty list means valid."""
    if len(stage_of) != graph.num_nodes:
        return [f"{len(stage_of)} stages given for {graph.num_nodes} nodes"]
    wrong = [
        f"node {graph.node_names[v]!r} is in stage {stage_of[v]}, outside 0..{stages - 1}"
        for v in range(graph.num_nodes)
        if not 0 <= stage_of[v] < stages
    ]
    for t in range(graph.num_nets):
        u = int(graph.net_producer[t])
        if u == HOST:
            continue
        wrong += [
            f"tensor {graph.net_names[t]!r} flows back from stage {stage_of[u]} to stage {stage_of[v]}"
            for v in graph.consumers(t)
            if stage_of[u] > stage_of[v]
        ]
    home: dict[int, int] = {}
    for v in range(graph.num_nodes):
        colour = int(graph.colocation[v])
        if colour >= 0 and home.setdefault(colour, int(stage_of[v])) != stage_of[v]:
            wrong.append(f"node {graph.node_names[v]!r} is not with its colocation group {colour}")
        if graph.pinned[v] >= 0 and graph.pinned[v] != stage_of[v]:
            wrong.append(f"node {graph.node_names[v]!r} is pinned to stage {graph.pinned[v]}, not there")
    return wrong
