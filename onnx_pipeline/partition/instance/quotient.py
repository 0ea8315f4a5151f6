"""Merging nodes of an instance, and putting one together from pairs."""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from typing import NamedTuple

import numpy as np

from onnx_pipeline.graph.costgraph import HOST, BoolArray, IntArray
from onnx_pipeline.graph.target import INFEASIBLE
from onnx_pipeline.partition.instance.csr import flatten, invert, member_lists
from onnx_pipeline.partition.instance.instance import Instance


class Nodes(NamedTuple):
    """What every node has, as arrays of length n; fields as in :class:`Instance`."""

    work: IntArray
    need: IntArray
    usual: IntArray
    pin: IntArray


class Nets(NamedTuple):
    """What every net has, as arrays of length m, and its readers as pairs; equal nets are merged later."""

    cost: IntArray
    producer: IntArray
    pin: BoolArray
    size: IntArray
    kept: BoolArray
    pair_net: IntArray
    pair_reader: IntArray


class Groups(NamedTuple):
    """Bytes of every parameter group, and its users as pairs; equal groups are merged later."""

    size: IntArray
    pair_group: IntArray
    pair_user: IntArray


class Rates(NamedTuple):
    """What the target asks for; fields as in :class:`Instance`."""

    memory: float
    ns_per_byte: float
    alpha: int


def parts(inst: Instance) -> tuple[Nodes, Nets, Groups, Rates]:
    """Take an instance apart; :func:`assemble` puts it together again."""
    pair_net = np.repeat(np.arange(inst.m), np.diff(inst.net_ptr))
    users = np.repeat(np.arange(inst.n), np.diff(inst.use_ptr))
    return (
        Nodes(inst.work, inst.need, inst.usual, inst.pin),
        Nets(
            inst.net_cost, inst.net_prod, inst.net_pin, inst.net_bytes, inst.net_kept, pair_net, inst.net_cons
        ),
        Groups(inst.group_bytes, inst.use_group, users),
        Rates(inst.memory, inst.ns_per_byte, inst.alpha),
    )


def quotient(inst: Instance, label: IntArray) -> Instance:
    """Merge all nodes with equal label; labels need not be consecutive.

    Nets with the same producer, consumers and pin become one net with the summed cost, and parameter
    groups with the same users one group with the summed bytes: the objective does not see the difference.
    """
    _, label = np.unique(label, return_inverse=True)
    label = label.astype(np.int64)
    nodes, nets, groups, rates = parts(inst)
    return assemble(
        Nodes(
            _merged_work(label, nodes.work),
            _merge(np.maximum, label, nodes.need, 0),
            _merge(np.maximum, label, nodes.usual, 0),
            _merge(np.maximum, label, nodes.pin, -1),
        ),
        nets._replace(
            producer=np.where(nets.producer == HOST, HOST, label[nets.producer]),
            pair_reader=label[nets.pair_reader],
        ),
        groups._replace(pair_user=label[groups.pair_user]),
        rates,
        label[inst.node_of],
    )


def _merged_work(label: IntArray, work: IntArray) -> IntArray:
    """Sum of the work of all nodes with the same label; ``INFEASIBLE`` where one of them is."""
    lost = work >= INFEASIBLE
    out = _merge(np.add, label, np.where(lost, 0, work), 0)
    out[label[lost]] = INFEASIBLE
    return out


def _merge(function: np.ufunc, label: IntArray, values: IntArray, start: int) -> IntArray:
    """Combine the values of all nodes with the same label."""
    out = np.full(int(label.max()) + 1 if len(label) else 0, start, dtype=np.int64)
    function.at(out, label, values)
    return out


def assemble(nodes: Nodes, nets: Nets, groups: Groups, rates: Rates, node_of: IntArray) -> Instance:
    """Normalise (net, reader) and (group, user) pairs into an Instance."""
    n = len(nodes.work)
    outside = nets.pair_reader != nets.producer[nets.pair_net]
    readers = member_lists(len(nets.cost), n, nets.pair_net[outside], nets.pair_reader[outside])
    ends = zip(nets.producer.tolist(), nets.pin.tolist(), nets.kept.tolist(), readers, strict=True)
    net, net_place = _equal(
        (producer, pin, kept, each.tobytes()) if len(each) or kept else None
        for producer, pin, kept, each in ends
    )
    users = member_lists(len(groups.size), n, groups.pair_group, groups.pair_user)
    group, group_place = _equal(
        each.tobytes() if len(each) and size else None
        for each, size in zip(users, groups.size.tolist(), strict=True)
    )
    indices = np.arange(len(net), dtype=np.int64)
    net_prod = nets.producer[net]
    net_ptr, net_cons = flatten([readers[t] for t in net])
    in_ptr, in_net = invert(n, net_cons, np.repeat(indices, np.diff(net_ptr)))
    produced = net_prod != HOST
    out_ptr, out_net = invert(n, net_prod[produced], indices[produced])
    group_ptr, members = flatten([users[g] for g in group])
    use_ptr, use_group = invert(n, members, np.repeat(np.arange(len(group)), np.diff(group_ptr)))
    return Instance(
        work=nodes.work.astype(np.int64),
        net_cost=_sums(nets.cost, net_place, len(net)),
        net_prod=net_prod,
        net_pin=nets.pin[net],
        net_ptr=net_ptr,
        net_cons=net_cons,
        in_ptr=in_ptr,
        in_net=in_net,
        out_ptr=out_ptr,
        out_net=out_net,
        use_ptr=use_ptr,
        use_group=use_group,
        group_bytes=_sums(groups.size, group_place, len(group)),
        net_bytes=_sums(nets.size, net_place, len(net)),
        net_kept=nets.kept[net],
        need=nodes.need.astype(np.int64),
        usual=nodes.usual.astype(np.int64),
        memory=rates.memory,
        ns_per_byte=rates.ns_per_byte,
        alpha=rates.alpha,
        pin=nodes.pin.astype(np.int64),
        node_of=node_of,
    )


def _equal(keys: Iterable[Hashable | None]) -> tuple[IntArray, IntArray]:
    """Return the first index of every distinct key, and each key's place among them, -1 for None."""
    places: dict[Hashable, int] = {}
    first: list[int] = []
    place: list[int] = []
    for i, key in enumerate(keys):
        if key is not None and key not in places:
            places[key] = len(first)
            first.append(i)
        place.append(-1 if key is None else places[key])
    return np.array(first, dtype=np.int64), np.array(place, dtype=np.int64)


def _sums(values: IntArray, place: IntArray, count: int) -> IntArray:
    """Sum of the values at each place; those at -1 are left out."""
    out = np.zeros(count, dtype=np.int64)
    np.add.at(out, place[place >= 0], values[place >= 0])
    return out
