"""A fleet instance as flat arrays, in which every device counts the nets and parameter groups of its kind.

Nets and groups of all kinds are numbered through; those of kind k that node v touches are the entries
``ptr[k * n + v] .. ptr[k * n + v + 1]`` of a list. A device counts how many members of each net of its kind
it holds at ``base[d] + net`` of one array for all devices.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from onnx_pipeline.graph.costgraph import BoolArray, IntArray
from onnx_pipeline.graph.target import INFEASIBLE
from onnx_pipeline.partition.fleets.instance import FleetInstance
from onnx_pipeline.partition.instance.hypergraph import Hypergraph, hypergraph


class Fabric(NamedTuple):
    """Arrays that the kernels run on: n nodes, D devices, K kinds, M nets and G groups of all kinds."""

    work: IntArray  # [K, n], INFEASIBLE where a kind cannot run a node
    need: IntArray  # [K, n] activation bytes that a device with this node usually needs
    net_ptr: IntArray  # [K * n + 1]
    nets: IntArray
    cost: IntArray  # [M]
    always: BoolArray  # [M] paid by every device that touches it
    size: IntArray  # [M] members
    use_ptr: IntArray  # [K * n + 1]
    uses: IntArray
    group_bytes: IntArray  # [G]
    memory: npt.NDArray[np.float64]  # [K]
    rate: npt.NDArray[np.float64]  # [K] ticks per byte that does not fit
    step: IntArray  # [K] ticks for not fitting at all
    alpha: IntArray  # [K]
    kind: IntArray  # [D]
    net_base: IntArray  # [D + 1] the last one is the length of all counts
    group_base: IntArray  # [D + 1]
    most: int  # stages per device
    fine: int  # price of each stage beyond them
    pred_ptr: IntArray  # [n + 1]
    pred: IntArray
    succ_ptr: IntArray  # [n + 1]
    succ: IntArray

    @property
    def n(self) -> int:
        """Number of nodes."""
        return int(self.work.shape[1])


def fabric(inst: FleetInstance) -> Fabric:
    """Lay an instance out.

    What is forbidden has a price here, so that a search finds out of it: to exceed a hard limit costs all of
    the model's work, and that again times the part of the memory that is lacking. Each stage too many costs
    all of it, too.
    """
    fleet = inst.fleet
    # What a stage will probably need for activations, not what it must: this serves a search, no proof.
    kinds = [hypergraph(each._replace(need=each.usual), whole=True)[0] for each in inst.kinds]
    first_net = np.cumsum([0, *(len(h.cost) for h in kinds)])
    first_group = np.cumsum([0, *(len(h.group_bytes) for h in kinds)])
    kind = np.array(fleet.devices, dtype=np.int64)
    everything = 1 + sum(int(least) for least in inst.least_work if least < INFEASIBLE)
    net_ptr, nets = _joined([h.node_ptr for h in kinds], [h.node_net for h in kinds], first_net)
    use_ptr, uses = _joined([h.use_ptr for h in kinds], [h.use_group for h in kinds], first_group)
    return Fabric(
        work=np.array([h.work for h in kinds]).reshape(len(kinds), -1),
        need=np.array([h.need for h in kinds]).reshape(len(kinds), -1),
        net_ptr=net_ptr,
        nets=nets,
        cost=np.concatenate([h.cost for h in kinds]),
        always=np.concatenate([h.always for h in kinds]),
        size=np.concatenate([np.diff(h.net_ptr) for h in kinds]),
        use_ptr=use_ptr,
        uses=uses,
        group_bytes=np.concatenate([h.group_bytes for h in kinds]),
        memory=np.array([h.memory for h in kinds], dtype=np.float64),
        rate=np.array([_rate(h, everything) for h in kinds], dtype=np.float64),
        step=np.array([everything if h.ns_per_byte < 0 else 0 for h in kinds], dtype=np.int64),
        alpha=np.array([h.alpha for h in kinds], dtype=np.int64),
        kind=kind,
        net_base=_bases(np.diff(first_net)[kind], first_net[kind]),
        group_base=_bases(np.diff(first_group)[kind], first_group[kind]),
        most=inst.n if fleet.stages_per_device is None else fleet.stages_per_device,
        fine=everything,
        pred_ptr=kinds[0].pred_ptr,
        pred=kinds[0].pred,
        succ_ptr=kinds[0].succ_ptr,
        succ=kinds[0].succ,
    )


def _rate(h: Hypergraph, everything: int) -> float:
    """Ticks per byte beyond the memory of a kind."""
    if h.ns_per_byte >= 0 or not math.isfinite(h.memory):
        return max(0.0, h.ns_per_byte)
    return everything / max(1.0, h.memory)


def _joined(ptrs: list[IntArray], lists: list[IntArray], first: IntArray) -> tuple[IntArray, IntArray]:
    """Put the lists of all kinds one after the other, and number their members through."""
    lengths = np.concatenate([np.diff(ptr) for ptr in ptrs])
    members = [each + start for each, start in zip(lists, first.tolist(), strict=False)]
    return np.append(0, np.cumsum(lengths)).astype(np.int64), np.concatenate(members).astype(np.int64)


def _bases(lengths: IntArray, first: IntArray) -> IntArray:
    """Return where each device's counts begin, less the number of the first of them."""
    starts = np.append(0, np.cumsum(lengths)).astype(np.int64)
    starts[:-1] -= first
    return starts
