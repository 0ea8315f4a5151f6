"""How long-running work reports progress and time spent, without knowing about terminals."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import wraps
from inspect import signature
from typing import Any, ParamSpec, TypeVar

from onnx_pipeline.errors import UsageError

#: Called as ``progress(phase, fraction, message)``: the phase's name ("load", "profile",
#: "partition", "emit", ...), the done share in [0, 1] or None when unknown, and a short text
#: (a note that names parameters is an :class:`~onnx_pipeline.errors.Advice`).
Progress = Callable[[str, float | None, str], None]
#: What callers of a function that :func:`shows_progress` may give: that, or True for a bar. To the function
#: itself it is a Progress, which no type can say.
ProgressLike = Any

_P = ParamSpec("_P")
_R = TypeVar("_R")


def silent(phase: str, fraction: float | None, message: str) -> None:
    """Report nothing."""


class Phases(dict[str, float]):
    """Seconds spent per phase, in the order in which the phases ran."""

    @contextmanager
    def measure(self, phase: str, progress: Progress = silent) -> Iterator[None]:
        """Add the duration of a ``with`` block to ``phase``."""
        progress(phase, None, "")
        start = time.perf_counter()
        try:
            yield
        finally:
            self[phase] = self.get(phase, 0.0) + time.perf_counter() - start


def shows_progress(steps: str | None = None) -> Callable[[Callable[_P, _R]], Callable[_P, _R]]:
    """Let a function with the keyword ``progress`` take ``True`` for a bar, too.

    The bar is that of the command line. It is drawn in a terminal or a notebook and is gone when the function
    returns; notes stay.

    Parameters
    ----------
    steps : str, optional
        The function of :mod:`onnx_pipeline.cli.phases` that foresees the steps from the arguments.
    """

    def decorate(function: Callable[_P, _R]) -> Callable[_P, _R]:
        @wraps(function)
        def call(*args: _P.args, **kwargs: _P.kwargs) -> _R:
            wanted: Any = kwargs.get("progress", silent)
            if callable(wanted):
                return function(*args, **kwargs)
            if wanted is not True:
                if wanted not in (None, False):
                    raise UsageError(f"progress must be a function, True or False, got {wanted!r}")
                kwargs["progress"] = silent
                return function(*args, **kwargs)
            from onnx_pipeline.cli import phases
            from onnx_pipeline.cli.console import Console

            given = signature(function).bind(*args, **kwargs)
            given.apply_defaults()
            foreseen: dict[str, float] = {}
            with suppress(TypeError):  # a value of a wrong type: the function itself refuses it
                foreseen = getattr(phases, steps)(given.arguments) if steps else foreseen
            with Console(steps=foreseen) as bar:
                kwargs["progress"] = bar
                return function(*args, **kwargs)

        return call

    return decorate
