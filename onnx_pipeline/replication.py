"""Stages and replicas together: what to do with N devices."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple, overload

import numpy as np

from onnx_pipeline.errors import Advice, InfeasibleError
from onnx_pipeline.figures import format_bytes, format_count
from onnx_pipeline.graph.constraints import NO_DEMANDS
from onnx_pipeline.parameters import PathLike, SearchParams, as_target
from onnx_pipeline.progress import ProgressLike, shows_progress, silent
from onnx_pipeline.settings import check

if TYPE_CHECKING:
    from onnx_pipeline.costmodel.devices import Device
    from onnx_pipeline.graph.costgraph import CostGraph, IntArray
    from onnx_pipeline.graph.objective import StageCost
    from onnx_pipeline.graph.target import Target
    from onnx_pipeline.partition.replicas.known import Known
    from onnx_pipeline.partition.replicas.planning import Plans
    from onnx_pipeline.partition.result import Partition


class Alternative(NamedTuple):
    """So many replicas of so many stages each: what one would do without mixing.

    Attributes
    ----------
    stages : int
        1 for the whole model.
    replicas : int
    period, latency : float
        In seconds, rounded up.
    """

    stages: int
    replicas: int
    period: float
    latency: float


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

    def __repr__(self) -> str:
        """Return the verdict in one line."""
        from onnx_pipeline.brief import of_replica_plan

        return of_replica_plan(self)

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

    @cached_property
    def _served(self) -> Alternative:
        return _figures(self.partition, self.replicas)

    @property
    def period(self) -> float:
        """Seconds between two requests, rounded up."""
        return self._served.period

    @property
    def latency(self) -> float:
        """Seconds that one request takes through all stages, rounded up."""
        return self._served.latency

    @property
    def lower_bound(self) -> float:
        """Seconds that the period is at least, whatever the stages and replicas, rounded down."""
        return float(self.lower_ticks / self.graph.ticks_per_second)

    @property
    def gap(self) -> float:
        """1 - lower bound / period."""
        return 1 - float(self.lower_ticks / self.period_ticks) if self.period_ticks else 0.0

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


@overload
def replicate(
    graph: CostGraph,
    devices: int,
    target: Target | Device | PathLike | None = None,
    *,
    time_limit: float = ...,
    gap: float = ...,
    seed: int = ...,
    pins: Mapping[str, int] | None = ...,
    together: Iterable[Collection[str]] = ...,
    no_cut: Collection[str] = ...,
    progress: ProgressLike = ...,
) -> ReplicaPlan: ...
@overload
def replicate(
    graph: CostGraph,
    devices: str | Iterable[int],
    target: Target | Device | PathLike | None = None,
    *,
    time_limit: float = ...,
    gap: float = ...,
    seed: int = ...,
    pins: Mapping[str, int] | None = ...,
    together: Iterable[Collection[str]] = ...,
    no_cut: Collection[str] = ...,
    progress: ProgressLike = ...,
) -> ReplicaTable: ...
@shows_progress("searching")
def replicate(
    graph: CostGraph,
    devices: int | str | Iterable[int],
    target: Target | Device | PathLike | None = None,
    *,
    time_limit: float = 10.0,
    gap: float = 0.0,
    seed: int = 0,
    pins: Mapping[str, int] | None = None,
    together: Iterable[Collection[str]] = (),
    no_cut: Collection[str] = (),
    progress: ProgressLike = silent,
) -> ReplicaPlan | ReplicaTable:
    """Plan stages and replicas of stages together for N devices, and certify the period.

    A stage on r devices finishes a request r times as often. With enough memory, a replica of the whole model
    on every device is best; where a device holds only a part, some stages deserve more devices than others.

    Parameters
    ----------
    graph : CostGraph
    devices : int, str or iterable of int
        Number of devices N; several, as in ``range(1, 65)`` or ``"1-64"``, make a table in one search.
    target : Target, Device, str or path-like, optional
        Devices and links, a device also by name or as a TOML file; default: free transfers, unlimited memory.
    time_limit : float
        Seconds of search for each number of devices, proofs included; what one leaves over, others have.
    gap : float
        Stop once this gap is proved; 0 asks for a proof of optimality.
    seed, pins, together, no_cut, progress
        As in :func:`onnx_pipeline.partition`. A pin names a stage, not a device.

    Returns
    -------
    ReplicaPlan or ReplicaTable
        A table if ``devices`` is a list. After a KeyboardInterrupt, the best so far with ``interrupted`` set.

    Raises
    ------
    UsageError
        If a parameter is out of range or of the wrong kind, a name is unknown, or a pin is beyond the number
        of devices.
    InfeasibleError
        If no plan is found for one number of devices that meets the pins and the hard memory limit.

    Examples
    --------
    >>> from onnx_pipeline import GraphBuilder, Target
    >>> builder = GraphBuilder("two")
    >>> a, b = builder.add_node("a", 3e6), builder.add_node("b", 1e6)
    >>> _ = builder.add_group("w", 10, [a]), builder.add_group("x", 10, [b])
    >>> plan = replicate(builder.build(), 4, Target(memory=10, memory_mode="hard"))
    >>> plan.replicas, plan.status
    ((3, 1), 'optimal')
    """
    from onnx_pipeline.partition.replicas.planning import plan_replicas

    numbers = check("devices", devices)
    params = SearchParams(time_limit, gap, seed)
    graph = NO_DEMANDS.joined(pins, together, no_cut).apply(graph)
    chosen = as_target(target, graph)
    plans = plan_replicas(graph, numbers, chosen, params, progress)
    rows = {known.devices: _plan(known, plans) for known in plans.known}
    if isinstance(devices, str) or not hasattr(devices, "__index__"):
        lacking = frozenset(known.devices for known in plans.known if known.infeasible)
        return ReplicaTable(graph, rows, lacking, plans.interrupted)
    plan = rows[numbers[0]]
    if plan is None:
        raise _infeasible(plans.known[0])
    return plan


def _figures(partition: Partition, replicas: tuple[int, ...]) -> Alternative:
    """Return period and latency of an arrangement, rounded up."""
    from onnx_pipeline.graph.replicas import price_replicas

    graph = partition.graph
    served = price_replicas(graph, partition.target, partition.stage_of, replicas, up=True)
    period = float(served.period / graph.ticks_per_second)
    return Alternative(len(replicas), min(replicas, default=0), period, graph.seconds(served.latency))


def _plan(known: Known, plans: Plans) -> ReplicaPlan | None:
    from onnx_pipeline.partition.result import Partition

    if known.period is None:
        return None
    return ReplicaPlan(
        Partition(known.graph, known.target, len(known.replicas), known.stage_of),
        known.replicas,
        known.devices,
        known.period,
        known.lower,
        known.method,
        known.bound_method,
        _whole(plans.whole, known.devices),
        _equal(known.devices, plans),
        plans.interrupted,
    )


def _whole(one: Partition, devices: int) -> Alternative | None:
    """Return what a replica of the whole model on every device does, if one device holds it."""
    from onnx_pipeline.graph.target import INFEASIBLE

    if one.ticks >= INFEASIBLE:
        return None
    period = Fraction(one.costs[0].total, devices) / one.graph.ticks_per_second
    return Alternative(1, devices, float(period), one.bottleneck)


def _equal(devices: int, plans: Plans) -> Alternative | None:
    """Return the best of floor(N / k) replicas of k stages; one stage is the whole model."""
    fitting = [result for result in plans.equal if result.stages <= devices]
    if not fitting:
        return _whole(plans.whole, devices)

    def period(result: Partition) -> Fraction:
        return Fraction(result.ticks, devices // result.stages) / result.graph.ticks_per_second

    best = min(fitting, key=period)
    share = devices // best.stages
    latency = sum(cost.total for cost in best.costs)
    return Alternative(best.stages, share, best.bottleneck / share, best.graph.seconds(latency))


def _infeasible(known: Known) -> InfeasibleError:
    """Say why there is no plan."""
    graph, target = known.graph, known.target
    devices, room = format_count(known.devices, "device"), format_bytes(target.memory)
    held = format_bytes(int(graph.group_bytes[np.diff(graph.group_ptr) > 0].sum()))
    if known.infeasible:
        verb = "does" if known.devices == 1 else "do"
        message = f"{devices} of {room} {verb} not hold the model, whatever the stages"
    else:
        message = f"no stages were found that {devices} of {room} hold"
    return InfeasibleError(
        f"{message} ({held} of parameters in all)",
        Advice("allow more devices, more memory, or {memory_mode}", memory_mode="overflow"),
    )
