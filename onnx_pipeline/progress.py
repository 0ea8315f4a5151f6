"""How long-running work reports progress and time spent, without knowing about terminals."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

#: Called as ``progress(phase, fraction, message)``: the phase's name ("load", "profile",
#: "partition", "emit", ...), the done share in [0, 1] or None when unknown, and a short text
#: (a note that names parameters is an :class:`~onnx_pipeline.errors.Advice`).
Progress = Callable[[str, float | None, str], None]


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
