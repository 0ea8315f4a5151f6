"""Names of the phases of a command as people read them, and where a command is on its way through them."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from typing import Any

from onnx_pipeline.settings import MOST_SECONDS

_NAMES = {"shapes": "infer shapes", "lower": "build graph", "emit": "write stages"}
#: Seconds that a phase usually takes where nothing limits it.
_USUAL, _PROFILE, _MEASURE = 1.0, 12.0, 5.0
#: A share done says something about the rest once so many seconds have gone into it.
_TELLING = 0.5


def phase_name(phase: str) -> str:
    """Return what a phase is called on a terminal; documents keep its key."""
    return _NAMES.get(phase, phase)


def pricing(choices: Mapping[str, Any]) -> dict[str, float]:
    """Return the steps from a model to its costs, with the seconds that each may take by its options."""
    seconds = _USUAL
    if choices["cost_model"] == "profile":
        runs = choices["profile_runs"]
        seconds = choices["profile_seconds"] or (1.2 * runs if runs else _PROFILE)
    return {"load": _USUAL, "shapes": _USUAL, "profile": seconds, "lower": _USUAL}


def planning(choices: Mapping[str, Any], samples: int = 0) -> dict[str, float]:
    """Return the steps from costs to a plan, and to as many perturbed ones."""
    limit = _limit(choices)
    return {"load": _USUAL, "partition": limit} | ({"perturb": limit} if samples else {})


def splitting(choices: Mapping[str, Any]) -> dict[str, float]:
    """Return the steps from a model to its stages."""
    measured = choices["cost_model"] == "profile" if choices["measure"] is None else choices["measure"] > 0
    steps = pricing(choices) | {"partition": _limit(choices)}
    seconds = choices.get("measure_seconds") or _MEASURE
    return steps | ({"measure": seconds} if measured else {}) | {"emit": _USUAL}


def writing(_choices: Mapping[str, Any]) -> dict[str, float]:
    """Return the steps from a plan to its stages."""
    return {"load": _USUAL, "shapes": _USUAL, "emit": _USUAL}


def searching(choices: Mapping[str, Any]) -> dict[str, float]:
    """Return the one step of a search for a partition, or for bounds."""
    return {"partition": _limit(choices)}


def _limit(choices: Mapping[str, Any]) -> float:
    seconds: float = choices["time_limit"]
    return seconds if seconds < MOST_SECONDS else math.inf


class Course:
    """Where a command is: which step of how many, and how long the rest may take.

    A step that returns after a later one began, such as the search between two measurements, belongs to that
    one. Steps that were not foreseen come last.

    Parameters
    ----------
    steps : mapping of str to float
        Phases in their order with the seconds that each may take.
    clock : callable
        Returns seconds.
    """

    def __init__(self, steps: Mapping[str, float], clock: Callable[[], float] = time.monotonic) -> None:
        self._steps, self._clock = dict(steps), clock
        self._foreseen = bool(steps)
        self._began = self._entered = clock()
        self._index, self._fraction, self._shown = 0, 0.0, 0.0
        self.phase = next(iter(self._steps), "")

    def move(self, phase: str, fraction: float | None) -> None:
        """Note that work is in a phase, and which share of it is done where that is known."""
        self._steps.setdefault(phase, math.inf)
        index = list(self._steps).index(phase)
        if index > self._index:
            self._index, self._entered, self._fraction = index, self._clock(), 0.0
        if fraction is not None and index == self._index:
            self._fraction = fraction
        self.phase = phase

    @property
    def step(self) -> str:
        """``step 3 of 7: profile``, or the phase alone where nobody knows how many there are."""
        return self._named(self.phase)

    @property
    def width(self) -> int:
        """Columns that the longest step takes."""
        return max((len(self._named(phase)) for phase in self._steps), default=0)

    def _named(self, phase: str) -> str:
        count = len(self._steps)
        counts = count > 1 and self._foreseen
        return f"step {self._index + 1} of {count}: {phase_name(phase)}" if counts else phase_name(phase)

    def left(self) -> float:
        """Return the seconds that the command may still take; infinite where a step has no limit."""
        spent, later = self._clock() - self._entered, list(self._steps.values())[self._index :]
        now = later[0] - spent if later else math.inf
        if self._fraction > 0 and spent > _TELLING:
            now = spent * (1 - self._fraction) / self._fraction
        return max(now, 0.0) + sum(later[1:])

    def share(self) -> float:
        """Return the share of the command's time that is over; it never falls."""
        spent, left = self._clock() - self._began, self.left()
        self._shown = max(self._shown, spent / (spent + left) if spent else 0.0)
        return self._shown
