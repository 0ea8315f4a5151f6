"""Fleets: devices that differ, and the objective on them, written plainly: the only definition there is.

A fleet is a line of devices of several kinds. Every kind has a target of its own (links, memory, overheads)
and does a node's work in a time of its own, ``CostGraph.work_on``; a node that a kind cannot run takes
``INFEASIBLE`` there. A placement is a partition into stages and the device of every stage.

What a device has to do is what :func:`onnx_pipeline.graph.objective.price_stages` says of the block V_d of
all nodes that are on it, with the target and the work of its kind, and alpha again for each further stage:

    load(d) = alpha_d * (stages on d) + work_d(V_d) + overflow_d(V_d)
              + io_d(V \\ V_d, V_d) + io_d(V_d, V \\ V_d)

So each side of a transfer pays at the rate of its own device, a tensor enters a device once, one that stays
on its device costs nothing, and a device holds every parameter group once. With one stage per device, this is
cost(S) of Archer et al. 2024, section 2, for the device of S. Stages run one after the other, so they are
numbered along the tensors; devices that hold several stages need not be.

    bottleneck = max over devices of load(d)

``CostGraph.pinned`` names the device of a node here. Pinning one to a kind means that no other can run it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np

from onnx_pipeline.errors import UsageError
from onnx_pipeline.figures import format_count
from onnx_pipeline.graph.costgraph import CostGraph, IntArray
from onnx_pipeline.graph.objective import StageCost, check_partition, price_stages
from onnx_pipeline.graph.target import Target


@dataclass(frozen=True)
class Kind:
    """Devices that are alike.

    Attributes
    ----------
    name : str
        Under which ``CostGraph.work_on`` has their work; a graph's own ``work`` serves all other kinds.
    target : Target
        Link, memory and overheads of each.
    """

    name: str
    target: Target


@dataclass(frozen=True)
class FleetTarget:
    """The partitioner's view of a fleet.

    Attributes
    ----------
    kinds : tuple of Kind
        With names of their own.
    devices : tuple of int
        Kind of every device, in their order.
    free : bool
        Whether stages may take the devices in any order. If not, later stages are on later devices; either
        way, devices may stay empty.
    stages_per_device : int or None
        At most so many stages on one device; None for any number. With more than one, order means nothing.

    Raises
    ------
    UsageError
        If there is no device, or one is of no kind.
    """

    kinds: tuple[Kind, ...]
    devices: tuple[int, ...]
    free: bool = False
    stages_per_device: int | None = 1

    def __post_init__(self) -> None:
        """Check that everything fits together."""
        names = [kind.name for kind in self.kinds]
        if len(set(names)) < len(names):
            raise UsageError(f"two kinds of device are called {max(names, key=names.count)!r}")
        if not self.devices or not all(0 <= kind < len(names) for kind in self.devices):
            raise UsageError("a fleet has at least one device, each of a kind it names")
        if len({kind.target.host_io for kind in self.kinds}) > 1:
            raise UsageError("host transfers are paid for by all devices of a fleet or by none")
        if self.stages_per_device is not None and self.stages_per_device < 1:
            raise UsageError(f"stages_per_device must be at least 1, got {self.stages_per_device}")

    @property
    def shared(self) -> bool:
        """Whether a device may hold several stages."""
        return self.stages_per_device != 1

    @property
    def counts(self) -> tuple[int, ...]:
        """Number of devices of each kind."""
        return tuple(self.devices.count(kind) for kind in range(len(self.kinds)))

    def kind_of(self, device: int) -> Kind:
        """Kind of a device."""
        return self.kinds[self.devices[device]]


def graph_on(graph: CostGraph, kind: Kind) -> CostGraph:
    """Return the graph with the work that its nodes are for devices of a kind."""
    works = graph.work_on or {}
    return replace(graph, work=works[kind.name], work_on=None) if kind.name in works else graph


def device_loads(
    graph: CostGraph,
    fleet: FleetTarget,
    stage_of: Sequence[int] | IntArray,
    device_of: Sequence[int],
    *,
    up: bool = False,
) -> list[StageCost]:
    """Evaluate the objective on devices that differ.

    Parameters
    ----------
    graph : CostGraph
    fleet : FleetTarget
    stage_of : sequence of int, length n
        Stage of every node, in ``range(len(device_of))``.
    device_of : sequence of int
        Device of every stage.
    up : bool
        Round what targets charge up instead of down.

    Returns
    -------
    list of StageCost, one per device
        Devices without nodes cost nothing. One that cannot run a node of its own, or that a hard memory limit
        is too small for, costs ``INFEASIBLE`` or more.

    Raises
    ------
    UsageError
        If a tensor flows backwards, or a stage is on a device that it must not take.
    """
    wrong = check_placement(graph, fleet, stage_of, device_of)
    if wrong:
        raise UsageError(f"not a placement: {wrong[0]}")
    return price_devices(graph, fleet, stage_of, device_of, up=up)


def price_devices(
    graph: CostGraph,
    fleet: FleetTarget,
    stage_of: Sequence[int] | IntArray,
    device_of: Sequence[int],
    *,
    up: bool = False,
) -> list[StageCost]:
    """Evaluate the objective as :func:`device_loads` does, whether or not stages can run."""
    stages = np.asarray(stage_of, dtype=np.int64)
    home = np.asarray(device_of, dtype=np.int64)[stages]
    further = Counter(device_of[s] for s in np.unique(stages).tolist())
    loads: list[StageCost] = [StageCost(0, 0, 0, 0, 0, 0, 0)] * len(fleet.devices)
    for number, kind in enumerate(fleet.kinds):
        costs = price_stages(graph_on(graph, kind), kind.target, home, len(fleet.devices), up=up)
        for device, cost in enumerate(costs):
            if fleet.devices[device] == number:
                loads[device] = replace(cost, overhead=cost.overhead * further[device])
    return loads


def check_placement(
    graph: CostGraph, fleet: FleetTarget, stage_of: Sequence[int] | IntArray, device_of: Sequence[int]
) -> list[str]:
    """Return all problems of a placement; an empty list means that it is valid."""
    free = replace(graph, pinned=np.full_like(graph.pinned, -1))
    wrong = check_partition(free, stage_of, len(device_of))
    most = len(fleet.devices)
    outside = [(s, d) for s, d in enumerate(device_of) if not 0 <= d < most]
    if wrong or outside:
        return wrong + [f"stage {s} is on device {d}, outside 0..{most - 1}" for s, d in outside]
    wrong += [
        f"node {graph.node_names[v]!r} is not on device {pin}, to which it is pinned"
        for v, pin in enumerate(graph.pinned.tolist())
        if pin >= 0 and device_of[int(stage_of[v])] != pin
    ]
    used = [(s, device_of[s]) for s in np.unique(np.asarray(stage_of)).tolist()]
    limit = fleet.stages_per_device
    for device, count in Counter(device for _, device in used).items():
        if limit is not None and count > limit:
            wrong.append(f"device {device} has {format_count(count, 'stage')}, at most {limit} may share it")
    if not fleet.free and not fleet.shared:
        wrong += [
            f"stage {s} is on device {d}, before device {before} of an earlier stage"
            for (_, before), (s, d) in pairwise(used)
            if d < before
        ]
    return wrong
