"""How long work tells its caller where it is, without knowing about terminals."""

from __future__ import annotations

from collections.abc import Callable

#: Called as ``progress(phase, fraction, message)``: the phase's name ("load", "profile",
#: "partition", "emit", ...), the done share in [0, 1] or None when unknown, and a short text.
Progress = Callable[[str, float | None, str], None]


def silent(phase: str, fraction: float | None, message: str) -> None:
    """Report nothing."""
