"""What a split or a plan says of devices that differ: recomputed from its costs."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from onnx_pipeline import fleetfile
from onnx_pipeline.errors import UsageError
from onnx_pipeline.graph.costgraph import CostGraph
from onnx_pipeline.graph.fleet import check_placement, graph_on
from onnx_pipeline.graph.target import INFEASIBLE
from onnx_pipeline.partition.fleets.certificate import recheck
from onnx_pipeline.partition.fleets.instance import counted
from onnx_pipeline.partition.placed import FleetPartition, FleetResult
from onnx_pipeline.partition.result import Bound, Certificate, SearchRecord

if TYPE_CHECKING:
    from onnx_pipeline.verification.claimed import Claim

#: Bounds that are recomputed from the graph; of all others only a new proof tells.
RECOMPUTED = ("simple", "fluid")
#: What floats of the certificate may be off by.
_CLOSE = 1e-9


def on_fleet(claim: Claim) -> bool:
    """Whether any part of a document speaks of devices that differ: then all of it has to."""
    order = (claim.certificate.get("problem") or {}).get("order", "identical")
    return "fleet" in claim.target or order != "identical" or any("device" in f for f in claim.figures)


def fleet_partition(graph: CostGraph, claim: Claim) -> FleetPartition:
    """Return the stages and devices that a document describes.

    Raises
    ------
    UsageError
        If they are none: no fleet, no devices, or costs of other kinds.
    """
    if "fleet" not in claim.target:
        raise UsageError("stages have devices, but the document has no fleet")
    devices = [figures.get("device") for figures in claim.figures]
    if None in devices:
        raise UsageError(f"stage {claim.indices[devices.index(None)]} has no device")
    if list(claim.indices) != list(range(len(claim.indices))) or len(claim.indices) != claim.target["stages"]:
        raise UsageError(f"the stages are not numbered 0 to {claim.target['stages'] - 1}")
    home = {name: i for i, names in zip(claim.indices, claim.nodes, strict=True) for name in names}
    stage_of = np.array([home[name] for name in graph.node_names], dtype=np.int64)
    fleet, _ = fleetfile.read_fleet(claim.target)
    strange = sorted({*(graph.work_on or {})} ^ {kind.name for kind in fleet.kinds})
    if strange:
        raise UsageError(f"the costs and the fleet do not name the same kinds of device: {strange[0]!r}")
    placed = tuple(int(device or 0) for device in devices)
    partition = FleetPartition.of(counted(graph, fleet), fleet, stage_of, placed)
    wrong = check_placement(partition.graph, partition.fleet, stage_of, partition.device_of)
    if wrong:
        raise UsageError(wrong[0])
    return partition


def fleet_result(partition: FleetPartition, claim: Claim, search: SearchRecord | None = None) -> FleetResult:
    """Return what a document describes: loads recomputed, bounds as they are stated."""
    tick = partition.graph.ticks_per_second
    bounds = tuple(Bound.from_json(entry, tick) for entry in claim.certificate["bounds"])
    _, running = fleetfile.read_fleet(claim.target)
    return FleetResult(partition, Certificate(bounds), search or SearchRecord(), running)


class FleetProofs:
    """The bounds of a bottleneck on devices that differ."""

    def __init__(self, partition: FleetPartition, claim: Claim) -> None:
        self.partition, self.claim = partition, claim
        self.result = fleet_result(partition, claim)

    def check(self) -> list[str]:
        """Return what cannot run, and the bounds that contradict the placement or their own proof."""
        found = [*_runs(self.partition), *_providers(self.result, self.claim)]
        if "problem" not in self.claim.certificate:
            found.append("the certificate of a fleet does not name its problem")
        for bound in self.result.bounds:
            if bound.ticks > self.partition.ticks:
                found.append(f"bound {bound.method!r} is above the placement")
            elif bound.method in RECOMPUTED:
                found += _recomputed(self.partition, bound)
        return found

    def recheck(self, seconds: float) -> list[str]:
        """Prove the best bound again."""
        best = max(self.result.bounds, key=lambda bound: bound.ticks, default=None)
        if best is None or best.method in RECOMPUTED:
            return []
        found = recheck(self.partition.graph, self.partition.fleet, best, seconds)
        if found is None:
            return [f"the {best.method} bound could not be proved again in {seconds:g} s from each end"]
        return list(_contradicted(self.partition, best, found))

    def unproved(self) -> str | None:
        """Return the bound that everything rests on where it was not recomputed."""
        bounds = self.result.bounds
        best = max((bound.ticks for bound in bounds if bound.method in RECOMPUTED), default=0)
        return max(bounds, key=lambda bound: bound.ticks).method if self.result.lower > best else None


def _runs(partition: FleetPartition) -> Iterator[str]:
    """Yield devices that cannot run a node of theirs, or hold too much."""
    graph, fleet = partition.graph, partition.fleet
    for device, load in enumerate(partition.loads):
        if load.total < INFEASIBLE:
            continue
        kind = fleet.kind_of(device)
        homes = np.asarray(partition.device_of, dtype=np.int64)[partition.stage_of]
        lacking = np.flatnonzero((homes == device) & (graph_on(graph, kind).work >= INFEASIBLE))
        if len(lacking):
            node = graph.node_names[int(lacking[0])]
            yield f"device {device} ({kind.name}) cannot run node {node!r}"
        else:
            yield f"device {device} ({kind.name}) does not hold its stages"


def _providers(result: FleetResult, claim: Claim) -> Iterator[str]:
    """Yield stages that were given the provider of a kind that cannot run them."""
    lacking: dict[str, int] = {}
    for number, running in enumerate(result.running):
        lacking.setdefault(str(running.get("provider")), number)
    for index, figures in zip(claim.indices, claim.figures, strict=True):
        own = result.fleet.devices[result.device_of[index]]
        for provider in figures.get("providers", ())[:1]:
            other = lacking.get(provider["name"], own)
            if result.running[own].get("provider") == provider["name"] or other == own:
                continue
            kind = result.fleet.kinds[other]
            work = graph_on(result.graph, kind).work[result.stage_of == index]
            if (work >= INFEASIBLE).any():
                yield f"stage {index} is on {provider['name']}, which cannot run it"


def _recomputed(partition: FleetPartition, bound: Bound) -> Iterator[str]:
    """Yield what is wrong with a bound that follows from the graph, or from the weights stated with it."""
    found = recheck(partition.graph, partition.fleet, bound)
    yield from _contradicted(partition, bound, found or 0)


def _contradicted(partition: FleetPartition, bound: Bound, found: int) -> Iterator[str]:
    if found < bound.ticks:
        yield f"bound {bound.method!r} is {partition.graph.seconds(found)} s, not {bound.seconds} s"


def stated(result: FleetResult, claim: Claim) -> Iterator[str]:
    """Yield what a certificate says of devices and kinds that differs from what follows from the costs."""
    tick = result.graph.ticks_per_second
    expected = fleetfile.loads_fields(result)
    claimed = claim.certificate.get("loads_seconds")
    if claimed is None or not _same_times(claimed, expected["loads_seconds"], tick):
        yield f"loads_seconds should be {expected['loads_seconds']}"
    kinds = claim.certificate.get("kinds") or []
    if len(kinds) != len(expected["kinds"]):
        yield "kinds are not those of the fleet"
    for found, own in zip(kinds, expected["kinds"], strict=False):
        for key, value in own.items():
            if isinstance(value, float) and isinstance(found[key], int | float):
                wrong = abs(found[key] - value) > _CLOSE * max(1.0, abs(value))
            else:
                wrong = found[key] != value
            if wrong:
                yield f"{key} of kind {own['name']!r} should be {value}, not {found[key]}"


def _same_times(claimed: list[float], expected: list[float], tick: int) -> bool:
    same = [round(a * tick) == round(b * tick) for a, b in zip(claimed, expected, strict=False)]
    return len(claimed) == len(expected) and all(same)
