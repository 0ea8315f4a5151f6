"""What a partitioner returns: the partition, its certificate and how it was found."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from onnx_pipeline.graph.activations import Schedule, stage_schedules
from onnx_pipeline.graph.costgraph import CostGraph, IntArray
from onnx_pipeline.graph.objective import StageCost, stage_costs
from onnx_pipeline.graph.target import NS, Target


@dataclass(frozen=True)
class Bound:
    """One lower bound on the bottleneck of every partition.

    Attributes
    ----------
    method : str
        ``"simple"``, ``"min-cut"``, ``"bottleneck"``, ...
    nanoseconds : int
        The bound, already rounded to the safe side.
    exact : bool
        True for exact integer reasoning, False for a solver's claim, rounded down by its tolerance.
    solver : str or None
        Who computed it, when it was not this package.
    wall_seconds : float
        Time spent on it.
    """

    method: str
    nanoseconds: int
    exact: bool = True
    solver: str | None = None
    wall_seconds: float = 0.0

    @property
    def seconds(self) -> float:
        """The bound in seconds."""
        return self.nanoseconds / NS


class HistoryPoint(NamedTuple):
    """State of the search when something improved; bottleneck and bound in nanoseconds."""

    seconds: float
    method: str
    upper: int
    lower: int


@dataclass(frozen=True, eq=False)
class PartitionResult:
    """A partition with its certificate.

    Without pins, non-empty stages come first: indices 0..used-1 are in use, the rest are empty.
    """

    graph: CostGraph
    target: Target
    stages: int
    stage_of: IntArray
    upper_ns: int
    bounds: tuple[Bound, ...]
    history: tuple[HistoryPoint, ...]
    methods: tuple[str, ...]
    evaluations: int
    wall_seconds: float
    seed: int
    interrupted: bool = False

    @property
    def lower_ns(self) -> int:
        """Best lower bound in nanoseconds."""
        return max((bound.nanoseconds for bound in self.bounds), default=0)

    @property
    def bottleneck(self) -> float:
        """Largest stage cost in seconds."""
        return self.upper_ns / NS

    @property
    def lower_bound(self) -> float:
        """Best lower bound in seconds."""
        return self.lower_ns / NS

    @property
    def ratio(self) -> float:
        """Lower bound over bottleneck, in [0, 1]; 1 means optimal."""
        return self.lower_ns / self.upper_ns if self.upper_ns else 1.0

    @property
    def gap(self) -> float:
        """1 - ratio."""
        return 1.0 - self.ratio

    @property
    def status(self) -> str:
        """``"optimal"`` when bound and bottleneck agree to the nanosecond, else ``"feasible"``."""
        return "optimal" if self.lower_ns >= self.upper_ns else "feasible"

    @property
    def used(self) -> int:
        """Number of non-empty stages."""
        return len(np.unique(self.stage_of))

    @property
    def costs(self) -> list[StageCost]:
        """Cost of every stage, recomputed by the one objective."""
        return stage_costs(self.graph, self.target, self.stage_of, self.stages)

    @property
    def schedules(self) -> list[Schedule]:
        """Execution order and peak of live activations of every stage."""
        rooms = [self.target.memory - cost.parameter_bytes for cost in self.costs]
        if not self.target.counts_activations:
            rooms = [math.inf] * self.stages
        return stage_schedules(self.graph, self.stage_of, self.stages, rooms)
