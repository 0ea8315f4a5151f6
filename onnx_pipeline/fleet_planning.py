"""From a cost graph and a fleet to a certified plan that can be written."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Union

from onnx_pipeline.errors import Advice, UsageError
from onnx_pipeline.graph.constraints import Demands
from onnx_pipeline.parameters import PathLike, SearchParams, TargetParams
from onnx_pipeline.progress import Progress, silent

if TYPE_CHECKING:
    from onnx_pipeline.costmodel.fleets import Fleet
    from onnx_pipeline.graph.costgraph import CostGraph
    from onnx_pipeline.partition.placed import FleetResult

#: A fleet: read, as a table, or as a file.
FleetLike = Union["Fleet", Mapping[str, Any], PathLike]


def as_fleet(given: FleetLike) -> Fleet:
    """Return a fleet in whichever form it is given; see :func:`onnx_pipeline.costmodel.fleets.load_fleet`."""
    from onnx_pipeline.costmodel.fleets import load_fleet

    return load_fleet(given)


def chosen_fleet(
    given: FleetLike | None, stages_per_device: int | str | None, devices: TargetParams
) -> Fleet | None:
    """Return the fleet that options ask for; None if there is none.

    Parameters
    ----------
    given : Fleet, mapping, path-like or None
    stages_per_device : int, "any" or None
        In place of what the fleet says.
    devices : TargetParams
        Of devices that are alike: nothing of it may be given with a fleet.

    Raises
    ------
    UsageError
        If options contradict each other.
    InputError
        If the fleet's file is wrong.
    """
    if given is None:
        if stages_per_device is not None:
            hint = Advice("give {fleet}", fleet=...)
            raise UsageError("stages_per_device is for devices of a fleet", hint)
        return None
    for name, unset in (
        ("device", (None, "cpu")),
        ("bandwidth", (None,)),
        ("memory", (None,)),
        ("memory_mode", ("overflow",)),
        ("activations", (True,)),
    ):
        if getattr(devices, name) not in unset:
            raise UsageError(
                f"{name} and fleet exclude each other", f"give {name} of each device in its file"
            )
    fleet = as_fleet(given)
    if stages_per_device is None:
        return fleet
    from onnx_pipeline.costmodel.fleets import stages_per_device as read

    return replace(fleet, stages_per_device=read(stages_per_device))


def plan_on(
    graph: CostGraph, fleet: Fleet, search: SearchParams, demands: Demands, progress: Progress = silent
) -> FleetResult:
    """Find stages and their devices, and certify the bottleneck.

    Parameters
    ----------
    graph : CostGraph
        With the work of every kind.
    fleet : Fleet
    search : SearchParams
    demands : Demands
        Pins name devices.
    progress : Progress

    Raises
    ------
    UsageError
        If a name is unknown, or a pin names no device.
    InfeasibleError
        If no placement is found that runs.
    """
    from onnx_pipeline.partition.placed import FleetPartition, FleetResult
    from onnx_pipeline.partition.result import Certificate, SearchRecord
    from onnx_pipeline.placing import place

    found = place(
        demands.apply(graph),
        fleet.target(graph),
        time_limit=search.time_limit,
        gap=search.gap,
        seed=search.seed,
        progress=progress,
    )
    record = SearchRecord(
        methods=(found.method,),
        wall_seconds=found.seconds,
        seed=search.seed,
        interrupted=found.interrupted,
    )
    placed = FleetPartition.of(found.graph, found.fleet, found.stage_of, found.device_of)
    bounds = tuple(replace(bound, ticks_per_second=found.graph.ticks_per_second) for bound in found.bounds)
    return FleetResult(placed, Certificate(bounds), record, fleet.running)
