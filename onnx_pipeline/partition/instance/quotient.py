"""Merging nodes of an instance, and putting one together from pairs."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from onnx_pipeline.graph.costgraph import HOST, BoolArray, IntArray
from onnx_pipeline.partition.instance.csr import flatten, invert, member_lists
from onnx_pipeline.partition.instance.instance import Instance


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
    return assemble(
        Nodes(
            _merge(np.add, label, inst.work, 0),
            _merge(np.maximum, label, inst.need, 0),
            _merge(np.maximum, label, inst.usual, 0),
            _merge(np.maximum, label, inst.pin, -1),
        ),
        Nets(inst.net_cost, producer, inst.net_pin, inst.net_bytes, inst.net_kept),
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


class Nodes(NamedTuple):
    """What every node has, as arrays of length n; fields as in :class:`Instance`."""

    work: IntArray
    need: IntArray
    usual: IntArray
    pin: IntArray


class Nets(NamedTuple):
    """What every net has, as arrays of length m, before equal nets are merged."""

    cost: IntArray
    producer: IntArray
    pin: BoolArray
    size: IntArray
    kept: BoolArray


def assemble(
    nodes: Nodes,
    nets: Nets,
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
    lists = member_lists(len(nets.cost), n, pair_net[inner], pair_node[inner])
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
    for g, users in enumerate(member_lists(len(group_bytes), n, pair_group, pair_user)):
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
    net_ptr, flat = flatten(net_cons)
    in_ptr, in_net = invert(n, flat, np.repeat(indices, np.diff(net_ptr)))
    produced = net_prod != HOST
    out_ptr, out_net = invert(n, net_prod[produced], indices[produced])
    group_ptr, group_flat = flatten(group_users)
    use_ptr, use_group = invert(n, group_flat, np.repeat(np.arange(len(bytes_of)), np.diff(group_ptr)))
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
