"""What a running job prints on stderr: a bar in a terminal or notebook, notes always, phases on request."""

from __future__ import annotations

import sys
from types import TracebackType
from typing import TYPE_CHECKING

from onnx_pipeline.errors import Spell, as_keyword, printable, spelled

if TYPE_CHECKING:
    from rich.progress import Progress as Bar
    from rich.progress import TaskID

PROGRAM = "onnx-pipeline"
#: Phases whose message is said once on stderr, terminal or not; all others only move the bar.
SPOKEN = {"note", "compile"}


class Console:
    """The :data:`~onnx_pipeline.progress.Progress` that people see, used as a context manager.

    Parameters
    ----------
    quiet : bool
        Print nothing but errors.
    verbose : int
        Whether to print every message of every phase, without a bar.
    spell : callable
        Writes the parameters that messages name.
    """

    def __init__(self, quiet: bool = False, verbose: int = 0, spell: Spell = as_keyword) -> None:
        self.quiet, self.verbose, self._spell = quiet, verbose, spell
        self._bar: Bar | None = None
        self._task: TaskID | None = None
        self._phase = ""
        self._said: set[str] = set()

    def __enter__(self) -> Console:
        """Start the bar where there is a terminal or a notebook to draw it on."""
        notebook = in_notebook()
        if not self.quiet and not self.verbose and (notebook or sys.stderr.isatty()):
            self._bar = _new_bar(notebook)
            self._bar.start()
        return self

    def __exit__(
        self, _type: type[BaseException] | None, _value: BaseException | None, _tb: TracebackType | None
    ) -> None:
        """Take the bar away."""
        if self._bar is not None:
            self._bar.stop()
            self._bar = None

    def __call__(self, phase: str, fraction: float | None, message: str) -> None:
        """Show where the work is."""
        message = printable(spelled(message, self._spell))
        if phase in SPOKEN:
            self.note(message)
        elif self._bar is not None:
            self._move(self._bar, phase, fraction, message)
        elif self.verbose and message and f"{phase}: {message}" not in self._said:
            self._said.add(f"{phase}: {message}")
            self._print(f"{PROGRAM}: {phase}: {message}")

    def note(self, message: str) -> None:
        """Print a note, once."""
        message = printable(spelled(message, self._spell))
        if not self.quiet and message not in self._said:
            self._said.add(message)
            self._print(f"{PROGRAM}: note: {message}")

    def _move(self, bar: Bar, phase: str, fraction: float | None, message: str) -> None:
        if self._task is None or phase != self._phase:
            if self._task is not None:
                bar.remove_task(self._task)
            self._phase = phase
            self._task = bar.add_task(phase, total=None, message=message)
        if fraction is None:
            bar.update(self._task, message=message)
        else:
            bar.update(self._task, total=1.0, completed=fraction, message=message)

    def _print(self, line: str) -> None:
        if self._bar is not None:
            self._bar.console.print(line, markup=False, highlight=False, soft_wrap=True)
        else:
            print(line, file=sys.stderr, flush=True)


def in_notebook() -> bool:
    """Whether this is the kernel of a notebook; IPython is not imported to find out."""
    ipython = sys.modules.get("IPython")
    shell = None if ipython is None else ipython.get_ipython()
    return getattr(shell, "kernel", None) is not None


def _new_bar(notebook: bool) -> Bar:
    from rich.console import Console as RichConsole
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (
        TextColumn("{task.description:<10}"),
        BarColumn(bar_width=24),
        TimeElapsedColumn(),
        TextColumn("{task.fields[message]}", markup=False),
    )
    if notebook:
        from onnx_pipeline.notebook import NotebookBar

        return NotebookBar(*columns, console=RichConsole(stderr=True))
    return Progress(*columns, console=RichConsole(stderr=True), transient=True)
