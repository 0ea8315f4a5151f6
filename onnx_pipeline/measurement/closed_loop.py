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
from onnx_pipeline.measurement.candidate import FEWEST, Candidate, busy, disturbance
from onnx_pipeline.measurement.chain import SESSIONS, Measurement, Rows, believed, summarise
from onnx_pipeline.measurement.conditioning import (
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
    from onnx_pipeline.solution import Solution

#: What may stay promised in the corrected costs; where it is more, another partition is measured.
PROMISE = 0.02
#: What is worth finding out: a partition that is certainly not faster by so much is given up.
WORTH = 0.01
#: How much faster another partition must certainly be on a busy machine: caches that are shared with other
#: work slow stages down unequally, which no scatter shows.
CAUTION = 0.05
#: Sets of rounds that are tried on a noisy machine before it is called so: something short may have passed.
PATIENCE = 2
#: A stage is as predicted within so many standard errors of its measurement.
STANDARD_ERRORS = 2.0
#: Sets of rounds that two partitions are compared in, at most.
MOST_SETS = 4

#: What a measurement may come to.
CONFIRMED, IMPROVED, NOISY_MACHINE, UNDECIDED = "confirmed", "improved", "noisy", "undecided"
#: The stages were measured, and that was all.
MEASURED = "measured"


@dataclass(frozen=True, eq=False)
class Measured:
    """A partition with its measurement and what came of it.

    Attributes
    ----------
    result : PartitionResult or ReplicaPlan
        In the profiled costs, with the bounds that were proved for them.
    measurement : Measurement
        Of this partition.
    outcome : str
        ``"confirmed"``: no other partition promises to be faster, or was. ``"improved"``: this one was
        measured to be faster than the profiled optimum. ``"noisy"``: the machine is too noisy to tell, so
        this is the profiled optimum. ``"undecided"``: the time was up while the corrected costs promised a
        faster partition. ``"measured"``: nothing else was tried.
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

    result: Solution
    measurement: Measurement
    outcome: str
    predicted_seconds: tuple[float, ...]
    candidates: int
    stalled: float = 0.0
    corrected: PartitionResult | None = None
    faster: float = 0.0


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

    emit_to: Callable[[Solution, Path], object]
    repartition: Callable[[CostGraph], PartitionResult]
    take: Callable[..., Sequence[Rows]]
    scratch: Path
    kinds: IntArray
    prior: Prior = field(default_factory=Prior)
    rounds: int = 3
    reference_seconds: float | None = None
    stop: Stop = never
    progress: Progress = silent
    _tried: list[Candidate] = field(default_factory=list)
    _gain: float = 0.0
    _refuted: int = 0

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
            if promise <= PROMISE or known or index == self.rounds or self.stop():
                break
            rival = self._candidate(proposal)
            found = self._compare(best, rival)
            if self._better(found):
                best = rival
                self._gain += found.middle
            else:
                self._refuted += found.high < WORTH
        if promise <= PROMISE:
            outcome = CONFIRMED if best is self._tried[0] else IMPROVED
            return self._conclude(first, best, outcome, corrected)
        return self._promised(first, best, found, corrected)

    def measure(self, first: Solution) -> Measured | None:
        """Measure the stages and try nothing else; None if the time was up before any round."""
        best = self._candidate(first)
        quiet = self._first(best)
        if not quiet and sum(len(rows.whole) for rows in best.sets) < FEWEST:
            return None
        self.reference_seconds = believed(best.sets, self.reference_seconds, self.progress)
        return self._conclude(first, best, MEASURED if quiet else NOISY_MACHINE)

    def _promised(
        self, first: PartitionResult, best: Candidate, found: Interval | None, corrected: PartitionResult
    ) -> Measured:
        """Conclude while the corrected costs promise more: they may be wrong, or noise, or the time was up.

        They are wrong where what they promised was measured and not found: nothing is claimed in such costs.
        """
        refuted = self._refuted > 0
        disturbed = busy(self._tried)
        if best is not self._tried[0]:
            return self._conclude(first, best, IMPROVED, None if disturbed or refuted else corrected)
        if refuted:
            return self._conclude(first, best, CONFIRMED)
        open_question = found is not None and not found.decided(WORTH) and not self.stop()
        if disturbed or open_question:
            return self._conclude(first, best, NOISY_MACHINE)
        return self._conclude(first, best, UNDECIDED, corrected)

    def _better(self, found: Interval) -> bool:
        """Whether a rival is certainly faster: on a busy machine by more than other work explains."""
        return found.low > (CAUTION if busy(self._tried) else 0.0)

    def _candidate(self, result: Solution) -> Candidate:
        """Emit a partition's stages."""
        graph = result.graph
        execution = np.array(execution_ticks(graph, result.stage_of, result.stages))
        total = np.array([cost.total for cost in result.costs])
        used = result.partition.used
        candidate = Candidate(
            result.stage_of,
            self.scratch / f"candidate{len(self._tried)}",
            execution[:used] / graph.ticks_per_second,
            (total - execution)[:used] / graph.ticks_per_second,
        )
        self.emit_to(result, candidate.directory)
        self._tried.append(candidate)
        return candidate

    def _measure(self, rivals: Sequence[Candidate]) -> bool:
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

    def _first(self, candidate: Candidate) -> bool:
        """Measure a candidate, again where something disturbed it; return whether a set was quiet."""
        for _ in range(PATIENCE):
            if not self._measure([candidate]):
                break
            candidate.sets.sort(key=disturbance)
            if disturbance(candidate.sets[0]) <= 1:
                del candidate.sets[1:]
                return True
        return False

    def _compare(self, best: Candidate, rival: Candidate) -> Interval:
        """Measure two candidates in the same rounds until it is decided whether the second is faster."""
        found = interval(np.zeros(0), MOST_SETS)
        for sets in range(1, MOST_SETS + 1):
            if not self._measure([best, rival]):
                break
            found = interval(np.log(best.times(sets) / rival.times(sets)), MOST_SETS)
            certain = self._better(found) and sets >= SESSIONS
            if certain or found.high < WORTH or self.stop():
                break
        if not rival.sets:
            self._tried.remove(rival)
        return found

    def _summary(self, candidate: Candidate) -> Measurement:
        return summarise(candidate.sets, self.reference_seconds)

    def _as_predicted(self, candidate: Candidate) -> bool:
        """Whether every stage takes what was predicted, up to noise and to what is worth nothing."""
        found = self._summary(candidate)
        measured = np.array(found.stage_seconds)
        allowed = STANDARD_ERRORS * found.noise * measured + WORTH / 2 * measured.max()
        return bool((np.abs(measured - candidate.execution) <= allowed).all())

    def _proposal(self, first: PartitionResult, best: Candidate) -> tuple[PartitionResult, PartitionResult]:
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
        first: Solution,
        best: Candidate,
        outcome: str,
        corrected: PartitionResult | None = None,
    ) -> Measured:
        graph = first.graph
        predicted = execution_ticks(graph, best.stage_of, first.stages)[: len(best.execution)]
        return Measured(
            replace(first, partition=replace(first.partition, stage_of=best.stage_of)),
            self._summary(best),
            outcome,
            tuple(map(graph.seconds, predicted)),
            len(self._tried),
            float(np.mean([rows.stalled for each in self._tried for rows in each.sets])),
            corrected,
            1 - math.exp(-self._gain),
        )
