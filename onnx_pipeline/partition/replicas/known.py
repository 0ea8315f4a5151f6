"""What is known for one number of devices: the best stages with replicas, and the best bound."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from fractions import Fraction

import numpy as np

from onnx_pipeline.graph.costgraph import CostGraph, IntArray
from onnx_pipeline.graph.objective import check_partition, price_stages
from onnx_pipeline.graph.replicas import allot, price_replicas
from onnx_pipeline.graph.target import INFEASIBLE, Target


@dataclass(eq=False)
class Known:
    """Collects stages and bounds of the original graph and checks each, as ``Incumbent`` does.

    Attributes
    ----------
    graph : CostGraph
    target : Target
    devices : int
    period : Fraction or None
        In ticks, None before the first plan.
    stage_of : int64[n]
    replicas : tuple of int
    lower : Fraction
        Best bound of the period, in ticks.
    method, bound_method : str
        What found the plan and the bound.
    infeasible : bool
        Whether it is proved that there is no plan.
    seconds : float
        Time spent on this number of devices alone.
    """

    graph: CostGraph
    target: Target
    devices: int
    period: Fraction | None = None
    stage_of: IntArray = field(default_factory=lambda: np.zeros(0, dtype=np.int64))
    replicas: tuple[int, ...] = ()
    lower: Fraction = Fraction(0)
    method: str = ""
    bound_method: str = "simple"
    infeasible: bool = False
    seconds: float = 0.0

    @property
    def settled(self) -> bool:
        """Whether nothing is left to find."""
        return self.infeasible or (self.period is not None and self.lower >= self.period)

    def reached(self, gap: float) -> bool:
        """Whether the proved gap is small enough."""
        return self.settled or (self.period is not None and self.period - self.lower <= gap * self.period)

    def offer(self, stage_of: IntArray, method: str, costs: Sequence[int] | None = None) -> bool:
        """Consider stages of the original nodes; return whether they are the new best.

        Parameters
        ----------
        stage_of : int64[n]
        method : str
        costs : sequence of int, optional
            Cost of every stage, where it is known already.

        Raises
        ------
        AssertionError
            If they are not valid, or better than a bound.
        """
        stage_of = compact(self.graph, stage_of)
        stages = int(stage_of.max(initial=-1)) + 1
        filled = np.unique(stage_of)
        if len(filled) > self.devices:
            return False
        if costs is None:
            costs = [cost.total for cost in price_stages(self.graph, self.target, stage_of, stages)]
        if max(costs, default=0) >= INFEASIBLE:
            return False
        replicas = np.zeros(stages, dtype=np.int64)
        replicas[filled] = allot([costs[s] for s in filled.tolist()], self.devices)
        period = max((Fraction(costs[s], int(replicas[s])) for s in filled.tolist()), default=Fraction(0))
        if self.period is not None and period >= self.period:
            return False
        self.take(stage_of, replicas.tolist(), method)
        return True

    def take(self, stage_of: IntArray, replicas: Sequence[int], method: str) -> None:
        """Make stages and replicas the plan, as the objective prices them."""
        wrong = check_partition(self.graph, stage_of, len(replicas))
        period = price_replicas(self.graph, self.target, stage_of, replicas).period
        if wrong or sum(replicas) > self.devices:
            raise AssertionError(f"{method} made an invalid plan: {wrong or replicas}")
        if period < self.lower or self.infeasible:
            raise AssertionError(
                f"bound {self.lower} by {self.bound_method} exceeds a known plan at {period}"
            )
        self.period, self.stage_of, self.replicas, self.method = period, stage_of, tuple(replicas), method

    def bound(self, lower: Fraction, method: str) -> None:
        """Take a lower bound if it is the best."""
        if self.period is not None and lower > self.period:
            raise AssertionError(f"bound {lower} by {method} exceeds a known plan at {self.period}")
        if lower > self.lower:
            self.lower, self.bound_method = lower, method

    @contextmanager
    def clock(self) -> Iterator[None]:
        """Count the time of a ``with`` block as this row's."""
        begin = time.perf_counter()
        try:
            yield
        finally:
            self.seconds += time.perf_counter() - begin


def compact(graph: CostGraph, stage_of: IntArray) -> IntArray:
    """Number stages without gaps, or, where nodes are pinned, so that pins are met if they can be.

    Searches that do not count stages return ascending numbers. A pinned stage gets its number, the others the
    first that is free; :func:`check_partition` has the last word.
    """
    names, stage_of = np.unique(stage_of, return_inverse=True)
    stage_of = stage_of.astype(np.int64)
    if not (graph.pinned >= 0).any():
        return stage_of
    number = np.zeros(len(names), dtype=np.int64)
    free = 0
    for s in range(len(names)):
        number[s] = max(free, int(graph.pinned[stage_of == s].max(initial=-1)))
        free = int(number[s]) + 1
    return np.asarray(number[stage_of], dtype=np.int64)


def meets_pins(known: Known, stage_of: IntArray) -> bool:
    """Whether ascending stages can be numbered so that pinned nodes are in theirs."""
    pinned = known.graph.pinned
    numbered = compact(known.graph, stage_of)
    fits = bool((numbered[pinned >= 0] == pinned[pinned >= 0]).all())
    return fits and int(numbered.max(initial=0)) < known.devices
