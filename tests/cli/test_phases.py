"""The steps of a command: named, counted, and with the time that they may still take."""

from __future__ import annotations

import io
import math
import re
import sys
from typing import Any

import pytest

from onnx_pipeline.cli.console import Console
from onnx_pipeline.cli.phases import Course, planning, pricing, splitting
from onnx_pipeline.settings import MOST_SECONDS

CHOICES: dict[str, Any] = {
    "cost_model": "profile",
    "profile_seconds": None,
    "profile_runs": None,
    "time_limit": 10.0,
    "measure": None,
}


class Clock:
    """Stands still between the lines of a test."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        """Return the time."""
        return self.now


class Terminal(io.StringIO):
    """A stream that calls itself a terminal."""

    def isatty(self) -> bool:
        """Say so."""
        return True


def test_steps_and_the_time_they_may_take_follow_from_the_options() -> None:
    """Limits where there are some; nothing is measured unless costs are, or it is asked for."""
    assert splitting(CHOICES) == {
        "load": 1.0,
        "shapes": 1.0,
        "profile": 12.0,
        "lower": 1.0,
        "partition": 10.0,
        "measure": 5.0,
        "emit": 1.0,
    }
    assert splitting(CHOICES | {"measure_seconds": 9.0})["measure"] == 9.0
    assert "measure" not in splitting(CHOICES | {"measure": 0})
    computed = CHOICES | {"cost_model": "analytic"}
    assert "measure" not in splitting(computed)
    assert "measure" in splitting(computed | {"measure": 1})
    assert pricing(computed)["profile"] == 1.0
    assert pricing(CHOICES | {"profile_runs": 50})["profile"] == 60.0
    assert pricing(CHOICES | {"profile_seconds": 5.0, "profile_runs": 50})["profile"] == 5.0
    assert planning(CHOICES) == {"load": 1.0, "partition": 10.0}
    assert planning(CHOICES, 50) == {"load": 1.0, "partition": 10.0, "perturb": 10.0}
    assert planning({"time_limit": MOST_SECONDS})["partition"] == math.inf


def test_the_clock_of_a_command_does_not_start_again() -> None:
    """Time left shrinks within a step and falls by what a step leaves over; the share never falls."""
    clock = Clock()
    course = Course({"load": 1.0, "profile": 12.0, "partition": 10.0, "measure": 5.0}, clock)
    assert course.step == "step 1 of 4: load"
    assert course.left() == 28.0
    clock.now += 1
    course.move("profile", None)
    assert (course.step, course.left()) == ("step 2 of 4: profile", 27.0)
    clock.now += 4
    assert course.left() == 23.0
    course.move("profile", 0.25)
    assert course.left() == 4 / 0.25 * 0.75 + 15  # the rest takes as long as what is done
    share = course.share()
    clock.now += 1
    course.move("partition", None)
    assert course.left() == 15.0
    assert course.share() > share
    clock.now += 30
    course.move("measure", None)
    assert course.left() == 5.0
    course.move("partition", None)  # between two measurements
    assert course.step == "step 4 of 4: partition"
    clock.now += 4
    assert course.left() == 1.0
    clock.now += 40
    assert course.left() == 0.0
    assert course.share() == 1.0


def test_a_step_without_a_limit_has_no_time_left_until_a_share_is_done() -> None:
    """Rather none than an invented one."""
    clock = Clock()
    course = Course({}, clock)
    course.move("bench", 0.0)
    clock.now += 2
    assert (course.step, course.left(), course.share()) == ("bench", math.inf, 0.0)
    course.move("bench", 0.5)
    assert (course.left(), course.share()) == (2.0, 0.5)


def test_a_terminal_shows_one_bar_of_80_columns(monkeypatch: pytest.MonkeyPatch) -> None:
    """Step, time and message on one line; notes above it are folded between words."""
    stream = Terminal()
    monkeypatch.setattr(sys, "stderr", stream)
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("TERM", "xterm")
    note = "the work of nodes was timed on CPUExecutionProvider, not on gpu: only links are those of gpu"
    with Console(steps=splitting(CHOICES)) as console:
        console("load", None, "")
        console("note", None, note)
        console("shapes", None, "")
        console("profile", 0.5, "a message that is much longer than what is left of the line beside the bar")
        console("emit", 1.0, "out")
    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", stream.getvalue())
    lines = [line for line in re.split(r"[\r\n]+", text) if line.strip()]
    assert max(map(len, lines)) <= 80
    assert "onnx-pipeline: note: the work of nodes was timed on CPUExecutionProvider, not on" in lines
    assert "  gpu: only links are those of gpu" in lines
    assert any(
        line.startswith("step 7 of 7: write stages ") and line.rstrip().endswith("out") for line in lines
    )
    assert any(" left " in line for line in lines)


def test_a_pipe_shows_no_bar_and_folds_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """One message, one line."""
    stream = io.StringIO()
    monkeypatch.setattr(sys, "stderr", stream)
    with Console(steps=splitting(CHOICES)) as console:
        console("load", None, "reading")
        console("note", None, "word " * 40)
    assert stream.getvalue() == "onnx-pipeline: note: " + "word " * 40 + "\n"
