"""Pricing a cost graph for a target; what must share a stage becomes one node."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace

import numpy as np

from onnx_pipeline.errors import InfeasibleError
from onnx_pipeline.graph.costgraph import HOST, CostGraph, IntArray
from onnx_pipeline.graph.objective import memory_binds
from onnx_pipeline.graph.target import Target
from onnx_pipeline.partition.instance.instance import Instance
from onnx_pipeline.partition.instance.quotient import Groups, Nets, Nodes, Rates, assemble, parts, quotient


def build(graph: CostGraph, target: Target) -> Instance:
    """Price a cost graph for a target; colocation groups and nodes pinned together become single nodes."""
    plain = price_nodes(graph, target)
    return share_stages(plain, stage_labels(plain, graph)) if constrained(graph) else plain


def price_nodes(graph: CostGraph, target: Target) -> Instance:
    """Price a cost graph for a target; every node stays one."""
    if not memory_binds(graph, target):
        target = replace(target, memory=math.inf)
    limited = math.isfinite(target.memory)
    groups = len(graph.group_names) if limited else 0
    nothing = np.zeros_like(graph.work)
    need, usual = _activations(graph) if target.counts_activations else (nothing, nothing)
    return assemble(
        Nodes(graph.work, need, usual, graph.pinned),
        _nets(graph, target),
        Groups(
            graph.group_bytes[:groups],
            np.repeat(np.arange(groups), np.diff(graph.group_ptr)[:groups]),
            graph.group_nodes if limited else graph.group_nodes[:0],
        ),
        Rates(
            float(target.memory),
            target.ticks_per_byte(graph.ticks_per_second) if target.memory_mode == "overflow" else -1.0,
            target.overhead_ticks(graph.ticks_per_second),
        ),
        np.arange(graph.num_nodes, dtype=np.int64),
    )


def constrained(graph: CostGraph) -> bool:
    """Whether nodes are colocated or pinned."""
    return bool((graph.colocation >= 0).any() or (graph.pinned >= 0).any())


def share_stages(inst: Instance, label: IntArray) -> Instance:
    """Merge nodes with equal label, see :func:`stage_labels`, and keep pinned ones in their order."""
    return _with_pin_order(quotient(inst, label))


def _nets(graph: CostGraph, target: Target) -> Nets:
    """Return the nets that are paid for or take memory.

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
    return Nets(
        cost=np.where(second | free[origin], 0, graph.net_ticks(target)[origin]),
        producer=graph.net_producer[origin],
        pin=pin,
        size=np.where(doubled[origin] & ~second, 0, bytes_of),
        kept=pin | second,
        pair_net=np.repeat(np.arange(len(origin)), np.diff(graph.net_ptr)[origin]),
        pair_reader=np.concatenate([graph.net_consumers[:0], *(graph.consumers(t) for t in origin.tolist())]),
    )


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


def stage_labels(inst: Instance, graph: CostGraph, pins_name: str = "stage") -> IntArray:
    """Label original nodes so that those which must share a stage are equal.

    These are colocation groups, nodes pinned to one stage, and all nodes caught between: merging groups may
    close cycles, and everything on a cycle shares a stage, so the labels are the strongly connected
    components of the merged graph. (Stages do not decrease along a path.) Pinned nodes are linked in the
    order of what pins name: stages, or devices that hold a stage each.

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
                f"node {names[0]!r} is pinned to {pins_name} {low} and {names[1]!r} to {pins_name} {high}, "
                "but edges or colocation groups force them into one stage or into the other order"
            )
    return out


def _with_pin_order(inst: Instance) -> Instance:
    """Add free tensors from each pinned node to the next, so that every topological order respects pins."""
    pinned = np.flatnonzero(inst.pin >= 0)
    pinned = pinned[np.argsort(inst.pin[pinned], kind="stable")]
    if len(pinned) < 2:
        return inst
    links = len(pinned) - 1
    none = np.zeros(links, dtype=np.int64)
    no = np.zeros(links, dtype=np.bool_)
    nodes, nets, groups, rates = parts(inst)
    linked = Nets(
        np.append(nets.cost, none),
        np.append(nets.producer, pinned[:-1]),
        np.append(nets.pin, no),
        np.append(nets.size, none),
        np.append(nets.kept, no),
        np.append(nets.pair_net, inst.m + np.arange(links)),
        np.append(nets.pair_reader, pinned[1:]),
    )
    return assemble(nodes, linked, groups, rates, inst.node_of)
