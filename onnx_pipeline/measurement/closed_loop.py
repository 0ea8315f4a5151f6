"""Partition, measure, correct, partition again, until it is decided which partition is written.

The partition that is optimal in the profiled costs stays unless another one is certainly faster, measured in
the same rounds. The costs are corrected by everything that was measured, and what the corrected costs say of
the partition written is stated with a lower bound of its own.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from onnx_pipeline.errors import InfeasibleError
from onnx_pipeline.graph.costgraph import CostGraph, IntArray
from onnx_pipeline.measurement.chain import SESSIONS, Measurement, Rows, believed, summarise
from onnx_pipeline.measurement.conditioning import (
    FloatArray,
    Observation,
    Prior,
    condition,
    execution_ticks,
    likely_prior,
)
from onnx_pipeline.measurement.sequential import Interval, interval
from onnx_pipeline.progress import Progress, silent
from onnx_pipeline.stop import Stop, never

if TYPE_CHECKING:
    from onnx_pipeline.partition.result import PartitionResult

#: How much faster another partition must promise to be to be measured, and be to be taken.
WORTH = 0.01
#: What may stay promised in the corrected costs, but not found; more is said.
PROMISE = 0.02
#: Median spread of the stages beyond which a machine is too noisy to compare partitions on.
NOISY = 0.10
#: Share of the time that other work may take before a machine counts as busy: stages then differ by what they
#: share with that work, such as caches, which no scatter shows.
BUSY = 0.25
#: Rounds without which nothing is known of the scatter.
FEWEST = 4
#: Sets of rounds that are tried on a noisy machine before it is called so: something short may have passed.
PATIENCE = 2
#: A stage is as predicted within so many standard errors of its measurement.
STANDARD_ERRORS = 2.0
#: Sets of rounds that two partitions are compared in, at most.
MOST_SETS = 6

#: What a measurement may come to.
CONFIRMED, IMPROVED, NOISY_MACHINE, UNDECIDED = "confirmed", "improved", "noisy", "undecided"


@dataclass(frozen=True, eq=False)
class Measured:
    """A partition with its measurement and what came of it.

    Attributes
    ----------
    result : PartitionResult
        In the profiled costs, with the bounds that were proved for them.
    measurement : Measurement
        Of this partition.
    outcome : str
        ``"confirmed"``: no other partition promises to be faster, or was. ``"improved"``: this one was
        measured to be faster than the profiled optimum. ``"noisy"``: the machine is too noisy to tell, so
        this is the profiled optimum. ``"undecided"``: the time was up before the corrected costs kept their
        promise.
    predicted_seconds : tuple of float
        Execution time per stage by the profiled costs.
    candidates : int
        Partitions that were measured.
    stalled : float
        Time in which the processor did something else, relative to that of all runs, where it is known.
    corrected : PartitionResult or None
        This partition in the corrected costs, with bounds for these; None where nothing was corrected.
    faster : float
        By which share its measured bottleneck is below that of the profiled optimum.
    """

    result: PartitionResult
    measurement: Measurement
    outcome: str
    predicted_seconds: tuple[float, ...]
    candidates: int
    stalled: float = 0.0
    corrected: PartitionResult | None = None
    faster: float = 0.0


@dataclass(eq=False)
class _Candidate:
    """A partition, where its stages are, and what was measured in every set of rounds."""

    stage_of: IntArray
    directory: Path
    execution: FloatArray
    charged: FloatArray
    sets: list[Rows] = field(default_factory=list)

    def times(self, sets: int) -> FloatArray:
        """Return the costs of its slowest stage in the rounds of the last sets."""
        stages = np.concatenate([rows.stages for rows in self.sets[-sets:]]) + self.charged
        slowest: FloatArray = stages[:, np.median(stages, axis=0).argmax()]
        return slowest

    def total(self, reference: float | None) -> float:
        """Return the bottleneck: measured execution plus the transfers and overheads of the device."""
        return float((summarise(self.sets, reference).stage_seconds + self.charged).max())


def _disturbance(rows: Rows) -> float:
    """Return how noisy a set of rounds is; up to 1 it is quiet."""
    if len(rows.whole) < FEWEST:
        return math.inf
    return max(summarise([rows], None).scatter / NOISY, rows.stalled / BUSY)


def _quiet(rows: Rows) -> bool:
    return _disturbance(rows) <= 1


@dataclass(eq=False)
class ClosedLoop:
    """Everything that a closed loop needs besides the partition it starts with.

    Attributes
    ----------
    emit_to : callable
        Writes a partition's stages to a directory.
    repartition : callable
        Partitions a cost graph with corrected work.
    take : callable
        As :func:`~onnx_pipeline.measurement.chain.take` for given directories and ``whole``.
    scratch : Path
        Existing folder for the candidates' files.
    kinds : int64[n]
        Number of every node's kind: nodes whose costs are probably off alike.
    prior : Prior
        How far off they probably are.
    rounds : int
        Other partitions to try, at most.
    reference_seconds : float, optional
        What the whole model takes by its profile; its own time in these rounds by default.
    stop : Stop
        Whether the time is up.
    progress : Progress
    """

    emit_to: Callable[[PartitionResult, Path], object]
    repartition: Callable[[CostGraph], PartitionResult]
    take: Callable[..., Sequence[Rows]]
    scratch: Path
    kinds: IntArray
    prior: Prior = field(default_factory=Prior)
    rounds: int = 3
    reference_seconds: float | None = None
    stop: Stop = never
    progress: Progress = silent
    _tried: list[_Candidate] = field(default_factory=list)

    def run(self, first: PartitionResult) -> Measured | None:
        """Measure a partition, correct the costs and try others; None if the time was up before any round."""
        best = self._candidate(first)
        quiet = self._first(best)
        if not quiet and sum(len(rows.whole) for rows in best.sets) < FEWEST:
            return None
        self.reference_seconds = believed(best.sets, self.reference_seconds, self.progress)
        if not quiet:
            return self._conclude(first, best, NOISY_MACHINE)
        if self._as_predicted(best):
            return self._conclude(first, best, CONFIRMED)
        found = None
        for index in range(self.rounds + 1):
            corrected, proposal = self._proposal(first, best)
            promise = corrected.upper / max(proposal.upper, 1) - 1
            known = any(np.array_equal(proposal.stage_of, each.stage_of) for each in self._tried)
            if promise <= WORTH or known or index == self.rounds or self.stop():
                break
            rival = self._candidate(proposal)
            found = self._compare(best, rival)
            if found.better:
                best = rival
        outcome = IMPROVED if best is not self._tried[0] else CONFIRMED
        if promise > PROMISE:
            tried = found is not None and not found.decided(WORTH) and not self.stop()
            noisy = tried or not all(_quiet(rows) for each in self._tried for rows in each.sets)
            outcome = NOISY_MACHINE if noisy and outcome == CONFIRMED else UNDECIDED
        if outcome == NOISY_MACHINE:
            return self._conclude(first, self._tried[0], outcome)
        return self._conclude(first, best, outcome, corrected)

    def _candidate(self, result: PartitionResult) -> _Candidate:
        """Emit a partition's stages."""
        graph = result.graph
        execution = np.array(execution_ticks(graph, result.stage_of, result.stages))
        total = np.array([cost.total for cost in result.costs])
        used = result.used
        candidate = _Candidate(
            result.stage_of,
            self.scratch / f"candidate{len(self._tried)}",
            execution[:used] / graph.ticks_per_second,
            (total - execution)[:used] / graph.ticks_per_second,
        )
        self.emit_to(result, candidate.directory)
        self._tried.append(candidate)
        return candidate

    def _measure(self, rivals: Sequence[_Candidate]) -> bool:
        """Add a set of rounds to some candidates; return whether the time allowed any."""
        found = self.take([each.directory for each in rivals], whole=len(rivals) == 1)
        if not len(found[0].whole):
            return False
        if len(rivals) > 1:  # how the first relates to the whole model is known
            share = sum(summarise(rivals[0].sets, 1.0).stage_seconds)
            found = [replace(rows, whole=rows.whole / share) for rows in found]
        for each, rows in zip(rivals, found, strict=True):
            each.sets.append(rows)
        return True

    def _first(self, candidate: _Candidate) -> bool:
        """Measure a candidate, again where something disturbed it; return whether a set was quiet."""
        for _ in range(PATIENCE):
            if not self._measure([candidate]):
                break
            candidate.sets.sort(key=_disturbance)
            quietest = candidate.sets[0]
            if _quiet(quietest):
                del candidate.sets[1:]
                return True
        return False

    def _compare(self, best: _Candidate, rival: _Candidate) -> Interval:
        """Measure two candidates in the same rounds until it is decided whether the second is faster."""
        found = interval(np.zeros(0), MOST_SETS)
        for sets in range(1, MOST_SETS + 1):
            if not self._measure([best, rival]):
                break
            found = interval(np.log(best.times(sets) / rival.times(sets)), MOST_SETS)
            certain = found.decided(WORTH) and (sets >= SESSIONS or not found.better)
            if certain or self.stop():
                break
        if not rival.sets:
            self._tried.remove(rival)
        return found

    def _summary(self, candidate: _Candidate) -> Measurement:
        return summarise(candidate.sets, self.reference_seconds)

    def _as_predicted(self, candidate: _Candidate) -> bool:
        """Whether every stage takes what was predicted, up to noise and to what is worth nothing."""
        found = self._summary(candidate)
        measured = np.array(found.stage_seconds)
        allowed = STANDARD_ERRORS * found.noise * measured + WORTH / 2 * measured.max()
        return bool((np.abs(measured - candidate.execution) <= allowed).all())

    def _proposal(self, first: PartitionResult, best: _Candidate) -> tuple[PartitionResult, PartitionResult]:
        """Correct the costs by all measurements; return the best candidate in them, and their optimum."""
        seen = []
        for each in self._tried:
            found = self._summary(each)
            seen.append(Observation(each.stage_of, np.array(found.stage_seconds), found.noise))
        prior = likely_prior(first.graph, seen, self.kinds, self.prior)
        graph = condition(first.graph, seen, self.kinds, prior)
        try:
            proposal = self.repartition(graph)
        except InfeasibleError as error:
            # Memory limits and demands do not depend on the costs: what is measured still keeps them.
            self.progress("note", None, error.advice("the measured partition stays: "))
            proposal = replace(first, partition=replace(first.partition, graph=graph))
            proposal = replace(proposal, certificate=replace(first.certificate, bounds=()))
        corrected = replace(proposal, partition=replace(proposal.partition, stage_of=best.stage_of))
        if corrected.upper < proposal.upper:  # the search was worse than what is there already
            proposal = corrected
        return corrected, proposal

    def _conclude(
        self,
        first: PartitionResult,
        best: _Candidate,
        outcome: str,
        corrected: PartitionResult | None = None,
    ) -> Measured:
        graph, profiled = first.graph, self._tried[0]
        predicted = execution_ticks(graph, best.stage_of, first.stages)[: len(best.execution)]
        ratio = best.total(self.reference_seconds) / profiled.total(self.reference_seconds)
        return Measured(
            replace(first, partition=replace(first.partition, stage_of=best.stage_of)),
            self._summary(best),
            outcome,
            tuple(map(graph.seconds, predicted)),
            len(self._tried),
            float(np.mean([rows.stalled for each in self._tried for rows in each.sets])),
            corrected,
            1 - ratio,
        )
