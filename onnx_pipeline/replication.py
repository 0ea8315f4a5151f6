"""Stages and replicas together: what to do with N devices."""

from __future__ import annotations

import time
from collections.abc import Collection, Iterable, Mapping
from dataclasses import replace
from fractions import Fraction
from typing import TYPE_CHECKING, overload

import numpy as np

from onnx_pipeline.errors import Advice, InfeasibleError
from onnx_pipeline.figures import format_bytes, format_count
from onnx_pipeline.graph.constraints import NO_DEMANDS
from onnx_pipeline.parameters import PathLike, SearchParams, as_target
from onnx_pipeline.progress import Progress, ProgressLike, shows_progress, silent
from onnx_pipeline.replica_plan import Alternative, ReplicaPlan, ReplicaTable, alike, whole_replicas
from onnx_pipeline.settings import check

if TYPE_CHECKING:
    from onnx_pipeline.costmodel.devices import Device
    from onnx_pipeline.graph.costgraph import CostGraph
    from onnx_pipeline.graph.target import Target
    from onnx_pipeline.partition.replicas.known import Known
    from onnx_pipeline.partition.replicas.planning import Plans
    from onnx_pipeline.partition.result import Partition, SearchRecord


__all__ = ["Alternative", "ReplicaPlan", "ReplicaTable", "replicate"]


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
    from onnx_pipeline.partition.result import SearchRecord

    numbers = check("devices", devices)
    params = SearchParams(time_limit, gap, seed)
    began = time.perf_counter()
    graph = NO_DEMANDS.joined(pins, together, no_cut).apply(graph)
    chosen = as_target(target, graph)
    plans = plan_replicas(graph, numbers, chosen, params, progress)
    spent = time.perf_counter() - began
    search = SearchRecord(wall_seconds=spent, seed=seed, interrupted=plans.interrupted)
    rows = {known.devices: _plan(known, plans, search) for known in plans.known}
    if isinstance(devices, str) or not hasattr(devices, "__index__"):
        lacking = frozenset(known.devices for known in plans.known if known.infeasible)
        return ReplicaTable(graph, rows, lacking, plans.interrupted)
    plan = rows[numbers[0]]
    if plan is None:
        raise _infeasible(plans.known[0])
    return plan


def _plan(known: Known, plans: Plans, search: SearchRecord) -> ReplicaPlan | None:
    from onnx_pipeline.partition.result import Partition

    if known.period is None:
        return None
    own = Partition(known.graph, known.target, len(known.replicas), known.stage_of)
    return ReplicaPlan(
        own,
        known.replicas,
        known.devices,
        known.period,
        known.lower,
        known.method,
        known.bound_method,
        whole_replicas(plans.whole, known.devices),
        _equal(plans, known.devices),
        plans.interrupted,
        best_staged(plans.equal, known.devices) or (own if own.used > 1 else None),
        replace(search, methods=(known.method,)),
    )


def best_staged(found: Iterable[Partition], devices: int) -> Partition | None:
    """Return the stages of the best of floor(N / k) replicas of k stages, for k from 2 to N."""
    fitting = [result for result in found if result.stages <= devices and result.used > 1]
    return min(fitting, key=lambda result: _shared(result, devices), default=None)


def compared(plan: ReplicaPlan, search: SearchParams, progress: Progress = silent) -> ReplicaPlan:
    """Return a plan that says what equal replicas of stages would do, also where none were looked for.

    Where whole replicas are optimal, planning ends before; who asks how to use devices still compares.
    """
    from onnx_pipeline.partition.replicas.equal import EQUAL_SHARE
    from onnx_pipeline.partition.result import PartitionResult
    from onnx_pipeline.partition.sweep import sweep

    graph, devices = plan.graph, plan.devices
    stages = sorted({devices // share for share in range(1, devices // 2 + 1)})
    stages = [k for k in stages if k > int(graph.pinned.max(initial=-1))]
    if plan.staged_partition is not None or plan.interrupted or not stages:
        return plan
    limit = EQUAL_SHARE * search.time_limit / len(stages)
    params = SearchParams(limit, search.gap, search.seed, search.threads)
    found = sweep(graph, stages, plan.target, params, progress)
    rows = [row.partition for row in found.rows if isinstance(row, PartitionResult)]
    best = best_staged(rows, devices)
    return replace(plan, staged_partition=best, interrupted=found.interrupted)


def _equal(plans: Plans, devices: int) -> Alternative | None:
    """Return the best of floor(N / k) replicas of k stages; one stage is the whole model."""
    fitting = [result for result in plans.equal if result.stages <= devices]
    if not fitting:
        return whole_replicas(plans.whole, devices)
    return alike(min(fitting, key=lambda result: _shared(result, devices)), devices)


def _shared(result: Partition, devices: int) -> Fraction:
    """Return the period of as many replicas of a partition as the devices hold."""
    return Fraction(result.ticks, devices // result.used) / result.graph.ticks_per_second


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
