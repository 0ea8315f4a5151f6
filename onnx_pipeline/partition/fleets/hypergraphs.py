"""Hypergraphs of all kinds of device over the same nodes and nets, for the exact search.

A net is here what its members are and whether the host is one of them; one that a kind does not know, as it
costs nothing there, costs 0. A source is free if it is on every kind, and moves to its first reader as in
:mod:`onnx_pipeline.partition.instance.hypergraph`: on whichever kind either of the two stages is, its cost
does not rise.
"""

from __future__ import annotations

import numpy as np

from onnx_pipeline.graph.costgraph import IntArray
from onnx_pipeline.graph.target import INFEASIBLE
from onnx_pipeline.partition.fleets.instance import FleetInstance
from onnx_pipeline.partition.instance.csr import flatten, invert
from onnx_pipeline.partition.instance.hypergraph import Hypergraph, free_sources, hypergraph


def fleet_hypergraphs(inst: FleetInstance, *, reverse: bool = False) -> tuple[list[Hypergraph], IntArray]:
    """Build the hypergraph of every kind.

    Parameters
    ----------
    inst : FleetInstance
    reverse : bool
        Turn every precedence around.

    Returns
    -------
    list of Hypergraph
        They differ in what things cost. A node that is pinned to a device runs on that device's kind only.
    int64[n of inst]
        Node of the hypergraphs for each instance node, -1 for a free source.
    """
    free = np.logical_and.reduce([free_sources(kind) for kind in inst.kinds])
    each = [hypergraph(kind, reverse=reverse, free=free) for kind in inst.kinds]
    index = each[0][1]
    plain = [hyper for hyper, _ in each]
    places: dict[tuple[bool, bytes], int] = {}
    members: list[IntArray] = []
    place = []
    for hyper in plain:
        where = np.zeros(len(hyper.cost), dtype=np.int64)
        for t, always in enumerate(hyper.always.tolist()):
            own = hyper.members[hyper.net_ptr[t] : hyper.net_ptr[t + 1]]
            where[t] = places.setdefault((always, own.tobytes()), len(members))
            if where[t] == len(members):
                members.append(own)
        place.append(where)
    net_ptr, flat = flatten(members)
    n = len(plain[0].work)
    node_ptr, node_net = invert(n, flat, np.repeat(np.arange(len(members)), np.diff(net_ptr)))
    widest = max(plain, key=lambda hyper: len(hyper.use_group))
    common = widest._replace(
        always=np.array([always for always, _ in places], dtype=np.bool_),
        net_ptr=net_ptr,
        members=flat,
        node_ptr=node_ptr,
        node_net=node_net,
    )
    line = np.array(inst.fleet.devices)
    found = []
    for kind, (hyper, where) in enumerate(zip(plain, place, strict=True)):
        cost = np.zeros(len(members), dtype=np.int64)
        np.add.at(cost, where, hyper.cost)
        elsewhere = (hyper.pin >= 0) & (line[hyper.pin] != kind)
        found.append(
            common._replace(
                work=np.where(elsewhere, INFEASIBLE, np.minimum(hyper.work, INFEASIBLE)),
                cost=cost,
                need=hyper.need,
                memory=hyper.memory,
                ns_per_byte=hyper.ns_per_byte,
                alpha=hyper.alpha,
            )
        )
    return found, index
