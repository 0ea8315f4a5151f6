"""What :func:`onnx_pipeline.replicate` returns: stages, the devices of each, and the proof."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from onnx_pipeline.graph.problem import Problem
from onnx_pipeline.graph.target import INFEASIBLE, Target
from onnx_pipeline.partition.result import Bound, Partition, SearchRecord

if TYPE_CHECKING:
    from onnx_pipeline.graph.activations import Schedule
    from onnx_pipeline.graph.costgraph import CostGraph, IntArray
    from onnx_pipeline.graph.objective import StageCost


class Alternative(NamedTuple):
    """So many replicas of so many stages each: what one would do without mixing.

    Attributes
    ----------
    stages : int
        1 for the whole model.
    replicas : int
    period, latency : float
        In seconds, rounded up.
    memory_bytes : int
        Parameters and peak of live activations of the fullest device.
    """

    stages: int
    replicas: int
    period: float
    latency: float
    memory_bytes: int = 0

    def to_json(self) -> dict[str, Any]:
        """Return the object of manifests and plans: times in seconds."""
        return {
            "stages": self.stages,
            "replicas": self.replicas,
            "period_seconds": self.period,
            "latency_seconds": self.latency,
            "memory_bytes": self.memory_bytes,
        }


def figures(partition: Partition, replicas: Sequence[int]) -> Alternative:
    """Return what an arrangement comes to, by the one objective."""
    from onnx_pipeline.graph.replicas import price_replicas
    from onnx_pipeline.sizing import held

    graph = partition.graph
    served = price_replicas(graph, partition.target, partition.stage_of, replicas, up=True)
    period = float(served.period / graph.ticks_per_second)
    least = min((r for r in replicas if r), default=0)
    return Alternative(len(replicas), least, period, graph.seconds(served.latency), held(partition))


def alike(partition: Partition, devices: int) -> Alternative:
    """Return what as many replicas of a partition as the devices hold come to."""
    share = devices // partition.used
    found = figures(partition, [share if cost.nodes else 0 for cost in partition.costs])
    return found._replace(stages=partition.used)


def whole_replicas(one: Partition, devices: int) -> Alternative | None:
    """Return what a replica of the whole model on every device does; None where it is not valid."""
    return None if one.ticks >= INFEASIBLE or (one.graph.pinned > 0).any() else figures(one, (devices,))


def one_stage(graph: CostGraph, target: Target) -> Partition:
    """Return the whole model as one stage, valid or not."""
    return Partition(graph, target, 1, np.zeros(graph.num_nodes, dtype=np.int64))


@dataclass(frozen=True, eq=False)
class ReplicaPlan:
    """Stages, the devices of each, and the proof how much better another arrangement could be.

    Attributes
    ----------
    partition : Partition
        The stages.
    replicas : tuple of int
        Devices of every stage, which take requests in turn.
    devices : int
        N, of which ``used`` are needed.
    period_ticks, lower_ticks : Fraction
        Period and its best lower bound, as searches count them.
    method, bound_method : str
        What found the plan and what proved the bound.
    whole : Alternative or None
        A replica of the whole model on every device; None where a hard memory limit forbids it.
    equal : Alternative or None
        The best that was found of floor(N / k) replicas of k stages, over all k; None if there is none.
    interrupted : bool
        Whether Ctrl-C ended the search.
    staged_partition : Partition or None
        The stages of ``staged``, the best of floor(N / k) replicas of k stages over all k from 2 on; None
        also where whole replicas settled it before any search.
    search : SearchRecord
        How it was found.
    """

    partition: Partition
    replicas: tuple[int, ...]
    devices: int
    period_ticks: Fraction
    lower_ticks: Fraction
    method: str
    bound_method: str
    whole: Alternative | None = None
    equal: Alternative | None = None
    interrupted: bool = False
    staged_partition: Partition | None = None
    search: SearchRecord = field(default_factory=SearchRecord)

    def __repr__(self) -> str:
        """Return the verdict in one line."""
        from onnx_pipeline.brief import of_replica_plan

        return of_replica_plan(self)

    def _repr_html_(self) -> str:
        """Return the verdict and a bar for every stage, for notebooks."""
        from onnx_pipeline.cards import card
        from onnx_pipeline.planfile import plan_document

        return card(plan_document(self))

    @property
    def graph(self) -> CostGraph:
        """The graph that was planned."""
        return self.partition.graph

    @property
    def target(self) -> Target:
        """The devices."""
        return self.partition.target

    @property
    def stages(self) -> int:
        """Number of stages."""
        return len(self.replicas)

    @property
    def stage_of(self) -> IntArray:
        """Stage of every node."""
        return self.partition.stage_of

    @property
    def used(self) -> int:
        """Number of devices that have something to do."""
        return sum(self.replicas)

    @property
    def costs(self) -> list[StageCost]:
        """Cost of every stage on one device."""
        return self.partition.costs

    @property
    def schedules(self) -> list[Schedule]:
        """Execution order and peak of live activations of every stage."""
        return self.partition.schedules

    @property
    def problem(self) -> Problem:
        """What the bound is about."""
        return Problem.of_replicas(self.devices)

    @property
    def bounds(self) -> tuple[Bound, ...]:
        """The best bound; its ticks are parts of the graph's, for a period is a fraction of them."""
        parts = self.graph.ticks_per_second * self.lower_ticks.denominator
        return (Bound(self.bound_method, self.lower_ticks.numerator, ticks_per_second=parts),)

    @cached_property
    def figures(self) -> Alternative:
        """Period, latency and memory as the objective has them."""
        return figures(self.partition, self.replicas)

    @cached_property
    def staged(self) -> Alternative | None:
        """What as many replicas of ``staged_partition`` as the devices hold come to."""
        own = self.staged_partition
        return None if own is None else alike(own, self.devices)

    @property
    def period(self) -> float:
        """Seconds between two requests, rounded up."""
        return self.figures.period

    @property
    def bottleneck(self) -> float:
        """The period: what a pipeline without replicas calls so."""
        return self.period

    @property
    def latency(self) -> float:
        """Seconds that one request takes through all stages, rounded up."""
        return self.figures.latency

    @property
    def upper(self) -> Fraction:
        """Period in ticks, as searches count it."""
        return self.period_ticks

    @property
    def lower(self) -> Fraction:
        """Best lower bound of the period in ticks."""
        return self.lower_ticks

    @property
    def lower_bound(self) -> float:
        """Seconds that the period is at least, whatever the stages and replicas, rounded down."""
        return float(self.lower_ticks / self.graph.ticks_per_second)

    @property
    def gap(self) -> float:
        """1 - lower bound / period."""
        return 1 - self.ratio

    @property
    def ratio(self) -> float:
        """Lower bound over period, in [0, 1]; 1 means optimal."""
        return float(self.lower_ticks / self.period_ticks) if self.period_ticks else 1.0

    @property
    def status(self) -> str:
        """``"optimal"`` when bound and period are equal, else ``"feasible"``."""
        return "optimal" if self.lower_ticks >= self.period_ticks else "feasible"

    def to_json(self) -> dict[str, Any]:
        """Return the figures: times in seconds, null for what is not possible."""
        return {
            "devices": self.devices,
            "used": self.used,
            "replicas": list(self.replicas),
            "period_seconds": self.period,
            "rate_per_second": 1 / self.period if self.period else None,
            "latency_seconds": self.latency,
            "lower_bound_seconds": self.lower_bound,
            "bound_method": self.bound_method,
            "gap": self.gap,
            "status": self.status,
            "whole": None if self.whole is None else self.whole._asdict(),
            "equal": None if self.equal is None else self.equal._asdict(),
            "staged": None if self.staged is None else self.staged._asdict(),
        }


