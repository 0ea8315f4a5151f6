"""What every placement pays at least, whatever is where: a load for every node and kind of device.

A tensor that the host writes or reads is paid by every device that touches it, so all of it is added to one
node that does, its producer or else its first reader; and a parameter group is held wherever it is used, so
its bytes count at its first user. Then, for the nodes V_d on a device d of kind k,

    load(d) >= alpha_k + sum of load_k(v) over V_d + overflow of (sum of held(v) over V_d)

with one stage per device as with several, in any order. A node that is pinned to a device can run on that
device's kind only, and one that does not fit into a hard limit by itself not at all.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from onnx_pipeline.graph.costgraph import HOST, IntArray
from onnx_pipeline.graph.target import INFEASIBLE
from onnx_pipeline.partition.fleets.instance import FleetInstance
from onnx_pipeline.partition.instance.instance import Instance


class Demand(NamedTuple):
    """What nodes ask for, and what kinds of device have."""

    load: IntArray  # [kinds, n] ticks, INFEASIBLE where a kind cannot run a node
    held: IntArray  # [n] bytes of parameters
    devices: tuple[int, ...]  # of each kind
    alpha: tuple[int, ...]  # ticks of a device that is used
    memory: tuple[float, ...]  # bytes of a device
    rate: tuple[float, ...]  # ticks per byte of overflow, negative for a hard limit


def demand(inst: FleetInstance) -> Demand:
    """Return what the nodes of an instance ask for."""
    line = np.array(inst.fleet.devices)
    load = np.stack([_loads(kind) for kind in inst.kinds])
    pin = inst.kinds[0].pin
    for kind, row in enumerate(load):
        row[(pin >= 0) & (line[pin] != kind)] = INFEASIBLE
    widest = max(inst.kinds, key=lambda kind: len(kind.use_group))
    held = np.zeros(inst.n, dtype=np.int64)
    users = np.repeat(np.arange(inst.n), np.diff(widest.use_ptr))
    groups, first = np.unique(widest.use_group, return_index=True)
    np.add.at(held, users[first], widest.group_bytes[groups])
    return Demand(
        load,
        held,
        inst.fleet.counts,
        tuple(kind.alpha for kind in inst.kinds),
        tuple(kind.memory for kind in inst.kinds),
        tuple(kind.ns_per_byte for kind in inst.kinds),
    )


def _loads(inst: Instance) -> IntArray:
    """Work of every node and the tensors of the host that are paid with it, on devices of one kind."""
    load = inst.work.copy()
    for t in np.flatnonzero((inst.net_prod == HOST) | inst.net_pin).tolist():
        producer = int(inst.net_prod[t])
        readers = inst.net_cons[inst.net_ptr[t] : inst.net_ptr[t + 1]]
        load[readers.min() if producer == HOST else producer] += inst.net_cost[t]
    if inst.ns_per_byte < 0:
        own = inst.need.copy()
        np.add.at(own, np.repeat(np.arange(inst.n), np.diff(inst.use_ptr)), inst.group_bytes[inst.use_group])
        load[own > inst.memory] = INFEASIBLE
    load[inst.work >= INFEASIBLE] = INFEASIBLE
    return load
