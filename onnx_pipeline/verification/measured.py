"""What a split says of its costs as measurements corrected them: a second claim, checked like the first."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from onnx_pipeline.errors import InputError
from onnx_pipeline.graph.costgraph import CostGraph
from onnx_pipeline.graph.costs_json import graph_to_json, read_graph
from onnx_pipeline.manifest import MEASURED_COSTS_NAME, Manifest
from onnx_pipeline.measurement.conditioning import execution_ticks
from onnx_pipeline.verification.claims import Verdict, check_claim

if TYPE_CHECKING:
    from onnx_pipeline.verification.claimed import Claim


def check_measured(
    folder: Path, document: Manifest, graph: CostGraph, claim: Claim, recheck: float | None
) -> Verdict:
    """Check what a manifest says of measured stages, as far as it does not rest on their times alone.

    Parameters
    ----------
    folder : Path
    document : Manifest
        With a measurement.
    graph : CostGraph
        The profiled costs, whose certificate holds.
    claim : Claim
        About them.
    recheck : float or None
        As in :func:`~onnx_pipeline.verification.claims.check_claim`.
    """
    summary = document.measurement or {}
    problems = list(_summary(document, summary, graph, claim))
    corrected = summary.get("corrected")
    if problems or corrected is None:
        return Verdict([f"measurement: {problem}" for problem in problems])
    try:
        found = _read(folder, corrected)
    except InputError as error:
        return Verdict([f"measurement: {error}"])
    if not _differ_in_work_only(graph.counted(found.ticks_per_second), found):
        return Verdict([f"measurement: {MEASURED_COSTS_NAME} differs from the costs in more than work"])
    figures = [
        {"cost": cost, "parameter_bytes": stage.parameter_bytes}
        for cost, stage in zip(corrected["stages"], document.stages, strict=True)
    ]
    verdict = check_claim(found, replace(claim, certificate=corrected, figures=figures), recheck)
    verdict.problems = [f"corrected {problem}" for problem in verdict.problems]
    return verdict


def _summary(document: Manifest, summary: Mapping[str, Any], graph: CostGraph, claim: Claim) -> Iterator[str]:
    """Yield the figures that contradict each other or the costs."""
    measured = [stage.measured or {} for stage in document.stages]
    for key, part in (
        ("bottleneck_seconds", "seconds"),
        ("predicted_bottleneck_seconds", "predicted_seconds"),
    ):
        periods = (m.get(part, 0.0) / s.replicas for m, s in zip(measured, document.stages, strict=True))
        if summary[key] != max(periods):
            yield f"{key} is not that of the slowest stage"
    corrected = summary.get("corrected")
    if corrected is not None and len(corrected["stages"]) != len(document.stages):
        yield "the corrected costs are not those of these stages"
    if summary.get("outcome") == "noisy" and corrected is not None:
        yield "costs were corrected on a machine that is too noisy"
    if (summary.get("outcome") == "improved") != ("faster" in summary):
        yield "'faster' and the outcome contradict each other"
    if "outcome" not in summary:  # written before there were two claims: predicted by costs that are gone
        return
    home = {name: i for i, names in zip(claim.indices, claim.nodes, strict=True) for name in names}
    stage_of = np.array([home[name] for name in graph.node_names], dtype=np.int64)
    predicted = execution_ticks(graph, stage_of, int(stage_of.max()) + 1)
    for index, each in zip(claim.indices, measured, strict=True):
        if round(each.get("predicted_seconds", 0.0) * graph.ticks_per_second) != predicted[index]:
            yield f"the prediction of stage {index} is not that of the costs"


def _read(folder: Path, corrected: Mapping[str, Any]) -> CostGraph:
    path = folder / MEASURED_COSTS_NAME
    if not path.is_file():
        raise InputError(path, "no such file" if not path.exists() else "not a file")
    if hashlib.sha256(path.read_bytes()).hexdigest() != corrected["sha256"]:
        raise InputError(path, "not the file that was written: its SHA-256 differs")
    return read_graph(path)


def _differ_in_work_only(graph: CostGraph, corrected: CostGraph) -> bool:
    """Whether two cost graphs are alike but for the work of their nodes."""
    if graph.node_names != corrected.node_names:
        return False
    same = replace(corrected, work=graph.work, meta=graph.meta)
    return graph_to_json(same) == graph_to_json(graph)
