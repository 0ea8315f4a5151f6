"""Names of the phases of a command as people read them, and the steps that a command takes."""

from __future__ import annotations

_NAMES = {"shapes": "infer shapes", "lower": "build graph", "emit": "write stages"}


def phase_name(phase: str) -> str:
    """Return what a phase is called on a terminal; documents keep its key."""
    return _NAMES.get(phase, phase)
