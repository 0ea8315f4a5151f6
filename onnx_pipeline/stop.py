"""Stopping criteria: callables ``() -> bool``, combined with :class:`AnyOf`.

Whatever takes a criterion asks it often and ends soon after it says True.
The ``is_set`` of a ``threading.Event`` is a criterion, too.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Protocol

#: Whether to stop.
Stop = Callable[[], bool]


def is_interrupt(error: BaseException | None) -> bool:
    """Whether an exception is Ctrl-C, or came of it.

    Native code that meets a KeyboardInterrupt where it does not look for one, as numba does while it makes
    arrays of results, ends in a SystemError with the interrupt at the end of its causes.
    """
    while isinstance(error, SystemError):
        error = error.__cause__ or error.__context__
    return isinstance(error, KeyboardInterrupt)


def never() -> bool:
    """Never stop."""
    return False


class Deadline:
    """Stop after ``seconds`` of wall time, of which some are spent at construction."""

    def __init__(self, seconds: float, spent: float = 0.0) -> None:
        self.seconds = seconds
        self._end = time.monotonic() + seconds - spent

    @property
    def remaining(self) -> float:
        """Seconds left, never negative."""
        return max(0.0, self._end - time.monotonic())

    def __call__(self) -> bool:
        """Return whether the time is up."""
        return time.monotonic() >= self._end

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Let the time in a ``with`` block pass without counting: it has a limit of its own."""
        began = time.monotonic()
        try:
            yield
        finally:
            self._end += time.monotonic() - began


class Asked:
    """Stop once asked more than ``times`` times: counted work, where a clock would make two runs differ."""

    def __init__(self, times: float) -> None:
        self.left = times

    def __call__(self) -> bool:
        """Return whether the work is used up."""
        self.left -= 1
        return self.left < 0


class Bracket(Protocol):
    """A best bottleneck and a best lower bound, as they stand."""

    @property
    def upper(self) -> int:
        """Best bottleneck in nanoseconds."""

    @property
    def lower(self) -> int:
        """Best lower bound in nanoseconds."""


class GapReached:
    """Stop once ``1 - lower / upper`` is at most ``gap``; 0 asks for a proof of optimality."""

    def __init__(self, known: Bracket, gap: float) -> None:
        self.known = known
        self.gap = gap

    def __call__(self) -> bool:
        """Return whether the proved gap is small enough."""
        upper = self.known.upper
        return upper - self.known.lower <= self.gap * upper


class AnyOf:
    """Stop as soon as one of several criteria is met."""

    def __init__(self, *criteria: Stop) -> None:
        self.criteria = criteria

    def __call__(self) -> bool:
        """Return whether any criterion is met."""
        return any(criterion() for criterion in self.criteria)
