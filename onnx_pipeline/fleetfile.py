"""What manifests and plans say of devices that differ: written, and read back.

Times in seconds, sizes in bytes, null for "no limit".
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from onnx_pipeline.errors import UsageError
from onnx_pipeline.graph.activations import stage_schedules
from onnx_pipeline.graph.fleet import FleetTarget, Kind, graph_on
from onnx_pipeline.graph.objective import StageCost, price_stages
from onnx_pipeline.graph.target import INFEASIBLE, Target
from onnx_pipeline.graph.ticks import NS, whole

if TYPE_CHECKING:
    from onnx_pipeline.graph.costgraph import CostGraph
    from onnx_pipeline.partition.placed import FleetResult

#: Figures of a target by their names in documents.
_FIGURES = {
    "bandwidth_bytes_per_second": "bandwidth",
    "memory_bytes": "memory",
    "memory_mode": "memory_mode",
    "activations": "activations",
    "transfer_latency_seconds": "transfer_latency",
    "stage_overhead_seconds": "stage_overhead",
}


def fleet_fields(result: FleetResult) -> dict[str, Any]:
    """Return the ``target`` object: what all kinds have in common, and ``fleet`` with each of them."""
    kinds = [
        {"name": kind.name, **running, **_figures(kind.target)}
        for kind, running in zip(result.fleet.kinds, _running(result), strict=True)
    ]
    common = {key: kinds[0][key] for key in _FIGURES if all(k[key] == kinds[0][key] for k in kinds)}
    limits = {"bandwidth_bytes_per_second": None, "memory_bytes": None}
    return {
        "device": result.target.name,
        "stages": result.stages,
        **limits,
        **common,
        "host_io": result.target.host_io,
        "fleet": {
            "kinds": kinds,
            "devices": list(result.fleet.devices),
            "free": result.fleet.free,
            "stages_per_device": result.fleet.stages_per_device,
        },
    }


def _figures(target: Target) -> dict[str, Any]:
    values = {key: getattr(target, name) for key, name in _FIGURES.items()}
    return {key: None if value == math.inf else value for key, value in values.items()}


def _running(result: FleetResult) -> Sequence[Mapping[str, Any]]:
    return result.running or [{}] * len(result.fleet.kinds)


def read_fleet(entry: Mapping[str, Any]) -> tuple[FleetTarget, tuple[Mapping[str, Any], ...]]:
    """Return the devices of a ``target`` object with a fleet, and by kind what runs stages there.

    Raises
    ------
    UsageError
        If a figure is out of its range, or the parts do not fit each other.
    """
    fleet = entry["fleet"]
    kinds = []
    for each in fleet["kinds"]:
        figures = {name: each[key] for key, name in _FIGURES.items() if key in each}
        limits: dict[str, Any] = {n: math.inf if value is None else value for n, value in figures.items()}
        kinds.append(Kind(each["name"], Target(**limits, host_io=entry["host_io"], name=each["name"])))
    target = FleetTarget(tuple(kinds), tuple(fleet["devices"]), fleet["free"], fleet["stages_per_device"])
    running = tuple({key: k[key] for key in RUNNING if key in k} for k in fleet["kinds"])
    return target, running


#: What an entry of ``kinds`` says of how its stages run.
RUNNING = ("device", "provider", "provider_options", "threads")


def device_fields(result: FleetResult, stage: int) -> dict[str, Any]:
    """Return what the entry of a stage says of its device: its place, and what it runs with."""
    device = result.device_of[stage]
    running = _running(result)[result.fleet.devices[device]]
    fields: dict[str, Any] = {"device": device}
    if "provider" in running:
        options = dict(running.get("provider_options", {}))
        fields["providers"] = [{"name": running["provider"], "options": options}]
    if "threads" in running:
        fields["threads"] = running["threads"]
    return fields


def loads_fields(result: FleetResult) -> dict[str, Any]:
    """Return what a certificate says of every device, and of the devices of every kind."""
    seconds = result.graph.seconds
    return {
        "loads_seconds": [seconds(load.total) for load in result.loads],
        "kinds": [_kind_fields(result, number) for number in range(len(result.fleet.kinds))],
    }


def _kind_fields(result: FleetResult, number: int) -> dict[str, Any]:
    """Return how much devices of a kind do, and what they would need at least without the others."""
    fleet, graph = result.fleet, result.graph
    mine = [device for device, kind in enumerate(fleet.devices) if kind == number]
    homes = np.asarray(result.device_of, dtype=np.int64)[result.stage_of]
    share = int(graph.work[np.isin(homes, mine)].sum())
    work = graph_on(graph, fleet.kinds[number]).work
    alone = None
    if mine and (work < INFEASIBLE).all():
        alone = graph.seconds(int(work.sum()) // len(mine))
    return {
        "name": fleet.kinds[number].name,
        "devices": len(mine),
        "used": len({*mine} & {*result.device_of}),
        "work_share": share / max(1, int(graph.work.sum())),
        "alone_seconds": alone,
    }


def whole_fields(result: FleetResult) -> dict[str, Any]:
    """Return what one device would do alone, and a replica of the whole model on each that can run it."""
    from onnx_pipeline.sizing import latency_seconds

    whole = [_whole(result.graph, kind) for kind in result.fleet.kinds]
    seconds = [result.graph.seconds(cost.total) if cost.total < INFEASIBLE else None for cost in whole]
    served = [seconds[kind] for kind in result.fleet.devices]
    able = [time for time in served if time is not None]
    used = {*result.fleet.devices}
    best = min((seconds[kind] or 0.0 for kind in used if seconds[kind] is not None), default=None)
    return {
        "one_device_seconds": best,
        "latency_seconds": latency_seconds(result),
        "replicas": {
            "rate_per_second": sum(1 / time for time in able) if able and all(able) else None,
            "latency_seconds": best,
            "memory_bytes": _held(result.graph),
            "fits": bool(able) and not any(whole[k].overflow for k in used if seconds[k] is not None),
            "devices": len(able),
        },
    }


def _whole(graph: CostGraph, kind: Kind) -> StageCost:
    everything = np.zeros(graph.num_nodes, dtype=np.int64)
    return price_stages(graph_on(graph, kind), kind.target, everything, 1, up=True)[0]


def _held(graph: CostGraph) -> int:
    """Return the bytes that the whole model holds: its parameters and the peak of live activations."""
    whole = np.zeros(graph.num_nodes, dtype=np.int64)
    peak = stage_schedules(graph, whole, 1, [math.inf])[0].peak
    return price_stages(graph, Target(), whole, 1)[0].parameter_bytes + peak


def work_fields(graph: CostGraph) -> dict[str, Any]:
    """Return what a plan says of the work on every kind, which the file of its costs need not have.

    Nanoseconds by kind in the order of the nodes, null where a kind cannot run one.
    """
    if graph.work_on is None:
        return {}
    ns = NS / graph.ticks_per_second
    return {
        "work_on_ns": {
            kind: [None if ticks >= INFEASIBLE else ticks * ns for ticks in work.tolist()]
            for kind, work in graph.work_on.items()
        }
    }


def with_work(graph: CostGraph, entry: Mapping[str, Any]) -> CostGraph:
    """Return a graph with the work that the ``graph`` object of a plan has.

    Raises
    ------
    UsageError
        If that is for another number of nodes.
    """
    columns = entry.get("work_on_ns")
    if columns is None:
        return graph
    scale = graph.ticks_per_second / NS
    work_on = {}
    for kind, times in columns.items():
        if len(times) != graph.num_nodes:
            raise UsageError(f"the work on {kind!r} is not that of {graph.num_nodes} nodes")
        ticks = whole([0.0 if time is None else time * scale for time in times])
        work_on[kind] = np.where([time is None for time in times], INFEASIBLE, ticks)
    kinds = {key: value for key, value in entry.get("meta", {}).items() if key == "kinds"}
    return replace(graph, work_on=work_on, meta={**graph.meta, **kinds})
