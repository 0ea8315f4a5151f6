"""Stages on devices that differ, in the form that documents, files and tables take."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from onnx_pipeline.figures import fleet_text
from onnx_pipeline.graph.activations import Schedule, stage_schedules
from onnx_pipeline.graph.costgraph import CostGraph, IntArray
from onnx_pipeline.graph.fleet import FleetTarget, price_devices
from onnx_pipeline.graph.objective import StageCost
from onnx_pipeline.graph.problem import Problem
from onnx_pipeline.graph.shares import stage_shares
from onnx_pipeline.graph.target import Target
from onnx_pipeline.partition.result import Partition, PartitionResult


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class FleetPartition(Partition):
    """Nodes of a graph divided into stages on devices that differ.

    Attributes
    ----------
    fleet : FleetTarget
    device_of : tuple of int
        Device of every stage; ``stages`` is their number.
    """

    fleet: FleetTarget
    device_of: tuple[int, ...]

    @classmethod
    def of(
        cls, graph: CostGraph, fleet: FleetTarget, stage_of: IntArray, device_of: tuple[int, ...]
    ) -> FleetPartition:
        """Return stages and their devices; ``target`` is the least of every figure."""
        return cls(graph, summary(fleet), len(device_of), stage_of, fleet=fleet, device_of=device_of)

    @cached_property
    def ticks(self) -> int:
        """Largest load of a device as searches count it, rounded down."""
        loads = price_devices(self.graph, self.fleet, self.stage_of, self.device_of)
        return max(load.total for load in loads)

    @cached_property
    def loads(self) -> list[StageCost]:
        """Load of every device, recomputed by the one objective; what targets charge is rounded up."""
        return price_devices(self.graph, self.fleet, self.stage_of, self.device_of, up=True)

    @cached_property
    def costs(self) -> list[StageCost]:
        """What every stage adds to the load of its device."""
        return stage_shares(self.graph, self.fleet, self.stage_of, self.device_of, up=True)

    @property
    def bottleneck(self) -> float:
        """Largest load of a device in seconds, rounded up."""
        return self.graph.seconds(max(load.total for load in self.loads))

    @property
    def schedules(self) -> list[Schedule]:
        """Execution order and peak of live activations of every stage."""
        rooms = []
        for cost, device in zip(self.costs, self.device_of, strict=True):
            target = self.fleet.kind_of(device).target
            alone = self.device_of.count(device) == 1
            rooms.append(target.memory - cost.parameter_bytes if alone and target.activations else math.inf)
        return stage_schedules(self.graph, self.stage_of, self.stages, rooms)


@dataclass(frozen=True, eq=False, repr=False)
class FleetResult(PartitionResult):
    """A partition on devices that differ, its certificate and the record of the search.

    Attributes
    ----------
    running : tuple of mapping
        By kind: ``device``, ``provider``, ``provider_options`` and ``threads`` of its stages, where known.
    """

    running: tuple[Mapping[str, Any], ...] = field(default=())

    @property
    def placed(self) -> FleetPartition:
        """The partition, with its devices."""
        assert isinstance(self.partition, FleetPartition)
        return self.partition

    @property
    def fleet(self) -> FleetTarget:
        """The devices."""
        return self.placed.fleet

    @property
    def device_of(self) -> tuple[int, ...]:
        """Device of every stage."""
        return self.placed.device_of

    @property
    def loads(self) -> list[StageCost]:
        """Load of every device."""
        return self.placed.loads

    @property
    def problem(self) -> Problem:
        """What the bounds are about."""
        order = "any" if self.fleet.free or self.fleet.shared else "fixed"
        count = len(self.fleet.devices)
        return Problem("bottleneck", count, False, self.fleet.stages_per_device, order)


def summary(fleet: FleetTarget) -> Target:
    """Return one target for what needs only one: the least of every figure of the kinds."""
    targets = [kind.target for kind in fleet.kinds]
    return Target(
        bandwidth=min(target.bandwidth for target in targets),
        memory=min(target.memory for target in targets),
        transfer_latency=max(target.transfer_latency for target in targets),
        stage_overhead=max(target.stage_overhead for target in targets),
        host_io=targets[0].host_io,
        name=fleet_text([kind.name for kind in fleet.kinds], fleet.devices, free=fleet.free),
        memory_mode="hard" if any(target.memory_mode == "hard" for target in targets) else "overflow",
        activations=any(target.activations for target in targets),
    )
