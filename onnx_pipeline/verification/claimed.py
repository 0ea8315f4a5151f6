"""What a split or a plan says of its stages, and the partition that this is.

Nothing here proves: :mod:`~onnx_pipeline.verification.claims` does.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np

from onnx_pipeline import planfile
from onnx_pipeline.graph.costgraph import CostGraph
from onnx_pipeline.graph.objective import countable
from onnx_pipeline.graph.replicas import price_replicas
from onnx_pipeline.partition.placed import FleetPartition
from onnx_pipeline.partition.result import Bound, Certificate, Partition, PartitionResult, SearchRecord
from onnx_pipeline.replica_plan import ReplicaPlan, alike, one_stage, whole_replicas
from onnx_pipeline.solution import Solution
from onnx_pipeline.verification import fleets


@dataclass(frozen=True)
class Claim:
    """What a document says of its stages, whether it is a manifest or a plan.

    Attributes
    ----------
    target, certificate : mapping
        The document's objects.
    nodes : sequence of sequence of str
        Names of the nodes of each stage listed.
    indices : sequence of int
        Number of each stage listed.
    figures : sequence of mapping
        ``cost``, ``parameter_bytes`` and, where known, ``peak_activation_bytes`` of each stage listed.
    exactly : bool
        Whether no stage was to stay empty.
    replicas : sequence of int or None
        Devices of each stage listed, None where there are no replicas.
    """

    target: Mapping[str, Any]
    certificate: Mapping[str, Any]
    indices: Sequence[int]
    nodes: Sequence[Sequence[str]]
    figures: Sequence[Mapping[str, Any]]
    exactly: bool = False
    replicas: Sequence[int] | None = None


def claim_of(document: Mapping[str, Any]) -> Claim:
    """Return what a document, manifest or plan, says."""
    stages = document["stages"]
    replicas = [int(stage.get("replicas", 1)) for stage in stages]
    # Whatever speaks of replicas makes it a claim about them, which has to agree with the rest.
    problem = document["certificate"].get("problem") or {}
    several = problem.get("replicas") or "devices" in document["target"] or any(r > 1 for r in replicas)
    return Claim(
        document["target"],
        document["certificate"],
        [stage["index"] for stage in stages],
        [stage["node_names"] for stage in stages],
        stages,
        bool((document.get("constraints") or {}).get("exactly")),
        replicas if several else None,
    )


def claimed_partition(graph: CostGraph, claim: Claim) -> Partition:
    """Return the partition that a document describes, for a graph with the nodes that it names."""
    if fleets.on_fleet(claim):
        return fleets.fleet_partition(graph, claim)
    home = {name: i for i, names in zip(claim.indices, claim.nodes, strict=True) for name in names}
    stage_of = np.array([home[name] for name in graph.node_names], dtype=np.int64)
    target, stages = planfile.read_target(claim.target), claim.target["stages"]
    parts = max(stages, claim.target.get("devices", 1))
    return Partition(countable(graph, target, parts), target, stages, stage_of, claim.exactly)


def claimed_solution(partition: Partition, claim: Claim, search: SearchRecord | None = None) -> Solution:
    """Return what a document describes: costs and period recomputed, bounds as they are stated.

    Parameters
    ----------
    partition : Partition
        From :func:`claimed_partition`.
    claim : Claim
    search : SearchRecord, optional
    """
    search = search or SearchRecord()
    if isinstance(partition, FleetPartition):
        return fleets.fleet_result(partition, claim, search)
    if claim.replicas is None:
        return PartitionResult(partition, Certificate(tuple(claimed_bounds(partition, claim))), search)
    return _replica_plan(partition, claim, search)


def claimed_bounds(partition: Partition, claim: Claim) -> list[Bound]:
    """Return the bounds of a bottleneck as they are stated."""
    tick = partition.graph.ticks_per_second
    return [Bound.from_json(entry, tick) for entry in claim.certificate["bounds"]]


def claimed_periods(partition: Partition, claim: Claim) -> list[tuple[str, Fraction]]:
    """Return the methods and the bounds of a period in ticks: exact where they are stated exactly."""
    tick = partition.graph.ticks_per_second
    return [
        (entry["method"], Fraction(entry["ticks"], entry["ticks_per_second"]) * tick)
        if "ticks" in entry and "ticks_per_second" in entry
        else (entry["method"], Fraction(entry["seconds"]) * tick)
        for entry in claim.certificate["bounds"]
    ]


def claimed_replicas(claim: Claim) -> tuple[int, ...]:
    """Return the devices of every stage, none of those that are empty."""
    found = dict(zip(claim.indices, claim.replicas or (), strict=True))
    return tuple(found.get(stage, 0) for stage in range(claim.target["stages"]))


def staged_partition(partition: Partition, entry: Mapping[str, Any]) -> Partition:
    """Return the stages that a document compares its plan with."""
    stage_of = np.array(entry["stage_of"], dtype=np.int64)
    return Partition(partition.graph, partition.target, int(stage_of.max(initial=0)) + 1, stage_of)


def _replica_plan(partition: Partition, claim: Claim, search: SearchRecord) -> ReplicaPlan:
    graph, target, replicas = partition.graph, partition.target, claimed_replicas(claim)
    devices = claim.target.get("devices", sum(replicas))
    bounds = claimed_periods(partition, claim)
    method, lower = max(bounds, key=lambda each: each[1], default=("", Fraction(0)))
    whole = whole_replicas(one_stage(graph, target), devices)
    entry = claim.certificate.get("staged")
    staged = None if entry is None else staged_partition(partition, entry)
    ways = [way for way in (whole, None if staged is None else alike(staged, devices)) if way is not None]
    return ReplicaPlan(
        partition,
        replicas,
        devices,
        price_replicas(graph, target, partition.stage_of, replicas).period,
        lower,
        search.methods[0] if search.methods else "",
        method,
        whole,
        min(ways, key=lambda way: way.period, default=None),
        search.interrupted,
        staged,
        search,
    )
