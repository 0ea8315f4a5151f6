"""The state of a search: best partition, best bounds, and when each improved."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field, replace

import numpy as np

from onnx_pipeline.figures import format_percent
from onnx_pipeline.graph.costgraph import CostGraph, IntArray
from onnx_pipeline.graph.objective import bottleneck, check_partition
from onnx_pipeline.graph.target import INFEASIBLE, Target
from onnx_pipeline.partition.result import (
    Bound,
    Certificate,
    HistoryPoint,
    Partition,
    PartitionResult,
    SearchRecord,
)
from onnx_pipeline.progress import Progress, silent

#: Before the first partition: above everything, broken hard limits included.
UNKNOWN = 1 << 62


@dataclass(eq=False)
class Incumbent:
    """Collects partitions and bounds of the original graph and checks each.

    Every partition is re-evaluated by the one objective before it counts, and a bound above a known
    partition stops everything: it would be a bug. One that breaks a hard limit counts as ``INFEASIBLE``,
    whatever else it costs, so that a bound can meet it. With ``exactly``, partitions with an empty stage are
    not taken.
    """

    graph: CostGraph
    target: Target
    stages: int
    progress: Progress = silent
    exactly: bool = False
    upper: int = UNKNOWN
    stage_of: IntArray = field(default_factory=lambda: np.zeros(0, dtype=np.int64))
    bounds: list[Bound] = field(default_factory=list)
    history: list[HistoryPoint] = field(default_factory=list)
    methods: list[str] = field(default_factory=list)
    evaluations: int = 0
    _start: float = field(default_factory=time.perf_counter)
    _lock: threading.RLock = field(default_factory=threading.RLock)

    @property
    def lower(self) -> int:
        """Best bound in ticks."""
        return Certificate(tuple(self.bounds)).ticks

    @property
    def seconds(self) -> float:
        """Wall time since the search began."""
        return time.perf_counter() - self._start

    def offer(self, stage_of: IntArray, method: str) -> bool:
        """Consider a partition of the original nodes; return whether it is the new best.

        Raises
        ------
        AssertionError
            If the partition is not valid.
        """
        if not (self.graph.pinned >= 0).any():
            # Close ranks: non-empty stages first.
            _, stage_of = np.unique(stage_of, return_inverse=True)
            stage_of = stage_of.astype(np.int64)
        if self.exactly and len(np.unique(stage_of)) < self.stages:
            return False
        value = min(bottleneck(self.graph, self.target, stage_of, self.stages), INFEASIBLE)
        with self._lock:
            if self.upper <= value:
                return False
            wrong = check_partition(self.graph, stage_of, self.stages)
            if wrong:
                raise AssertionError(f"{method} made an invalid partition: {wrong[0]}")
            self.upper, self.stage_of = value, stage_of
            if method not in self.methods:
                self.methods.append(method)
            self._record(method)
            return True

    def adopt(self, other: Incumbent) -> None:
        """Take the partition of an incumbent for the same graph and target and fewer stages, if it is better.

        It was priced when that one took it, and what stages cost does not depend on how many stay empty.
        """
        with self._lock:
            if other.upper < self.upper and not self.exactly:
                self.upper, self.stage_of = other.upper, other.stage_of
                self.methods += [method for method in other.methods[-1:] if method not in self.methods]
                self._record(other.methods[-1])

    def bound(self, bound: Bound) -> None:
        """Add a lower bound, in place of an earlier one of the same method if it is better."""
        with self._lock:
            before = self.lower
            bound = replace(bound, ticks_per_second=self.graph.ticks_per_second)
            same = [b for b in self.bounds if b.method == bound.method]
            if same:
                # One line per method: its best value and all the time it took.
                best = max([*same, bound], key=lambda b: b.ticks)
                bound = replace(best, wall_seconds=bound.wall_seconds + sum(b.wall_seconds for b in same))
            self.bounds = [b for b in self.bounds if b.method != bound.method] + [bound]
            if self.lower > before:
                self._record(bound.method)

    def _record(self, method: str) -> None:
        if self.upper < self.lower:
            raise AssertionError(
                f"bound {self.lower} by {method} exceeds a known partition at {self.upper} ticks"
            )
        if self.upper >= INFEASIBLE:
            return  # nothing that could be run, so far
        best, bound = self.graph.seconds(self.upper), self.graph.seconds(self.lower)
        self.history.append(HistoryPoint(self.seconds, method, best, bound))
        if self.upper > 0:
            gap = format_percent(1 - self.lower / self.upper)
            self.progress("partition", None, f"{method}: gap {gap}")

    def result(self, stages: int, seed: int, interrupted: bool) -> PartitionResult:
        """Freeze, as a partition into so many stages; further ones are empty."""
        partition = Partition(self.graph, self.target, stages, self.stage_of, self.exactly)
        if self.upper < INFEASIBLE:
            vars(partition)["ticks"] = self.upper  # what the objective said when it was offered
        return PartitionResult(
            partition,
            Certificate(tuple(self.bounds)),
            SearchRecord(
                tuple(self.methods), self.evaluations, self.seconds, seed, interrupted, tuple(self.history)
            ),
        )
