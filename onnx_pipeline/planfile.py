"""PLAN.json: a partition of a cost graph with its certificate, under the manifest's field names."""

from __future__ import annotations

import csv
import json
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from onnx_pipeline import fleetfile
from onnx_pipeline.arrangement import lacking
from onnx_pipeline.errors import InputError
from onnx_pipeline.figures import format_count
from onnx_pipeline.files.atomic import new_file
from onnx_pipeline.files.kinds import refuse_other
from onnx_pipeline.graph.demanded import constraints
from onnx_pipeline.graph.objective import StageCost, price_stages
from onnx_pipeline.graph.target import INFEASIBLE, Target
from onnx_pipeline.sizing import alternatives

if TYPE_CHECKING:
    from onnx_pipeline.partition.placed import FleetResult
    from onnx_pipeline.partition.result import Bound, HistoryPoint
    from onnx_pipeline.replica_plan import ReplicaPlan
    from onnx_pipeline.solution import Solution

FORMAT = "onnx-pipeline/plan"
FORMAT_VERSION = 1


def plan_document(result: Solution, file: str | os.PathLike[str] | None = None) -> dict[str, Any]:
    """Return the PLAN.json document: times in seconds, sizes in bytes, null for "no limit".

    Parameters
    ----------
    result : PartitionResult or ReplicaPlan
    file : path-like, optional
        The graph's file, named in the document together with its SHA-256.
    """
    from onnx_pipeline import __version__

    graph: dict[str, Any] = {
        "name": result.graph.name,
        "nodes": result.graph.num_nodes,
        "tensors": result.graph.num_nets,
        "meta": {key: value for key, value in result.graph.meta.items() if key != "node_spread"},
        **fleetfile.work_fields(result.graph),
    }
    if file is not None:
        import hashlib

        graph |= {"file": os.fspath(file), "sha256": hashlib.sha256(Path(file).read_bytes()).hexdigest()}
    demands = constraints(result.graph, exactly=result.partition.exactly)
    return {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "tool": {"name": "onnx-pipeline", "version": __version__},
        "graph": graph,
        "target": devices_fields(result),
        **({} if demands is None else {"constraints": demands}),
        "certificate": certificate_fields(result),
        "search": search_fields(result),
        "stages": [
            {
                "index": index,
                "nodes": cost.nodes,
                "node_names": [
                    name
                    for name, stage in zip(result.graph.node_names, result.stage_of, strict=True)
                    if stage == index
                ],
                "cost": cost_fields(cost, result.graph.ticks_per_second),
                "parameter_bytes": cost.parameter_bytes,
                "peak_activation_bytes": schedule.peak,
                **serving_fields(result, index),
            }
            for index, (cost, schedule) in enumerate(zip(result.costs, result.schedules, strict=True))
            if cost.nodes
        ],
    }


def write_log(history: Sequence[HistoryPoint], path: str | os.PathLike[str]) -> None:
    """Write the history of a search as CSV: seconds, method, bottleneck_seconds, lower_bound_seconds."""
    with new_file(Path(path)) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["seconds", "method", "bottleneck_seconds", "lower_bound_seconds"])
        for point in history:
            upper = point.bottleneck if math.isfinite(point.bottleneck) else ""  # nothing fits so far
            writer.writerow([f"{point.seconds:.4f}", point.method, upper, point.lower_bound])


def target_fields(target: Target, stages: int) -> dict[str, Any]:
    """Return the ``target`` object."""
    return {
        "device": target.name,
        "stages": stages,
        "bandwidth_bytes_per_second": _finite(target.bandwidth),
        "memory_bytes": _finite(target.memory),
        "memory_mode": target.memory_mode,
        "activations": target.activations,
        "transfer_latency_seconds": target.transfer_latency,
        "stage_overhead_seconds": target.stage_overhead,
        "host_io": target.host_io,
    }


def devices_fields(result: Solution) -> dict[str, Any]:
    """Return the ``target`` object of a solution: with ``devices`` or ``fleet`` where it is about these."""
    placed = on_fleet(result)
    if placed is not None:
        return fleetfile.fleet_fields(placed)
    fields = target_fields(result.target, result.stages)
    return fields | {"devices": result.problem.devices} if result.problem.replicas else fields


def serving_fields(result: Solution, stage: int) -> dict[str, Any]:
    """Return what the entry of a stage says of its devices."""
    placed = on_fleet(result)
    if placed is not None:
        return fleetfile.device_fields(placed, stage)
    plan = _with_replicas(result)
    return {} if plan is None else {"replicas": plan.replicas[stage]}


def _with_replicas(result: Solution) -> ReplicaPlan | None:
    """Return a solution whose stages may have replicas as what it is, else None."""
    return cast("ReplicaPlan", result) if result.problem.replicas else None


def on_fleet(result: Solution) -> FleetResult | None:
    """Return a solution for devices that differ as what it is, else None."""
    return cast("FleetResult", result) if result.problem.order != "identical" else None


def read_target(entry: Mapping[str, Any]) -> Target:
    """Return the devices of a ``target`` object, as :func:`target_fields` wrote it or as a manifest has it.

    Raises
    ------
    UsageError
        If a figure is out of its range.
    """

    def limit(key: str) -> float:
        return math.inf if entry[key] is None else float(entry[key])

    return Target(
        bandwidth=limit("bandwidth_bytes_per_second"),
        memory=limit("memory_bytes"),
        transfer_latency=entry.get("transfer_latency_seconds", 0.0),
        stage_overhead=entry.get("stage_overhead_seconds", 0.0),
        host_io=entry["host_io"],
        memory_mode=entry.get("memory_mode", "overflow"),
        activations=entry.get("activations", False),
        name=entry["device"],
    )


