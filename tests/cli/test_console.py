"""Progress that people see: a bar in terminals and notebooks, notes everywhere."""

from __future__ import annotations

import io
import sys
import time
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

import onnx_pipeline as op
from models import builders
from onnx_pipeline.cli.console import in_notebook
from onnx_pipeline.errors import UsageError
from onnx_pipeline.progress import Progress, ProgressLike, shows_progress, silent


class Terminal(io.StringIO):
    """A stream that claims to be one."""

    def isatty(self) -> bool:
        """Claim it."""
        return True


class Output:
    """One output of a notebook's cell: every picture it showed."""

    def __init__(self) -> None:
        self.pictures: list[str] = []

    def display(self, bar: Any, display_id: bool) -> Output:
        """Take the place of ``IPython.display.display``."""
        assert display_id
        self.update(bar)
        return self

    def update(self, bar: Any, raw: bool = False) -> None:
        """Replace the output."""
        self.pictures.append((bar if raw else bar._repr_mimebundle_([], []))["text/plain"])


@pytest.fixture
def notebook(monkeypatch: pytest.MonkeyPatch) -> Output:
    """What a notebook's kernel looks like from inside."""
    output = Output()
    shell: Any = ModuleType("IPython")
    shell.get_ipython = lambda: SimpleNamespace(kernel=object())
    shell.display = ModuleType("IPython.display")
    shell.display.display = output.display
    monkeypatch.setitem(sys.modules, "IPython", shell)
    monkeypatch.setitem(sys.modules, "IPython.display", shell.display)
    return output


@shows_progress()
def work(*, progress: ProgressLike = silent) -> Progress:
    """Two phases and a note."""
    progress("load", None, "")
    progress("profile", 0.5, "round 5 of 10")
    time.sleep(0.11)
    progress("profile", 0.75, "round 8 of 10")
    progress("note", None, "symbolic dimensions left at 1")
    return progress  # type: ignore[no-any-return]


def test_a_bar_in_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """It says the phase and what goes on, and the note stays."""
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    work(progress=True)
    assert "profile" in terminal.getvalue()
    assert "onnx-pipeline: note: symbolic dimensions left at 1" in terminal.getvalue()


def test_a_bar_in_a_notebook(notebook: Output, capsys: pytest.CaptureFixture[str]) -> None:
    """One output is replaced and empty in the end; the note is a line of its own."""
    assert in_notebook()
    work(progress=True)
    assert "round 8 of 10" in "".join(notebook.pictures)
    assert notebook.pictures[-1] == ""
    captured = capsys.readouterr()
    assert captured.err == "onnx-pipeline: note: symbolic dimensions left at 1\n"
    assert captured.out == ""


def test_no_bar_elsewhere(capsys: pytest.CaptureFixture[str]) -> None:
    """A log gets the notes only; without a wish there is nothing at all."""
    assert not in_notebook()
    work(progress=True)
    assert capsys.readouterr().err == "onnx-pipeline: note: symbolic dimensions left at 1\n"
    for wish in (False, None):
        assert work(progress=wish) is silent
    assert work() is silent
    assert capsys.readouterr().err == ""


def test_functions_pass_through(notebook: Output) -> None:
    """A caller's own function is called as it is; anything else is refused before any work."""
    seen: list[str] = []

    def own(phase: str, fraction: float | None, message: str) -> None:
        seen.append(phase)

    assert work(progress=own) is own
    assert seen == ["load", "profile", "profile", "note"]
    with pytest.raises(UsageError, match="progress must be a function, True or False, got 'yes'"):
        work(progress="yes")
    assert not notebook.pictures


def test_the_facade_shows_progress(notebook: Output) -> None:
    """Whatever takes long takes ``progress=True``."""
    graph = op.profile(builders.mlp(), cost_model="analytic", progress=True)
    for run in (op.plan, op.partition):
        before = len(notebook.pictures)
        run(graph, stages=2, time_limit=1.0, progress=True)
        assert len(notebook.pictures) > before
    for function in (op.split, op.emit, op.evaluate, op.explore, op.verify, op.bench):
        assert hasattr(function, "__wrapped__")


def test_an_error_takes_the_bar_away(notebook: Output) -> None:
    """The output is empty whatever happens."""

    @shows_progress()
    def fails(*, progress: ProgressLike = silent) -> None:
        progress("load", None, "")
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fails(progress=True)
    assert notebook.pictures[-1] == ""
