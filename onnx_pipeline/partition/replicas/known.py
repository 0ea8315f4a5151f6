"""What is known for one number of devices: the best stages with replicas, and the best bound."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import NamedTuple

import numpy as np

from onnx_pipeline.graph.costgraph import CostGraph, IntArray
from onnx_pipeline.graph.objective import check_partition, price_stages
from onnx_pipeline.graph.replicas import periods, serving
from onnx_pipeline.graph.target import INFEASIBLE, Target


class Chain(NamedTuple):
    """Stages of the original graph, checked and priced by the objective for any number of devices.

    Attributes
    ----------
    stage_of : int64[n]
    costs : tuple of int
        Of all stages, those without nodes included.
    filled : tuple of int
        Stages with nodes.
    method : str
    """

    stage_of: IntArray
    costs: tuple[int, ...]
    filled: tuple[int, ...]
    method: str

    def periods(self, devices: int) -> list[Fraction | None]:
        """Return the least period on 0 devices, 1, ..., so many; None on fewer devices than stages."""
        none: list[Fraction | None] = [None] * (devices + 1)
        if max(self.costs, default=0) >= INFEASIBLE or len(self.costs) > devices:
            return none
        found = periods([self.costs[s] for s in self.filled], devices)
        return [*none[: len(self.costs)], *found[len(self.costs) - len(self.filled) :]]


def chain(graph: CostGraph, target: Target, stage_of: IntArray, method: str) -> Chain:
    """Number stages without gaps, check and price them.

    Raises
    ------
    AssertionError
        If they are no partition that meets the demands.
    """
    stage_of = compact(graph, stage_of)
    stages = int(stage_of.max(initial=-1)) + 1
    wrong = check_partition(graph, stage_of, stages)
    if wrong:
        raise AssertionError(f"{method} made an invalid plan: {wrong}")
    costs = tuple(cost.total for cost in price_stages(graph, target, stage_of, stages))
    return Chain(stage_of, costs, tuple(np.unique(stage_of).tolist()), method)


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
    chain : Chain or None
        The plan's stages.
    replicas : tuple of int
    lower : Fraction
        Best bound of the period, in ticks.
    bound_method : str
        What found the bound.
    infeasible : bool
        Whether it is proved that there is no plan.
    """

    graph: CostGraph
    target: Target
    devices: int
    period: Fraction | None = None
    chain: Chain | None = None
    replicas: tuple[int, ...] = ()
    lower: Fraction = Fraction(0)
    bound_method: str = "simple"
    infeasible: bool = False

    @property
    def stage_of(self) -> IntArray:
        """Stage of every node, empty before the first plan."""
        return np.zeros(0, dtype=np.int64) if self.chain is None else self.chain.stage_of

    @property
    def method(self) -> str:
        """What found the plan."""
        return "" if self.chain is None else self.chain.method

    @property
    def settled(self) -> bool:
        """Whether nothing is left to find."""
        return self.infeasible or (self.period is not None and self.lower >= self.period)

    def reached(self, gap: float) -> bool:
        """Whether the proved gap is small enough."""
        return self.settled or (self.period is not None and self.period - self.lower <= gap * self.period)

    def offer(self, stage_of: IntArray, method: str) -> bool:
        """Consider stages of the original nodes; return whether they are the new best.

        Raises
        ------
        AssertionError
            If they are not valid, or better than a bound.
        """
        found = chain(self.graph, self.target, stage_of, method)
        return self.adopt(found, found.periods(self.devices)[self.devices])

    def adopt(self, found: Chain, period: Fraction | None) -> bool:
        """Make a chain the plan if its period, the least on so many devices, is the best."""
        if period is None or (self.period is not None and period >= self.period):
            return False
        if period < self.lower or self.infeasible:
            raise AssertionError(
                f"bound {self.lower} by {self.bound_method} exceeds a plan of {found.method} at {period}"
            )
        replicas = np.zeros(len(found.costs), dtype=np.int64)
        replicas[list(found.filled)] = serving([found.costs[s] for s in found.filled], period)
        self.period, self.chain, self.replicas = period, found, tuple(replicas.tolist())
        return True

    def bound(self, lower: Fraction, method: str) -> None:
        """Take a lower bound if it is the best."""
        if self.period is not None and lower > self.period:
            raise AssertionError(f"bound {lower} by {method} exceeds a known plan at {self.period}")
        if lower > self.lower:
            self.lower, self.bound_method = lower, method


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


def meets_pins(graph: CostGraph, stage_of: IntArray) -> bool:
    """Whether ascending stages can be numbered so that pinned nodes are in theirs."""
    demanded = graph.pinned >= 0
    return bool((compact(graph, stage_of)[demanded] == graph.pinned[demanded]).all())
