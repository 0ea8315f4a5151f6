"""The partitioner's view of a cost graph: flat integer arrays, priced for one target."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from onnx_pipeline.errors import InfeasibleError
from onnx_pipeline.graph.costgraph import HOST, BoolArray, CostGraph, IntArray, Target, memory_binds


@dataclass(frozen=True, eq=False)
class Instance:
    """A priced graph whose nodes may stand for sets of original nodes.

    Attributes
    ----------
    work : int64[n]
        Nanoseconds per node.
    net_cost, net_prod, net_pin : int64[m], int64[m], bool[m]
        c(t) in nanoseconds, producer (``HOST`` = -1), and whether the host reads the tensor, in which
        case its outgoing side is paid by the producer's stage whatever the partition.
    net_ptr, net_cons : int64[m + 1], int64[p]
        Distinct consumers of each net, producer excluded.
    in_ptr, in_net, out_ptr, out_net : int64
        CSR: nets read and nets produced by each node.
    use_ptr, use_group : int64
        CSR: parameter groups used by each node; empty when memory is unlimited.
    group_bytes : int64[g]
    net_bytes : int64[m]
        Size of each tensor; zeros unless activations count.
    net_kept : bool[m]
        Whether the host reads the tensor, so that it lives to the end of its producer's stage.
    need : int64[n]
        Activation bytes that every stage with this node needs at least: those of its operands and results.
    usual : int64[n]
        Activation bytes live at this node when the whole graph runs in its own order: what a stage with this
        node usually needs. For searching only; it bounds nothing.
    memory, ns_per_byte : float
        M in bytes and 1 / B in nanoseconds per byte, negative for a hard limit.
    alpha : int
        Nanoseconds per non-empty stage.
    pin : int64[n]
        Stage that a node must be in, or -1.
    node_of : int64[n_original]
        Node of this instance that holds each original node.
    """

    work: IntArray
    net_cost: IntArray
    net_prod: IntArray
    net_pin: BoolArray
    net_ptr: IntArray
    net_cons: IntArray
    in_ptr: IntArray
    in_net: IntArray
    out_ptr: IntArray
    out_net: IntArray
    use_ptr: IntArray
    use_group: IntArray
    group_bytes: IntArray
    net_bytes: IntArray
    net_kept: BoolArray
    need: IntArray
    usual: IntArray
    memory: float
    ns_per_byte: float
    alpha: int
    pin: IntArray
    node_of: IntArray

    @property
    def n(self) -> int:
        """Number of nodes."""
        return len(self.work)

    @property
    def m(self) -> int:
        """Number of nets."""
        return len(self.net_cost)

    @property
    def total_work(self) -> int:
        """Sum of work in nanoseconds."""
        return int(self.work.sum())

    def edges(self) -> tuple[IntArray, IntArray]:
        """Return (producer, consumer) of every edge, nets from the host left out; pairs may repeat."""
        heads = np.repeat(self.net_prod, np.diff(self.net_ptr))
        inner = heads != HOST
        return heads[inner], self.net_cons[inner]

    def expand(self, stage_of: IntArray) -> IntArray:
        """Translate stages of this instance's nodes into stages of the original nodes."""
        return np.asarray(stage_of, dtype=np.int64)[self.node_of]


def build(graph: CostGraph, target: Target) -> Instance:
    """Price a cost graph for a target; colocation groups and nodes pinned together become single nodes.

    A group that is not convex pulls in every node on a path between two members: stages do not
    decrease along a path, so those nodes share the stage in every valid partition.
    """
    if not memory_binds(graph, target):
        target = replace(target, memory=math.inf)
    limited = math.isfinite(target.memory)
    groups = len(graph.group_names) if limited else 0
    nothing = np.zeros_like(graph.work)
    need, usual = _activations(graph) if target.counts_activations else (nothing, nothing)
    nets, origin = _nets(graph, target)
    plain = _assemble(
        _Nodes(graph.work, need, usual, graph.pinned),
        nets,
        np.repeat(np.arange(len(origin)), np.diff(graph.net_ptr)[origin]),
        np.concatenate([graph.net_consumers[:0], *(graph.consumers(t) for t in origin.tolist())]),
        graph.group_bytes[:groups],
        np.repeat(np.arange(groups), np.diff(graph.group_ptr)[:groups]),
        graph.group_nodes if limited else graph.group_nodes[:0],
        float(target.memory),
        target.ns_per_byte if target.memory_mode == "overflow" else -1.0,
        target.overhead_ns,
        np.arange(graph.num_nodes, dtype=np.int64),
    )
    if not (graph.colocation >= 0).any() and not (graph.pinned >= 0).any():
        return plain
    label = _convex_labels(plain, graph)
    return _with_pin_order(quotient(plain, label))