def certificate_fields(result: Solution) -> dict[str, Any]:
    """Return the ``certificate`` object."""
    placed = on_fleet(result)
    if placed is None:
        compared = {"one_device_seconds": one_device_seconds(result), **alternatives(result)}
    else:
        compared = {**fleetfile.whole_fields(placed), **fleetfile.loads_fields(placed)}
    return {
        "bottleneck_seconds": result.bottleneck,
        "lower_bound_seconds": result.lower_bound,
        "ratio": result.ratio,
        "gap": result.gap,
        "status": result.status,
        "problem": result.problem.to_json(),
        "costs": costs_text(result),
        **compared,
        **_staged(result),
        "bounds": [_bound(result, bound) for bound in result.bounds],
    }


def _staged(result: Solution) -> dict[str, Any]:
    """Return what equal replicas of two or more stages would do instead, of a plan with replicas."""
    plan = _with_replicas(result)
    if plan is None:
        return {}
    own = plan.staged_partition
    if own is None or plan.staged is None:
        return {"staged": None}
    return {"staged": plan.staged.to_json() | {"stage_of": own.stage_of.tolist()}}


def _bound(result: Solution, bound: Bound) -> dict[str, Any]:
    """Return an entry of ``bounds``; of a period, which is a fraction of ticks, also its exact value."""
    entry = bound.to_json()
    if result.problem.objective == "period":
        entry |= {"ticks": bound.ticks, "ticks_per_second": bound.ticks_per_second}
    return entry


def search_fields(result: Solution) -> dict[str, Any]:
    """Return the ``search`` object; its ``history`` says when bottleneck or bound improved."""
    return {
        **result.search.to_json(),
        "history": [
            {
                "seconds": p.seconds,
                "method": p.method,
                "upper_seconds": _fitting(p.bottleneck, result.graph.ticks_per_second),
                "lower_seconds": p.lower_bound,
            }
            for p in result.search.history
        ],
    }


def costs_text(result: Solution) -> str:
    """Return which costs the certificate refers to."""
    kind = str(result.graph.meta.get("cost_model", "file"))
    times = result.graph.meta.get("corrections", 0)
    if not isinstance(times, int) or not times:  # of a file, where it may be anything
        return kind
    return f"{kind}, corrected by {format_count(times, 'measurement')} of the stages"


def cost_fields(cost: StageCost, ticks_per_second: int) -> dict[str, float]:
    """Return the ``cost`` object of one stage."""
    parts = ("total", "work", "input", "output", "overflow", "overhead")
    return {f"{part}_seconds": getattr(cost, part) / ticks_per_second for part in parts}


def one_device_seconds(result: Solution) -> float | None:
    """Cost of everything on one such device, which the speed-up compares with; None if it does not fit."""
    graph = result.graph
    (whole,) = price_stages(graph, result.target, np.zeros_like(result.stage_of), 1, up=True)
    return _fitting(graph.seconds(whole.total), graph.ticks_per_second)


def _fitting(seconds: float, ticks_per_second: int) -> float | None:
    """Return a cost; None for that of stages which break a hard limit."""
    return seconds if seconds * ticks_per_second < INFEASIBLE else None


def write_plan(document: dict[str, Any], path: Path) -> None:
    """Write PLAN.json in one piece: the file is complete or absent."""
    with new_file(path) as temporary:
        temporary.write_text(json.dumps(document, indent=1, allow_nan=False) + "\n", encoding="utf-8")


def read_plan(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Read PLAN.json and check it against its published schema.

    Raises
    ------
    InputError
        If the file cannot be read or is not a plan; the message names the place.
    """
    from onnx_pipeline.files.json import check_schema, read_json

    refuse_other(path, "plan")
    document = read_json(path)
    if not isinstance(document, dict) or document.get("format") != FORMAT:
        raise InputError(path, f'not a plan ("format": "{FORMAT}")', "`plan` makes one")
    if document.get("format_version") != FORMAT_VERSION:
        raise InputError(
            path, f"plan version {document.get('format_version')!r}; this program reads {FORMAT_VERSION}"
        )
    check_schema(document, "plan", path)
    for problem in _contradictions(document):
        raise InputError(path, problem)
    return document


def _contradictions(document: Mapping[str, Any]) -> Iterator[str]:
    """Yield one line per contradiction between the stages of a plan."""
    stages = document["stages"]
    numbers = [stage["index"] for stage in stages]
    if numbers != sorted(set(numbers)) or any(i >= document["target"]["stages"] for i in numbers):
        yield f"the stages are not numbered upwards from 0 to {document['target']['stages'] - 1}"
    yield from lacking(document["target"], document["certificate"])
    taken, there = sum(stage.get("replicas", 1) for stage in stages), document["target"].get("devices")
    if there is not None and taken > there:
        yield f"the stages take {taken} devices, there are {there}"
    seen: set[str] = set()
    for stage in stages:
        names = stage["node_names"]
        if stage["nodes"] != len(names):
            yield f"stage {stage['index']} has {format_count(len(names), 'node')}, not {stage['nodes']}"
        for name in names:
            if name in seen:
                yield f"node {name!r} is listed twice"
            seen.add(name)
    if len(seen) != document["graph"]["nodes"]:
        yield f"the stages hold {format_count(len(seen), 'node')}, the graph has {document['graph']['nodes']}"


def _finite(value: float) -> float | None:
    return None if math.isinf(value) else value
