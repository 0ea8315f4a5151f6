"""Stopping criteria: small callables ``(upper, lower) -> bool``, combined with :class:`AnyOf`."""

from __future__ import annotations

import time
from collections.abc import Callable

#: Called with the best bottleneck and the best lower bound, both in nanoseconds.
Stop = Callable[[int, int], bool]


def never() -> bool:
    """Never stop; for work that takes a plain ``() -> bool`` criterion."""
    return False


class Deadline:
    """Stop after ``seconds`` of wall time, counted from construction."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self._end = time.monotonic() + seconds

    @property
    def remaining(self) -> float:
        """Seconds left, never negative."""
        return max(0.0, self._end - time.monotonic())

    def __call__(self, upper: int, lower: int) -> bool:
        """Return whether the time is up."""
        return time.monotonic() >= self._end


class GapReached:
    """Stop once ``1 - lower / upper`` is at most ``gap``; 0 asks for a proof of optimality."""

    def __init__(self, gap: float) -> None:
        self.gap = gap

    def __call__(self, upper: int, lower: int) -> bool:
        """Return whether the proved gap is small enough."""
        return upper - lower <= self.gap * upper


class AnyOf:
    """Stop as soon as one of several criteria says so."""

    def __init__(self, *criteria: Stop) -> None:
        self.criteria = criteria

    def __call__(self, upper: int, lower: int) -> bool:
        """Return whether any criterion is met."""
        return any(criterion(upper, lower) for criterion in self.criteria)
