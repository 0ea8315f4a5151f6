"""Partitions of cost graphs under one set of parameters: the search of a plan, and those of a closed loop."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from onnx_pipeline.errors import InfeasibleError, UsageError
from onnx_pipeline.figures import format_count
from onnx_pipeline.files.atomic import check_writable
from onnx_pipeline.graph.constraints import NO_DEMANDS, Demands
from onnx_pipeline.parameters import PathLike, SearchParams
from onnx_pipeline.planfile import write_log
from onnx_pipeline.progress import Phases, Progress, silent
from onnx_pipeline.settings import check

if TYPE_CHECKING:
    from onnx_pipeline.given import GivenPartition
    from onnx_pipeline.graph.costgraph import CostGraph
    from onnx_pipeline.graph.target import Target
    from onnx_pipeline.partition.result import HistoryPoint, PartitionResult


@dataclass(frozen=True, eq=False)
class Planner:
    """Everything that a partition depends on except the graph.

    Attributes
    ----------
    stages : int
        Number of devices k.
    target : Target
    search : SearchParams
        Of each search.
    demands : Demands
    log : path-like, optional
        CSV file for the history of all searches, one after the other.
    progress : Progress
    phases : Phases
        Takes the seconds of ``partition``.
    given : GivenPartition, optional
        To evaluate instead of searching one.
    """

    stages: int
    target: Target
    search: SearchParams
    demands: Demands = NO_DEMANDS
    log: PathLike | None = None
    progress: Progress = silent
    phases: Phases = field(default_factory=Phases)
    given: GivenPartition | None = None
    _history: list[HistoryPoint] = field(default_factory=list)

    def __post_init__(self) -> None:
        """Check the number of stages, and that the log can be written."""
        object.__setattr__(self, "stages", check("stages", self.stages))
        if self.log is not None:
            if Path(self.log).is_dir():
                raise UsageError(f"log must be a file, {str(self.log)!r} is a folder")
            check_writable(Path(self.log))

    def partition(self, graph: CostGraph) -> PartitionResult:
        """Partition and certify a graph, write the log and note surprises."""
        if self.stages > graph.num_nodes and not self.search.exactly:
            nodes = format_count(graph.num_nodes, "node")
            self._note(f"{self.stages} stages for {nodes}: empty stages are not written")
        with self.phases.measure("partition", self.progress):
            result = self._solve(self.demands.apply(graph))
        if self.log is not None:
            before = self._history[-1].seconds if self._history else 0.0
            self._history.extend(p._replace(seconds=before + p.seconds) for p in result.history)
            write_log(self._history, self.log)
        if self.given is None and result.used < min(self.stages, graph.num_nodes):
            self._note(f"the best partition found uses {result.used} of {self.stages} stages")
        return result

    def partition_to_emit(self, graph: CostGraph) -> PartitionResult:
        """Partition a graph for files: an interrupted search or an empty stage in between is an error."""
        result = self.partition(graph)
        if result.interrupted:
            raise KeyboardInterrupt
        if result.used <= int(result.stage_of.max(initial=0)):
            if self.given is not None:
                empty = next(s for s, cost in enumerate(result.costs) if not cost.nodes)
                raise UsageError(f"stage {empty} of the partition is empty", "number its stages without gaps")
            raise InfeasibleError("the pins leave an earlier stage empty", "pin to lower stages")
        return result

    def _solve(self, graph: CostGraph) -> PartitionResult:
        if self.given is not None:
            from onnx_pipeline.evaluation import evaluate_given

            return evaluate_given(graph, self.given, self.target, self.stages, self.search, self.progress)
        from onnx_pipeline.partition.portfolio import solve

        return solve(graph, self.stages, self.target, self.search, self.progress)

    def _note(self, message: str) -> None:
        self.progress("note", None, message)