def quotient(inst: Instance, label: IntArray) -> Instance:
    """Merge all nodes with equal label; labels need not be consecutive.

    Nets with the same producer, consumers and pin become one net with the summed cost, and parameter
    groups with the same users one group with the summed bytes: the objective does not see the difference.
    """
    _, label = np.unique(label, return_inverse=True)
    label = label.astype(np.int64)
    producer = np.where(inst.net_prod == HOST, HOST, label[inst.net_prod])
    lengths = np.diff(inst.net_ptr)
    users = np.repeat(np.arange(inst.n), np.diff(inst.use_ptr))
    return _assemble(
        _Nodes(
            _merge(np.add, label, inst.work, 0),
            _merge(np.maximum, label, inst.need, 0),
            _merge(np.maximum, label, inst.usual, 0),
            _merge(np.maximum, label, inst.pin, -1),
        ),
        _Nets(inst.net_cost, producer, inst.net_pin, inst.net_bytes, inst.net_kept),
        np.repeat(np.arange(inst.m), lengths),
        label[inst.net_cons],
        inst.group_bytes,
        inst.use_group,
        label[users],
        inst.memory,
        inst.ns_per_byte,
        inst.alpha,
        label[inst.node_of],
    )


def _merge(function: np.ufunc, label: IntArray, values: IntArray, start: int) -> IntArray:
    """Combine the values of all nodes with the same label."""
    out = np.full(int(label.max()) + 1 if len(label) else 0, start, dtype=np.int64)
    function.at(out, label, values)
    return out


def _nets(graph: CostGraph, target: Target) -> tuple[_Nets, IntArray]:
    """Return the nets that are paid for or take memory, and which net of the graph each of them is.

    A tensor that the host reads without anybody paying for it becomes two: one that is paid between stages
    and takes no memory, and one that lives to the end of its producer's stage and costs nothing.
    """
    inputs = graph.net_producer == HOST
    outputs = graph.net_to_host & ~inputs
    free = inputs & (not target.host_io)
    doubled = outputs & target.counts_activations & (not target.host_io)
    one = np.flatnonzero(~free | target.counts_activations)
    two = np.flatnonzero(doubled)
    origin = np.concatenate([one, two])
    second = np.arange(len(origin)) >= len(one)
    pin = outputs[origin] & target.host_io
    bytes_of = graph.net_bytes[origin] if target.counts_activations else np.zeros_like(origin)
    return _Nets(
        cost=np.where(second | free[origin], 0, graph.net_ns(target)[origin]),
        producer=graph.net_producer[origin],
        pin=pin,
        size=np.where(doubled[origin] & ~second, 0, bytes_of),
        kept=pin | second,
    ), origin


def _activations(graph: CostGraph) -> tuple[IntArray, IntArray]:
    """Return bytes of each node's operands and results, and bytes live at it when the whole graph runs."""
    position = np.empty(graph.num_nodes, dtype=np.int64)
    position[list(graph.order)] = np.arange(graph.num_nodes)
    need = np.zeros(graph.num_nodes, dtype=np.int64)
    change = np.zeros(graph.num_nodes + 1, dtype=np.int64)
    for t in range(graph.num_nets):
        producer, readers = int(graph.net_producer[t]), graph.consumers(t)
        made_here = producer != HOST
        if not len(readers) and not (made_here and graph.net_to_host[t]):
            continue
        need[readers] += graph.net_bytes[t]
        if made_here:
            need[producer] += graph.net_bytes[t]
        begin = position[producer] if made_here else 0
        end = graph.num_nodes if made_here and graph.net_to_host[t] else int(position[readers].max()) + 1
        change[begin] += graph.net_bytes[t]
        change[end] -= graph.net_bytes[t]
    return need, np.cumsum(change)[position]


