"""Partitions of cost graphs under one set of parameters: the search of a plan, and those of a closed loop."""

from __future__ import annotations

import time
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from onnx_pipeline.errors import Advice, InfeasibleError, UsageError
from onnx_pipeline.figures import format_count
from onnx_pipeline.files.atomic import check_writable
from onnx_pipeline.graph.constraints import NO_DEMANDS, Demands
from onnx_pipeline.parameters import PathLike, SearchParams, the_one
from onnx_pipeline.planfile import write_log
from onnx_pipeline.progress import Phases, Progress, silent
from onnx_pipeline.settings import SETTINGS

if TYPE_CHECKING:
    from onnx_pipeline.costmodel.fleets import Fleet
    from onnx_pipeline.given import GivenPartition
    from onnx_pipeline.graph.costgraph import CostGraph
    from onnx_pipeline.graph.target import Target
    from onnx_pipeline.partition.placed import FleetResult
    from onnx_pipeline.partition.result import HistoryPoint, PartitionResult
    from onnx_pipeline.replica_plan import ReplicaPlan
    from onnx_pipeline.solution import Solution

Solved = TypeVar("Solved", "PartitionResult", "ReplicaPlan", "Solution")
#: Share of the time limit that a search gets even where those before it took all: something must be found.
LEAST_SHARE = 32


@dataclass(frozen=True, eq=False)
class Planner:
    """Everything that a partition depends on except the graph.

    Attributes
    ----------
    stages : int or None
        Number of stages k, one on each device.
    target : Target
    search : SearchParams
        The time limit is that of all searches together.
    demands : Demands
    log : path-like, optional
        CSV file for the history of all searches, one after the other.
    progress : Progress
    phases : Phases
        Takes the seconds of ``partition``.
    given : GivenPartition, optional
        To evaluate instead of searching one.
    repeats : bool
        Whether more searches may follow: each takes half of the time that is left at most.
    devices : int or None
        Number of devices N for stages with replicas, in place of ``stages``.
    fleet : Fleet or None
        Devices that differ, in place of ``stages``; graphs have the work of every kind.
    """

    stages: int | None
    target: Target
    search: SearchParams
    demands: Demands = NO_DEMANDS
    log: PathLike | None = None
    progress: Progress = silent
    phases: Phases = field(default_factory=Phases)
    given: GivenPartition | None = None
    repeats: bool = False
    devices: int | None = None
    fleet: Fleet | None = None
    _spent: list[float] = field(default_factory=list)
    _history: list[HistoryPoint] = field(default_factory=list)

    def __post_init__(self) -> None:
        """Check the number of stages or devices, and that the log can be written."""
        kind = the_one(stages=self.stages, devices=self.devices, fleet=self.fleet)
        if kind != "fleet":
            object.__setattr__(self, kind, SETTINGS["stages"].check(getattr(self, kind), kind))
        if kind != "stages":
            self._refuse_for_devices(kind)
        if self.log is not None:
            if Path(self.log).is_dir():
                raise UsageError(f"log must be a file, {str(self.log)!r} is a folder")
            check_writable(Path(self.log))

    def _refuse_for_devices(self, kind: str) -> None:
        """Refuse what only a number of stages has."""
        for name, value in (
            ("partition", self.given),
            ("log", self.log),
            ("exactly", self.search.exactly or None),
            ("bounds", self.search.bounds),
        ):
            if value is not None:
                shown = True if value is True else ...
                hint = Advice(f"give {{stages}}, or leave out {{{name}}}", stages=..., **{name: shown})
                raise UsageError(f"{kind} and {name} exclude each other", hint)

    def solve(self, graph: CostGraph) -> Solution:
        """Plan the stages, or stages with replicas or on a fleet, whichever was asked for."""
        if self.fleet is not None:
            return self.place(graph)
        return self.partition(graph) if self.devices is None else self.replicate(graph)

    def solve_to_emit(self, graph: CostGraph) -> Solution:
        """Plan for files: an interrupted search or an empty stage in between is an error."""
        return _to_emit(self.solve(graph))

    def replicate(self, graph: CostGraph) -> ReplicaPlan:
        """Plan stages with replicas, with what equal replicas of stages would do instead."""
        from onnx_pipeline.replication import compared, replicate

        assert self.devices is not None
        search = self.search
        with self.phases.measure("partition", self.progress):
            plan = replicate(
                self.demands.apply(graph),
                self.devices,
                self.target,
                time_limit=search.time_limit,
                gap=search.gap,
                seed=search.seed,
                progress=self.progress,
            )
            return compared(plan, search, self.progress)

    def place(self, graph: CostGraph) -> FleetResult:
        """Plan stages and their devices."""
        from onnx_pipeline.fleet_planning import plan_on

        assert self.fleet is not None
        with self.phases.measure("partition", self.progress):
            return plan_on(graph, self.fleet, self.search, self.demands, self.progress)

    def partition(self, graph: CostGraph) -> PartitionResult:
        """Partition and certify a graph, write the log and note surprises."""
        assert self.stages is not None
        if self.stages > graph.num_nodes and not self.search.exactly:
            nodes = format_count(graph.num_nodes, "node")
            self._note(f"{self.stages} stages for {nodes}: empty stages are not written")
        began = time.monotonic()
        left = max(self.search.time_limit - sum(self._spent), self.search.time_limit / LEAST_SHARE)
        search = replace(self.search, time_limit=left / (1 + self.repeats))
        with self.phases.measure("partition", self.progress):
            result = self._solve(self.demands.apply(graph), search)
        self._spent.append(time.monotonic() - began)
        if self.log is not None:
            before = self._history[-1].seconds if self._history else 0.0
            self._history.extend(p._replace(seconds=before + p.seconds) for p in result.history)
            write_log(self._history, self.log)
        if self.given is None and result.used < min(self.stages, graph.num_nodes):
            self._note(f"the best partition found uses {result.used} of {self.stages} stages")
        return result

    def partition_to_emit(self, graph: CostGraph) -> PartitionResult:
        """Partition a graph for files: an interrupted search or an empty stage in between is an error."""
        return _to_emit(self.partition(graph))

    def _solve(self, graph: CostGraph, search: SearchParams) -> PartitionResult:
        assert self.stages is not None
        if self.given is not None:
            from onnx_pipeline.evaluation import evaluate_given

            return evaluate_given(graph, self.given, self.target, self.stages, search, self.progress)
        from onnx_pipeline.partition.portfolio import solve

        return solve(graph, self.stages, self.target, search, self.progress)

    def _note(self, message: str) -> None:
        self.progress("note", None, message)


def _to_emit(result: Solved) -> Solved:
    if result.interrupted:
        raise KeyboardInterrupt
    check_dense(result)
    return result


def check_dense(result: Solution) -> None:
    """Refuse a partition with an empty stage in between: there is no file to write for it.

    Raises
    ------
    InfeasibleError
        If pins may be the reason.
    UsageError
        If a user's own partition must be.
    """
    if result.partition.used > int(result.stage_of.max(initial=0)):
        return
    if (result.graph.pinned >= 0).any():
        raise InfeasibleError("the pins leave an earlier stage empty", "pin to lower stages")
    empty = next(s for s, cost in enumerate(result.costs) if not cost.nodes)
    raise UsageError(f"stage {empty} of the partition is empty", "number its stages without gaps")
