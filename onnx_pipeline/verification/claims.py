"""The certificate of a split or a plan, recomputed from its costs."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from onnx_pipeline import planfile
from onnx_pipeline.errors import UsageError
from onnx_pipeline.figures import format_count
from onnx_pipeline.graph.costgraph import CostGraph
from onnx_pipeline.partition import certificate
from onnx_pipeline.partition.placed import FleetPartition
from onnx_pipeline.partition.result import Bound, Certificate, PartitionResult, SearchRecord
from onnx_pipeline.settings import BOUNDS
from onnx_pipeline.verification.claimed import Claim, claimed_partition
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
    if isinstance(partition, FleetPartition):
        return _on_fleet(partition, claim, recheck)
    tick = partition.graph.ticks_per_second
    proofs = Certificate(tuple(Bound.from_json(entry, tick) for entry in claim.certificate["bounds"]))
    problems = certificate.check(partition, proofs)
    best = max((b.ticks for b in proofs.bounds if b.method in RECOMPUTED), default=0)
    if not problems and proofs.ticks > best:
        if recheck is None:
            verdict.unproved = max(proofs.bounds, key=lambda bound: bound.ticks).method
        else:
            problems = certificate.recheck(partition, proofs, recheck)
    elif not problems and recheck is not None:
        problems = certificate.recheck(partition, proofs, recheck)
    if not problems:
        problems = list(_figures(PartitionResult(partition, proofs, SearchRecord()), claim))
    verdict.problems = [f"certificate: {problem}" for problem in problems]
    return verdict


def _on_fleet(partition: FleetPartition, claim: Claim, recheck: float | None) -> Verdict:
    proofs = FleetProofs(partition, claim)
    problems = proofs.check()
    unproved = None if problems else proofs.unproved()
    if not problems and recheck is not None:
        problems, unproved = proofs.recheck(recheck), None
    if not problems:
        problems = [*_figures(proofs.result, claim), *stated(proofs.result, claim)]
    return Verdict([f"certificate: {problem}" for problem in problems], unproved)


def _unknown(graph: CostGraph, claim: Claim) -> Iterator[str]:
    """Yield nodes and bounds that do not exist."""
    home = {name for names in claim.nodes for name in names}
    missing = [name for name in graph.node_names if name not in home]
    if missing:
        yield f"in no stage: {format_count(len(missing), 'node')} of the costs, {missing[0]!r} for one"
    for name in sorted(home - set(graph.node_names))[:1]:
        yield f"node {name!r} of a stage is not in the costs"
    for entry in claim.certificate["bounds"]:
        if entry["method"] not in BOUNDS and not on_fleet(claim):
            yield f"certificate: there is no bound {entry['method']!r}"


def _figures(result: PartitionResult, claim: Claim) -> Iterator[str]:
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
    if not _same_replicas(claimed.get("replicas", expected["replicas"]), expected["replicas"]):
        yield f"replicas should be {expected['replicas']}"
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


def _same_replicas(claimed: Mapping[str, Any], expected: Mapping[str, Any]) -> bool:
    """Whether what replicas would do is what follows from the costs; times are floats."""
    for key, value in expected.items():
        stated = claimed[key]
        if stated is None or isinstance(value, bool) or value is None:
            if stated is not value:
                return False
        elif not math.isclose(stated, value, rel_tol=_CLOSE):
            return False
    return True


def _same_time(claimed: float | None, expected: float | None, tick: int) -> bool:
    if claimed is None or expected is None:
        return claimed is expected
    return round(claimed * tick) == round(expected * tick)