class _Nodes(NamedTuple):
    work: IntArray
    need: IntArray
    usual: IntArray
    pin: IntArray


class _Nets(NamedTuple):
    cost: IntArray
    producer: IntArray
    pin: BoolArray
    size: IntArray
    kept: BoolArray


def _assemble(
    nodes: _Nodes,
    nets: _Nets,
    pair_net: IntArray,
    pair_node: IntArray,
    group_bytes: IntArray,
    pair_group: IntArray,
    pair_user: IntArray,
    memory: float,
    ns_per_byte: float,
    alpha: int,
    node_of: IntArray,
) -> Instance:
    """Normalise (net, consumer) and (group, user) pairs into an Instance."""
    n = len(nodes.work)
    inner = pair_node != nets.producer[pair_net] if len(pair_net) else np.zeros(0, dtype=np.bool_)
    lists = _member_lists(len(nets.cost), n, pair_net[inner], pair_node[inner])
    merged: dict[tuple[int, bool, bool, bytes], int] = {}
    net_cost: list[int] = []
    net_size: list[int] = []
    net_key: list[tuple[int, bool, bool]] = []
    net_cons: list[IntArray] = []
    for t, consumers in enumerate(lists):
        if not len(consumers) and not nets.kept[t]:
            continue
        key = (int(nets.producer[t]), bool(nets.pin[t]), bool(nets.kept[t]), consumers.tobytes())
        if key in merged:
            net_cost[merged[key]] += int(nets.cost[t])
            net_size[merged[key]] += int(nets.size[t])
            continue
        merged[key] = len(net_cost)
        net_cost.append(int(nets.cost[t]))
        net_size.append(int(nets.size[t]))
        net_key.append(key[:3])
        net_cons.append(consumers)
    by_users: dict[bytes, int] = {}
    bytes_of: list[int] = []
    group_users: list[IntArray] = []
    for g, users in enumerate(_member_lists(len(group_bytes), n, pair_group, pair_user)):
        if not len(users) or group_bytes[g] == 0:
            continue
        if users.tobytes() in by_users:
            bytes_of[by_users[users.tobytes()]] += int(group_bytes[g])
            continue
        by_users[users.tobytes()] = len(bytes_of)
        bytes_of.append(int(group_bytes[g]))
        group_users.append(users)
    net_prod = np.array([p for p, *_ in net_key], dtype=np.int64)
    indices = np.arange(len(net_cost), dtype=np.int64)
    net_ptr, flat = _flatten(net_cons)
    in_ptr, in_net = _invert(n, flat, np.repeat(indices, np.diff(net_ptr)))
    produced = net_prod != HOST
    out_ptr, out_net = _invert(n, net_prod[produced], indices[produced])
    group_ptr, group_flat = _flatten(group_users)
    use_ptr, use_group = _invert(n, group_flat, np.repeat(np.arange(len(bytes_of)), np.diff(group_ptr)))
    return Instance(
        work=nodes.work.astype(np.int64),
        net_cost=np.array(net_cost, dtype=np.int64),
        net_prod=net_prod,
        net_pin=np.array([pin for _, pin, _ in net_key], dtype=np.bool_),
        net_ptr=net_ptr,
        net_cons=flat,
        in_ptr=in_ptr,
        in_net=in_net,
        out_ptr=out_ptr,
        out_net=out_net,
        use_ptr=use_ptr,
        use_group=use_group,
        group_bytes=np.array(bytes_of, dtype=np.int64),
        net_bytes=np.array(net_size, dtype=np.int64),
        net_kept=np.array([kept for *_, kept in net_key], dtype=np.bool_),
        need=nodes.need.astype(np.int64),
        usual=nodes.usual.astype(np.int64),
        memory=memory,
        ns_per_byte=ns_per_byte,
        alpha=alpha,
        pin=nodes.pin.astype(np.int64),
        node_of=node_of,
    )


