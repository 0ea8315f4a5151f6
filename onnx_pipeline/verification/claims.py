"""The certificate of a split or a plan, recomputed from its costs."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

from onnx_pipeline import planfile
from onnx_pipeline.errors import UsageError
from onnx_pipeline.figures import format_count
from onnx_pipeline.graph.costgraph import CostGraph
from onnx_pipeline.graph.objective import check_partition
from onnx_pipeline.partition import certificate
from onnx_pipeline.partition.placed import FleetPartition, FleetResult
from onnx_pipeline.partition.replicas import certificate as replicated
from onnx_pipeline.partition.result import Certificate, Partition
from onnx_pipeline.settings import BOUNDS
from onnx_pipeline.solution import Solution
from onnx_pipeline.verification.claimed import (
    Claim,
    claimed_bounds,
    claimed_partition,
    claimed_periods,
    claimed_replicas,
    claimed_solution,
    staged_partition,
)
from onnx_pipeline.verification.fleets import FleetProofs, on_fleet, stated

#: Bounds that are recomputed from the graph; of all others only a new proof tells.
RECOMPUTED = ("simple", "min-cut", "windows", "crossings")
#: What floats of the certificate may be off by.
_CLOSE = 1e-9


@dataclass
class Verdict:
    """What is wrong, and which bound the lower bound rests on without having been proved again."""

    problems: list[str] = field(default_factory=list)
    unproved: str | None = None


def check_claim(graph: CostGraph, claim: Claim, recheck: float | None) -> Verdict:
    """Recompute costs, bounds and every figure of a certificate."""
    verdict = Verdict()
    verdict.problems += _unknown(graph, claim)
    if verdict.problems:
        return verdict
    try:
        partition = claimed_partition(graph, claim)
    except UsageError as error:
        verdict.problems.append(str(error))
        return verdict
    proofs = _proofs(partition, claim)
    problems = proofs.check()
    if not problems and recheck is not None:
        problems = proofs.recheck(recheck)
    elif not problems:
        verdict.unproved = proofs.unproved()
    if not problems:
        solution = claimed_solution(partition, claim)
        problems = list(_figures(solution, claim))
        if isinstance(solution, FleetResult):
            problems += stated(solution, claim)
    verdict.problems = [f"certificate: {problem}" for problem in problems]
    return verdict


def _proofs(partition: Partition, claim: Claim) -> FleetProofs | _Replicas | _Stages:
    if isinstance(partition, FleetPartition):
        return FleetProofs(partition, claim)
    return _Stages(partition, claim) if claim.replicas is None else _Replicas(partition, claim)


class _Stages:
    """The bounds of a bottleneck."""

    def __init__(self, partition: Partition, claim: Claim) -> None:
        self.partition, self.proofs = partition, Certificate(tuple(claimed_bounds(partition, claim)))

    def check(self) -> list[str]:
        """Return what the partition and the bounds that can be recomputed contradict."""
        return certificate.check(self.partition, self.proofs)

    def recheck(self, seconds: float) -> list[str]:
        """Prove the best bound again."""
        return certificate.recheck(self.partition, self.proofs, seconds)

    def unproved(self) -> str | None:
        """Return the bound that everything rests on where it was not recomputed."""
        bounds = self.proofs.bounds
        best = max((b.ticks for b in bounds if b.method in RECOMPUTED), default=0)
        return max(bounds, key=lambda bound: bound.ticks).method if self.proofs.ticks > best else None


class _Replicas:
    """The bounds of a period."""

    def __init__(self, partition: Partition, claim: Claim) -> None:
        self.partition, self.claim = partition, claim
        self.bounds = claimed_periods(partition, claim)
        self.replicas, self.devices = claimed_replicas(claim), claim.target.get("devices", 0)

    def check(self) -> list[str]:
        """Return what stages, replicas and the bounds that can be recomputed contradict."""
        found = replicated.check(self.partition, self.replicas, self.devices, self.bounds)
        return found or list(_stated(self.bounds, self.claim, self.partition))

    def recheck(self, seconds: float) -> list[str]:
        """Prove the best bound again."""
        lower = max((lower for _, lower in self.bounds), default=Fraction(0))
        return replicated.recheck(self.partition, self.devices, lower, seconds)

    def unproved(self) -> str | None:
        """Return the bound that everything rests on where it was not recomputed."""
        method, lower = max(self.bounds, key=lambda each: each[1], default=("", Fraction(0)))
        best = max((own for known, own in self.bounds if known in replicated.RECOMPUTED), default=0)
        return method if lower > best else None


def _stated(bounds: Sequence[tuple[str, Fraction]], claim: Claim, partition: Partition) -> Iterator[str]:
    """Yield what a document says of periods that contradicts itself, or its graph."""
    certificate, tick = claim.certificate, partition.graph.ticks_per_second
    for (method, lower), entry in zip(bounds, certificate["bounds"], strict=True):
        if not math.isclose(float(lower / tick), entry["seconds"], rel_tol=_CLOSE):
            yield f"bound {method!r} is {float(lower / tick)} s by its ticks, not {entry['seconds']} s"
    if "problem" not in certificate:
        yield "the certificate of a plan with replicas does not name its problem"
    staged = certificate.get("staged")
    if staged is None:
        if partition.used > 1:
            yield "what equal replicas of stages would do is not said, though stages fit"
        return
    if len(staged["stage_of"]) != partition.graph.num_nodes:
        yield "stage_of of 'staged' is not of these nodes"
        return
    own = staged_partition(partition, staged)
    yield from (f"staged: {problem}" for problem in check_partition(own.graph, own.stage_of, own.stages))
    if own.used > claim.target.get("devices", 0):
        yield f"staged: {own.used} stages do not fit on the devices"


def _unknown(graph: CostGraph, claim: Claim) -> Iterator[str]:
    """Yield nodes and bounds that do not exist."""
    home = {name for names in claim.nodes for name in names}
    missing = [name for name in graph.node_names if name not in home]
    if missing:
        yield f"in no stage: {format_count(len(missing), 'node')} of the costs, {missing[0]!r} for one"
    for name in sorted(home - set(graph.node_names))[:1]:
        yield f"node {name!r} of a stage is not in the costs"
    stages = claim.replicas is None and not on_fleet(claim)
    for entry in claim.certificate["bounds"] if stages else ():
        if entry["method"] not in BOUNDS:
            yield f"certificate: there is no bound {entry['method']!r}"


def _figures(result: Solution, claim: Claim) -> Iterator[str]:
    """Yield the figures of the document that differ from those of the result."""
    tick, claimed = result.graph.ticks_per_second, claim.certificate
    expected = planfile.certificate_fields(result)
    for key in ("bottleneck_seconds", "lower_bound_seconds", "one_device_seconds", "latency_seconds"):
        if key in claimed and not _same_time(claimed[key], expected[key], tick):
            yield f"{key} should be {expected[key]}, not {claimed[key]}"
    for key in ("ratio", "gap"):
        if abs(claimed[key] - expected[key]) > _CLOSE:
            yield f"{key} should be {expected[key]}, not {claimed[key]}"
    for key in ("status", "costs", "problem"):
        if claimed.get(key, expected[key]) != expected[key]:
            yield f"{key} should be {expected[key]!r}"
    for key in ("replicas", "staged"):
        if key in expected and not _same_figures(claimed.get(key, expected[key]), expected[key]):
            yield f"{key} should be {expected[key]}"
    costs, schedules = result.costs, result.schedules
    for index, figures in zip(claim.indices, claim.figures, strict=True):
        cost = planfile.cost_fields(costs[index], tick)
        if any(round(cost[key] * tick) != round(figures["cost"].get(key, 0.0) * tick) for key in cost):
            yield f"the cost of stage {index} cannot be reproduced"
        if costs[index].parameter_bytes != figures["parameter_bytes"]:
            yield f"the parameter bytes of stage {index} cannot be reproduced"
        peak = figures.get("peak_activation_bytes")
        if peak is not None and peak != schedules[index].peak:
            yield f"the peak of live activations of stage {index} cannot be reproduced"


def _same_figures(claimed: Mapping[str, Any] | None, expected: Mapping[str, Any] | None) -> bool:
    """Whether what others would do is what follows from the costs; times are floats."""
    if claimed is None or expected is None:
        return claimed is expected
    for key, value in expected.items():
        stated = claimed[key]
        if stated is None or isinstance(value, bool | list) or value is None:
            if stated != value:
                return False
        elif not math.isclose(stated, value, rel_tol=_CLOSE):
            return False
    return True


def _same_time(claimed: float | None, expected: float | None, tick: int) -> bool:
    if claimed is None or expected is None:
        return claimed is expected
    return round(claimed * tick) == round(expected * tick)
