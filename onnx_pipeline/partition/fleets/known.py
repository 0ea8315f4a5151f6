"""What is known of a fleet: the best placement and the best bounds, each checked when it comes in."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from onnx_pipeline.figures import format_percent
from onnx_pipeline.graph.costgraph import CostGraph, IntArray
from onnx_pipeline.graph.fleet import FleetTarget, check_placement, price_devices
from onnx_pipeline.graph.target import INFEASIBLE
from onnx_pipeline.partition.result import Bound
from onnx_pipeline.progress import Progress, silent


@dataclass(eq=False)
class FleetKnown:
    """Collects placements and bounds of the original graph.

    Attributes
    ----------
    graph : CostGraph
        With ticks in which everything can be counted.
    fleet : FleetTarget
    progress : Progress
    upper : int
        Largest load of a device in the best placement, in ticks; ``INFEASIBLE`` before the first.
    stage_of : int64[n]
    device_of : tuple of int
        Device of every stage.
    method : str
        What found the placement.
    bounds : list of Bound
        The best of every method.
    interrupted : bool
        Whether Ctrl-C ended the search.
    """

    graph: CostGraph
    fleet: FleetTarget
    progress: Progress = silent
    upper: int = INFEASIBLE
    stage_of: IntArray = field(default_factory=lambda: np.zeros(0, dtype=np.int64))
    device_of: tuple[int, ...] = ()
    method: str = ""
    bounds: list[Bound] = field(default_factory=list)
    interrupted: bool = False
    _start: float = field(default_factory=time.perf_counter)

    @property
    def lower(self) -> int:
        """Best bound in ticks; ``INFEASIBLE`` where it is proved that there is no placement."""
        return max((bound.ticks for bound in self.bounds), default=0)

    @property
    def seconds(self) -> float:
        """Wall time since the search began."""
        return time.perf_counter() - self._start

    @property
    def settled(self) -> bool:
        """Whether nothing is left to find."""
        return self.lower >= self.upper

    def reached(self, gap: float) -> bool:
        """Whether the proved gap is small enough; without a placement it is not."""
        return self.settled or (self.upper < INFEASIBLE and self.upper - self.lower <= gap * self.upper)

    def offer(self, stage_of: IntArray, device_of: Sequence[int], method: str) -> bool:
        """Consider stages of the original nodes and their devices; return whether they are the new best.

        Parameters
        ----------
        stage_of : int64[n]
            Empty stages are left out.
        device_of : sequence of int
            Device of every stage.
        method : str

        Raises
        ------
        AssertionError
            If they are not valid, or better than a bound.
        """
        used, stage_of = np.unique(stage_of, return_inverse=True)
        stage_of = stage_of.astype(np.int64)
        device_of = tuple(int(device_of[s]) for s in used.tolist())
        wrong = check_placement(self.graph, self.fleet, stage_of, device_of)
        if wrong:
            raise AssertionError(f"{method} made an invalid placement: {wrong[0]}")
        loads = price_devices(self.graph, self.fleet, stage_of, device_of)
        value = max(load.total for load in loads)
        if value >= self.upper:
            return False
        self.upper, self.stage_of, self.device_of, self.method = value, stage_of, device_of, method
        self._check(method)
        return True

    def bound(
        self, ticks: int, method: str, detail: Mapping[str, Any] | None = None, seconds: float = 0.0
    ) -> None:
        """Add a lower bound, in place of an earlier one of the same method if it is better.

        Parameters
        ----------
        ticks : int
            ``INFEASIBLE`` if there is no placement at all.
        method : str
        detail : mapping, optional
            What proves it, for a check: multipliers by kind, say.
        seconds : float
            Time spent on it.

        Raises
        ------
        AssertionError
            If a placement is better.
        """
        before = self.lower
        tick = self.graph.ticks_per_second
        fresh = Bound(method, min(ticks, INFEASIBLE), True, None, seconds, tick, detail=detail)
        same = [bound for bound in self.bounds if bound.method == method]
        best = max([*same, fresh], key=lambda bound: bound.ticks)
        self.bounds = [bound for bound in self.bounds if bound.method != method] + [best]
        if self.lower > before:
            self._check(method)

    def _check(self, method: str) -> None:
        if self.upper < self.lower:
            raise AssertionError(
                f"bound {self.lower} by {method} exceeds a known placement at {self.upper} ticks"
            )
        if 0 < self.upper < INFEASIBLE:
            gap = format_percent(1 - self.lower / self.upper)
            self.progress("partition", None, f"{method}: gap {gap}")