def _member_lists(count: int, n: int, owner: IntArray, member: IntArray) -> list[IntArray]:
    """Sorted distinct members of each of ``count`` owners."""
    pairs = np.unique(owner.astype(np.int64) * n + member) if n else np.zeros(0, dtype=np.int64)
    owners, members = np.divmod(pairs, max(n, 1))
    return np.split(members, np.searchsorted(owners, np.arange(1, count))) if count else []


def _flatten(lists: list[IntArray]) -> tuple[IntArray, IntArray]:
    ptr = np.zeros(len(lists) + 1, dtype=np.int64)
    np.cumsum([len(x) for x in lists], out=ptr[1:])
    flat = np.concatenate(lists) if lists else np.zeros(0, dtype=np.int64)
    return ptr, flat.astype(np.int64)


def _invert(n: int, keys: IntArray, values: IntArray) -> tuple[IntArray, IntArray]:
    """CSR of ``values`` grouped by ``keys`` in range(n), order kept."""
    order = np.argsort(keys, kind="stable")
    ptr = np.zeros(n + 1, dtype=np.int64)
    np.cumsum(np.bincount(keys, minlength=n), out=ptr[1:])
    return ptr, values[order].astype(np.int64)


def _convex_labels(inst: Instance, graph: CostGraph) -> IntArray:
    """Label original nodes so that those which must share a stage are equal.

    These are colocation groups, nodes pinned to one stage, and all nodes caught between: merging groups may
    close cycles, and everything on a cycle shares a stage, so the labels are the strongly connected
    components of the merged graph. Pinned nodes are linked in the order of their stages.

    Raises
    ------
    InfeasibleError
        If nodes with different pins must share a stage.
    """
    import networkx

    merged = networkx.utils.UnionFind(range(inst.n))
    first: dict[tuple[str, int], int] = {}
    for v in range(inst.n):
        for kind, value in (("colour", int(graph.colocation[v])), ("pin", int(graph.pinned[v]))):
            if value >= 0:
                merged.union(first.setdefault((kind, value), v), v)
    label = np.array([merged[v] for v in range(inst.n)], dtype=np.int64)
    heads, tails = inst.edges()
    links = networkx.DiGraph()
    links.add_nodes_from(label.tolist())
    links.add_edges_from(zip(label[heads].tolist(), label[tails].tolist(), strict=True))
    pins = sorted((value, v) for (kind, value), v in first.items() if kind == "pin")
    links.add_edges_from((label[a].item(), label[b].item()) for (_, a), (_, b) in itertools.pairwise(pins))
    component = {
        v: i for i, members in enumerate(networkx.strongly_connected_components(links)) for v in members
    }
    out = np.array([component[v] for v in label.tolist()], dtype=np.int64)
    for (low, a), (high, b) in itertools.pairwise(pins):
        if out[a] == out[b]:
            names = [graph.node_names[v] for v in (a, b)]
            raise InfeasibleError(
                f"node {names[0]!r} is pinned to stage {low} and {names[1]!r} to stage {high}, but edges or "
                "colocation groups force them into one stage or into the other order"
            )
    return out


def _with_pin_order(inst: Instance) -> Instance:
    """Add free tensors from each pinned node to the next, so that every topological order respects pins."""
    pinned = np.flatnonzero(inst.pin >= 0)
    pinned = pinned[np.argsort(inst.pin[pinned], kind="stable")]
    if len(pinned) < 2:
        return inst
    users = np.repeat(np.arange(inst.n), np.diff(inst.use_ptr))
    links = len(pinned) - 1
    none = np.zeros(links, dtype=np.int64)
    return _assemble(
        _Nodes(inst.work, inst.need, inst.usual, inst.pin),
        _Nets(
            np.append(inst.net_cost, none),
            np.append(inst.net_prod, pinned[:-1]),
            np.append(inst.net_pin, none.astype(np.bool_)),
            np.append(inst.net_bytes, none),
            np.append(inst.net_kept, none.astype(np.bool_)),
        ),
        np.append(np.repeat(np.arange(inst.m), np.diff(inst.net_ptr)), inst.m + np.arange(links)),
        np.append(inst.net_cons, pinned[1:]),
        inst.group_bytes,
        inst.use_group,
        users,
        inst.memory,
        inst.ns_per_byte,
        inst.alpha,
        inst.node_of,
    )
