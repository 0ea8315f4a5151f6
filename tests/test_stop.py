"""Stopping criteria."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from threading import Event

import pytest

from onnx_pipeline import stop
from onnx_pipeline.stop import AnyOf, Deadline, GapReached, is_interrupt, never


@dataclass
class Known:
    """A best bottleneck and a best bound."""

    upper: int
    lower: int


def test_deadline(monkeypatch: pytest.MonkeyPatch) -> None:
    """Time counts from construction, and what remains is never negative."""
    now = 100.0
    monkeypatch.setattr(stop.time, "monotonic", lambda: now)
    deadline = Deadline(5)
    assert (deadline(), deadline.remaining, deadline.seconds) == (False, 5, 5)
    now = 104.0
    assert (deadline(), deadline.remaining) == (False, 1)
    now = 105.0
    assert (deadline(), deadline.remaining) == (True, 0)
    now = 200.0
    assert (deadline(), deadline.remaining) == (True, 0)


def test_gap_follows_what_is_known() -> None:
    """The criterion reads bound and bottleneck whenever it is asked; 0 asks for equality."""
    known = Known(upper=1000, lower=0)
    near, closed = GapReached(known, 0.1), GapReached(known, 0.0)
    assert not near()
    known.lower = 899
    assert not near()
    known.lower = 900
    assert near()
    assert not closed()
    known.upper = 900
    assert closed()


def test_any_of() -> None:
    """One criterion is enough; an event's flag is one like any other."""
    cancelled = Event()
    either = AnyOf(never, cancelled.is_set)
    assert not either()
    cancelled.set()
    assert either()
    assert not AnyOf()()


def test_an_interrupt_may_hide_behind_system_errors() -> None:
    """What native code makes of a KeyboardInterrupt is one; another SystemError is none."""
    hidden = SystemError("returned a result with an exception set")
    hidden.__cause__ = SystemError("again")
    hidden.__cause__.__cause__ = KeyboardInterrupt()
    assert is_interrupt(hidden)
    assert is_interrupt(KeyboardInterrupt())
    assert not is_interrupt(SystemError("bad argument"))
    assert not is_interrupt(ValueError())


def test_a_pause_does_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    """What has a limit of its own takes nothing from another, an error included."""
    clock = 0.0
    monkeypatch.setattr(stop.time, "monotonic", lambda: clock)
    deadline = Deadline(5)
    with suppress(ValueError), deadline.paused():
        clock = 7.0
        raise ValueError
    assert deadline.remaining == 5
    clock = 12.0
    assert deadline()