@dataclass(frozen=True, eq=False)
class ReplicaTable:
    """Plans for many numbers of devices.

    Attributes
    ----------
    graph : CostGraph
    plans : mapping of int to ReplicaPlan or None
        By number of devices, ascending; None where no plan is known.
    infeasible : frozenset of int
        Numbers of devices for which it is proved that there is none.
    interrupted : bool
        Whether Ctrl-C ended the search.
    """

    graph: CostGraph
    plans: Mapping[int, ReplicaPlan | None]
    infeasible: frozenset[int] = frozenset()
    interrupted: bool = False

    def __repr__(self) -> str:
        """Return the figures that matter, in one line."""
        from onnx_pipeline.brief import of_replica_table

        return of_replica_table(self)

    def __iter__(self) -> Iterator[ReplicaPlan]:
        """Iterate over the plans that there are."""
        return (plan for plan in self.plans.values() if plan is not None)

    def __len__(self) -> int:
        """Return how many plans there are."""
        return sum(1 for _ in self)

    def __getitem__(self, devices: int) -> ReplicaPlan | None:
        """Return the plan for a number of devices, None if none is known."""
        return self.plans[devices]

    def to_json(self) -> list[dict[str, Any]]:
        """Return the figures of all plans."""
        return [plan.to_json() for plan in self]
