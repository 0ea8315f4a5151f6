"""The objective with replicas, written plainly: the only definition there is.

A chain of stages as :mod:`onnx_pipeline.graph.objective` prices it, stage s on r_s devices that take requests
in turn. A stage of cost c on r devices finishes a request every c / r, so

    period = max over stages of cost(S_s) / r_s        with sum over stages of r_s <= N devices
    latency = sum over stages of cost(S_s)

Every device of a stage holds all of it, so memory per device enters cost(S) as it does without replicas. An
empty stage takes no device. Periods are fractions of ticks: they are compared exactly.
"""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from fractions import Fraction
from typing import NamedTuple

import numpy as np

from onnx_pipeline.errors import UsageError
from onnx_pipeline.graph.costgraph import CostGraph, IntArray
from onnx_pipeline.graph.objective import price_stages
from onnx_pipeline.graph.target import INFEASIBLE, Target


class Served(NamedTuple):
    """How often a request is finished and how long it takes, in ticks."""

    period: Fraction
    latency: int


def price_replicas(
    graph: CostGraph,
    target: Target,
    stage_of: Sequence[int] | IntArray,
    replicas: Sequence[int],
    *,
    up: bool = False,
) -> Served:
    """Evaluate the objective.

    Parameters
    ----------
    graph : CostGraph
    target : Target
    stage_of : sequence of int, length n
        Stage of every node, in ``range(len(replicas))``.
    replicas : sequence of int
        Devices of every stage.
    up : bool
        Round what the target charges up instead of down.

    Raises
    ------
    UsageError
        If a stage with nodes has no device.
    """
    costs = price_stages(graph, target, stage_of, len(replicas), up=up)
    period = Fraction(0)
    for stage, (cost, devices) in enumerate(zip(costs, replicas, strict=True)):
        if cost.nodes and devices < 1:
            raise UsageError(f"stage {stage} has nodes, but no device")
        if cost.nodes:
            period = max(period, Fraction(cost.total, devices))
    return Served(period, sum(cost.total for cost in costs))


def periods(costs: Sequence[int], devices: int) -> list[Fraction]:
    """Return the least periods of non-empty stages on as many devices as stages, one more, ..., so many.

    The next device goes to the stage that is slowest so far. No division of the devices can leave that stage
    fewer and be better, so the period ends up least.

    Raises
    ------
    UsageError
        If there are fewer devices than stages.
    """
    if len(costs) > devices:
        raise UsageError(f"{len(costs)} stages do not fit on {devices} devices")
    if not costs:
        return [Fraction(0)] * (devices + 1)
    slowest = [(Fraction(-cost), s, 1) for s, cost in enumerate(costs)]
    heapq.heapify(slowest)
    found = [-slowest[0][0]]
    for _ in range(devices - len(costs)):
        _, s, replicas = slowest[0]
        heapq.heapreplace(slowest, (Fraction(-costs[s], replicas + 1), s, replicas + 1))
        found.append(-slowest[0][0])
    return found


def serving(costs: Sequence[int], period: Fraction) -> list[int]:
    """Return the fewest devices of each non-empty stage that keep a period."""
    return [max(1, -int(-cost // period)) if period else 1 for cost in costs]


def allot(costs: Sequence[int], devices: int) -> list[int]:
    """Return how many devices to give each non-empty stage: the least period, then the fewest devices.

    Raises
    ------
    UsageError
        If there are fewer devices than stages.
    """
    return serving(costs, periods(costs, devices)[-1])


def capacities(period: Fraction | None, devices: int) -> IntArray:
    """Return the largest cost that r devices serve in less than a period, for r = 0..devices.

    This is all that searches know of a period: "strictly less" is then a comparison of integers. None asks
    for any finite cost.
    """
    most = INFEASIBLE - 1
    if period is None:
        return np.array([-1] + [most] * devices, dtype=np.int64)
    p, q = period.numerator, period.denominator
    return np.array([-1] + [min(most, (p * r - 1) // q) for r in range(1, devices + 1)], dtype=np.int64)
