"""Partition, measure, correct, partition again: the best measured partition wins."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from onnx_pipeline.errors import InfeasibleError
from onnx_pipeline.graph.costgraph import CostGraph, IntArray
from onnx_pipeline.graph.objective import stage_costs
from onnx_pipeline.graph.target import Target
from onnx_pipeline.measurement.chain import Measurement, measure
from onnx_pipeline.progress import Progress, silent

if TYPE_CHECKING:
    from onnx_pipeline.costmodel.profiling.sessions import Runner
    from onnx_pipeline.manifest import Manifest
    from onnx_pipeline.partition.result import PartitionResult

#: A stage's correction is believed within these factors; beyond them something else is wrong.
LEAST_FACTOR, LARGEST_FACTOR = 0.25, 4.0


def execution_ticks(graph: CostGraph, stage_of: Sequence[int] | IntArray, stages: int) -> list[int]:
    """Predict how long a stage computes: its work and the changes of layout at its borders.

    The rest of a stage's cost, transfers and overheads, is the device's and happens between sessions.
    """
    costs = stage_costs(replace(graph, net_time=None), Target(), stage_of, stages)
    return [cost.work + cost.input + cost.output for cost in costs]


def correct(graph: CostGraph, stage_of: IntArray, measured: Measurement) -> CostGraph:
    """Scale the work of every stage's nodes so that its prediction is the measurement.

    Returns
    -------
    CostGraph
        ``meta["corrections"]`` counts how often this was done.
    """
    work = graph.work.copy()
    stages = len(measured.stage_seconds)
    predicted = execution_ticks(graph, stage_of, stages)
    for s, seconds in enumerate(measured.stage_seconds):
        inside = np.flatnonzero(stage_of == s)
        own = int(graph.work[inside].sum())
        if not own:
            continue
        border = predicted[s] - own
        factor = min(max((seconds * graph.ticks_per_second - border) / own, LEAST_FACTOR), LARGEST_FACTOR)
        edges = np.rint(np.concatenate([[0.0], np.cumsum(graph.work[inside])]) * factor)
        work[inside] = np.diff(edges).astype(np.int64)
    before = graph.meta.get("corrections", 0)  # of a file, where it may be anything
    corrections = (before if isinstance(before, int) else 0) + 1
    return replace(graph, work=work, meta={**graph.meta, "corrections": corrections})


@dataclass(frozen=True, eq=False)
class Measured:
    """A partition with its measurement and what was predicted before it.

    Attributes
    ----------
    result : PartitionResult
        Its graph has the corrected costs; its certificate refers to them.
    measurement : Measurement
        Of this partition.
    predicted_seconds : tuple of float
        Execution time per stage by the costs as they were before this partition was measured.
    candidates : int
        Partitions that were measured.
    """

    result: PartitionResult
    measurement: Measurement
    predicted_seconds: tuple[float, ...]
    candidates: int


@dataclass(frozen=True, eq=False)
class _Candidate:
    result: PartitionResult
    directory: Path
    predicted: tuple[float, ...]

    def total(self, measured: Measurement) -> float:
        """Return the bottleneck: measured execution plus the transfers and overheads of the device."""
        execution = execution_ticks(self.result.graph, self.result.stage_of, self.result.stages)
        return max(
            seconds + self.result.graph.seconds(cost.total - own)
            for seconds, cost, own in zip(measured.stage_seconds, self.result.costs, execution, strict=False)
        )


def closed_loop(
    first: PartitionResult,
    runner: Runner,
    emit_to: Callable[[PartitionResult, Path], object],
    repartition: Callable[[CostGraph], PartitionResult],
    scratch: Path,
    *,
    rounds: int = 1,
    reference_seconds: float | None = None,
    progress: Progress = silent,
) -> Measured:
    """Measure, correct and partition again; return the best measured partition.

    Parameters
    ----------
    first : PartitionResult
    runner : Runner
        Of the whole model, with the feeds.
    emit_to : callable
        Writes a partition's stages to a directory.
    repartition : callable
        Partitions a cost graph with corrected work.
    scratch : Path
        Existing folder for the candidates' files.
    rounds : int
        How often to correct, at least 1.
    reference_seconds : float, optional
        As in :func:`measure`.
    progress : Progress
    """
    measured: list[tuple[_Candidate, Measurement]] = []
    current = first
    for index in range(rounds + 1):
        candidate = _Candidate(current, scratch / f"candidate{index}", _predicted(current))
        emit_to(current, candidate.directory)
        rivals = [candidate]
        if measured:  # the best so far runs in the same rounds: only then they can be compared
            rivals.append(min(measured, key=lambda pair: pair[0].total(pair[1]))[0])
        found = measure(runner, [rival.directory for rival in rivals], reference_seconds, progress=progress)
        for rival, times in zip(rivals, found, strict=True):
            measured = [pair for pair in measured if pair[0] is not rival]
            measured.append((rival, times))
        if index == rounds:
            break
        try:
            following = repartition(correct(current.graph, current.stage_of, found[0]))
        except InfeasibleError as error:
            # Memory limits and demands do not depend on the costs: what is measured still keeps them.
            progress("note", None, error.advice("the measured partition stays: "))
            break
        known = {pair[0].result.stage_of.tobytes() for pair in measured}
        current = following
        if following.stage_of.tobytes() in known:
            break
    finalists = measured[-2:] if len(measured) > 1 else measured
    best, measurement = min(finalists, key=lambda pair: pair[0].total(pair[1]))
    result = replace(current, partition=replace(current.partition, stage_of=best.result.stage_of))
    return Measured(result, measurement, best.predicted, len(measured))


def _predicted(result: PartitionResult) -> tuple[float, ...]:
    return tuple(map(result.graph.seconds, execution_ticks(result.graph, result.stage_of, result.used)))


def describe(document: Manifest, found: Measured) -> Manifest:
    """Return a manifest with predicted and measured seconds and spread of every stage."""
    measured = found.measurement
    stages = tuple(
        replace(
            stage,
            measured={
                "seconds": measured.stage_seconds[stage.index],
                "spread": measured.spread[stage.index],
                "predicted_seconds": found.predicted_seconds[stage.index],
            },
        )
        for stage in document.stages
    )
    summary = {
        "bottleneck_seconds": max(measured.stage_seconds),
        "predicted_bottleneck_seconds": max(found.predicted_seconds),
        "reference_seconds": measured.reference_seconds,
        "whole_seconds": measured.whole_seconds,
        "rounds": measured.rounds,
        "candidates": found.candidates,
    }
    return replace(document, stages=stages, measurement=summary)
