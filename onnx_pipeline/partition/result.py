"""What a partitioner returns: the partition, its certificate and how it was found."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np

from onnx_pipeline.graph.activations import Schedule, stage_schedules
from onnx_pipeline.graph.costgraph import CostGraph, IntArray
from onnx_pipeline.graph.objective import StageCost, bottleneck, price_stages
from onnx_pipeline.graph.problem import Problem
from onnx_pipeline.graph.target import Target
from onnx_pipeline.graph.ticks import NS


@dataclass(frozen=True)
class Bound:
    """One lower bound on the bottleneck of every partition.

    Attributes
    ----------
    method : str
        ``"simple"``, ``"min-cut"``, ``"bottleneck"``, ...
    ticks : int
        The bound, rounded down.
    exact : bool
        True if proved in integers, False for a solver's claim, rounded down by its tolerance.
    solver : str or None
        The solver that computed it, or None for this package.
    wall_seconds : float
        Time spent on it.
    ticks_per_second : int
        How finely the graph counts.
    stages : int or None
        The number of stages that it was proved for, where that is more than the partition has: what no
        partition into so many stages can beat, none into fewer can.
    detail : mapping or None
        What proves it, where a check needs that.
    """

    method: str
    ticks: int
    exact: bool = True
    solver: str | None = None
    wall_seconds: float = 0.0
    ticks_per_second: int = NS
    stages: int | None = None
    detail: Mapping[str, Any] | None = None

    @property
    def seconds(self) -> float:
        """The bound in seconds."""
        return self.ticks / self.ticks_per_second

    def to_json(self) -> dict[str, Any]:
        """Return the entry of manifests and plans."""
        return {
            "method": self.method,
            "seconds": self.seconds,
            "exact": self.exact,
            "solver": self.solver,
            "wall_seconds": self.wall_seconds,
            **({} if self.stages is None else {"stages": self.stages}),
            **({} if self.detail is None else {"detail": dict(self.detail)}),
        }

    @classmethod
    def from_json(cls, entry: Mapping[str, Any], ticks_per_second: int) -> Bound:
        """Read the entry that :meth:`to_json` wrote for a graph that counts as finely."""
        return cls(
            entry["method"],
            round(entry["seconds"] * ticks_per_second),
            entry.get("exact", True),
            entry.get("solver"),  # which plans may leave out
            entry["wall_seconds"],
            ticks_per_second,
            entry.get("stages"),
            entry.get("detail"),
        )


@dataclass(frozen=True, eq=False)
class Partition:
    """Nodes of a graph divided into stages for a target.

    Without pins, non-empty stages come first: indices 0..used-1 are in use, the rest are empty.

    Attributes
    ----------
    graph : CostGraph
    target : Target
    stages : int
        k, empty ones included.
    stage_of : int64[n]
    exactly : bool
        Whether no stage was to stay empty.
    """

    graph: CostGraph
    target: Target
    stages: int
    stage_of: IntArray
    exactly: bool = False

    def __repr__(self) -> str:
        """Return the figures that matter, in one line."""
        from onnx_pipeline.brief import of_partition

        return of_partition(self)

    @cached_property
    def ticks(self) -> int:
        """Largest stage cost as searches count it, rounded down."""
        return bottleneck(self.graph, self.target, self.stage_of, self.stages)

    @cached_property
    def costs(self) -> list[StageCost]:
        """Cost of every stage, recomputed by the one objective; what the target charges is rounded up."""
        return price_stages(self.graph, self.target, self.stage_of, self.stages, up=True)

    @property
    def bottleneck(self) -> float:
        """Largest stage cost in seconds, rounded up."""
        return self.graph.seconds(max((cost.total for cost in self.costs), default=0))

    @property
    def used(self) -> int:
        """Number of non-empty stages."""
        return len(np.unique(self.stage_of))

    @property
    def schedules(self) -> list[Schedule]:
        """Execution order and peak of live activations of every stage."""
        rooms = [self.target.memory - cost.parameter_bytes for cost in self.costs]
        if not self.target.counts_activations:
            rooms = [math.inf] * self.stages
        return stage_schedules(self.graph, self.stage_of, self.stages, rooms)


@dataclass(frozen=True)
class Certificate:
    """Lower bounds that hold for every partition of one graph into k stages for one target.

    The bound ``"exactly"`` holds for those that leave no stage empty; a partition must have been asked to.
    """

    bounds: tuple[Bound, ...] = ()

    @property
    def ticks(self) -> int:
        """The best of them."""
        return max((bound.ticks for bound in self.bounds), default=0)


class HistoryPoint(NamedTuple):
    """State of the search when something improved; everything in seconds."""

    seconds: float
    method: str
    bottleneck: float
    lower_bound: float


@dataclass(frozen=True)
class SearchRecord:
    """How a partition was found; empty for one made elsewhere.

    Attributes
    ----------
    methods : tuple of str
        What improved the partition, in order of the first time.
    evaluations : int
        Orders that were sliced.
    wall_seconds : float
    seed : int
    interrupted : bool
        Whether Ctrl-C ended the search.
    history : tuple of HistoryPoint
    """

    methods: tuple[str, ...] = ()
    evaluations: int = 0
    wall_seconds: float = 0.0
    seed: int = 0
    interrupted: bool = False
    history: tuple[HistoryPoint, ...] = field(default=(), repr=False)

    def to_json(self) -> dict[str, Any]:
        """Return the ``search`` object of manifests and plans, without the history."""
        return {
            "methods": list(self.methods),
            "evaluations": self.evaluations,
            "wall_seconds": self.wall_seconds,
            "seed": self.seed,
            "interrupted": self.interrupted,
        }

    @classmethod
    def from_json(cls, entry: Mapping[str, Any]) -> SearchRecord:
        """Read what :meth:`to_json` wrote; missing entries are unknown."""
        return cls(
            tuple(entry.get("methods", ())),
            int(entry.get("evaluations", 0)),
            float(entry.get("wall_seconds", 0.0)),
            int(entry.get("seed", 0)),
            bool(entry.get("interrupted", False)),
        )


@dataclass(frozen=True, eq=False)
class PartitionResult:
    """A partition, its certificate and the record of the search, with shortcuts."""

    partition: Partition
    certificate: Certificate
    search: SearchRecord

    def __repr__(self) -> str:
        """Return the verdict in one line."""
        from onnx_pipeline.brief import of_result

        return of_result(self)

    def _repr_html_(self) -> str:
        """Return the verdict and a bar for every stage, for notebooks."""
        from onnx_pipeline.cards import card

        return card(self.to_json())

    @property
    def graph(self) -> CostGraph:
        """The graph that was partitioned."""
        return self.partition.graph

    @property
    def target(self) -> Target:
        """The devices that it was partitioned for."""
        return self.partition.target

    @property
    def stages(self) -> int:
        """Number of stages k, empty ones included."""
        return self.partition.stages

    @property
    def stage_of(self) -> IntArray:
        """Stage of every node."""
        return self.partition.stage_of

    @property
    def used(self) -> int:
        """Number of non-empty stages."""
        return self.partition.used

    @property
    def costs(self) -> list[StageCost]:
        """Cost of every stage."""
        return self.partition.costs

    @property
    def schedules(self) -> list[Schedule]:
        """Execution order and peak of live activations of every stage."""
        return self.partition.schedules

    @property
    def problem(self) -> Problem:
        """What the bounds are about."""
        return Problem.of_stages(self.stages)

    @property
    def bounds(self) -> tuple[Bound, ...]:
        """The certificate's bounds."""
        return self.certificate.bounds

    @property
    def history(self) -> tuple[HistoryPoint, ...]:
        """When the search improved, and to what."""
        return self.search.history

    @property
    def interrupted(self) -> bool:
        """Whether Ctrl-C ended the search."""
        return self.search.interrupted

    @property
    def upper(self) -> int:
        """Bottleneck in ticks, as searches count it."""
        return self.partition.ticks

    @property
    def lower(self) -> int:
        """Best lower bound in ticks."""
        return self.certificate.ticks

    @property
    def bottleneck(self) -> float:
        """Largest stage cost in seconds, rounded up."""
        return self.partition.bottleneck

    @property
    def lower_bound(self) -> float:
        """Best lower bound in seconds, rounded down."""
        return self.graph.seconds(self.lower)

    @property
    def ratio(self) -> float:
        """Lower bound over bottleneck, in [0, 1]; 1 means optimal."""
        return self.lower / self.upper if self.upper else 1.0

    @property
    def gap(self) -> float:
        """1 - ratio."""
        return 1.0 - self.ratio

    @property
    def status(self) -> str:
        """``"optimal"`` when bound and bottleneck agree to the tick, else ``"feasible"``."""
        return "optimal" if self.lower >= self.upper else "feasible"

    def to_json(self, file: str | os.PathLike[str] | None = None) -> dict[str, Any]:
        """Return the PLAN.json document; ``onnx_pipeline.read_plan`` reads it back.

        Parameters
        ----------
        file : path-like, optional
            The file of the graph, named in the document together with its SHA-256.
        """
        from onnx_pipeline.planfile import plan_document

        return plan_document(self, file)
