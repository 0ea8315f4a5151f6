"""What running work prints on stderr: a bar in a terminal or notebook, notes always, phases on request.

The result of a command goes to stdout.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Any

from onnx_pipeline.cli.phases import Course, phase_name
from onnx_pipeline.cli.terminal import folded
from onnx_pipeline.errors import Spell, as_keyword, printable, spelled

if TYPE_CHECKING:
    from onnx_pipeline.cli.bar import Bar

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
    steps : mapping of str to float, optional
        Phases to come, with the seconds that each may take.
    """

    def __init__(
        self,
        quiet: bool = False,
        verbose: int = 0,
        spell: Spell = as_keyword,
        steps: Mapping[str, float] | None = None,
    ) -> None:
        self.quiet, self.verbose, self._spell, self._steps = quiet, verbose, spell, steps or {}
        self._bar: Bar | None = None
        self._said: set[str] = set()

    def __enter__(self) -> Console:
        """Start the bar where there is a terminal or a notebook to draw it on."""
        notebook = in_notebook()
        if not self.quiet and not self.verbose and (notebook or sys.stderr.isatty()):
            from onnx_pipeline.cli.bar import Bar

            self._bar = Bar(Course(self._steps), sys.stderr, notebook)
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
            self._bar.move(phase, fraction, message)
        elif self.verbose and message and f"{phase}: {message}" not in self._said:
            self._said.add(f"{phase}: {message}")
            self._print(f"{PROGRAM}: {phase_name(phase)}: {message}")

    def note(self, message: str) -> None:
        """Print a note, once."""
        message = printable(spelled(message, self._spell))
        if not self.quiet and message not in self._said:
            self._said.add(message)
            self._print(f"{PROGRAM}: note: {message}")

    def _print(self, line: str) -> None:
        line = folded(line, sys.stderr)
        if self._bar is not None:
            self._bar.print(line)
        else:
            print(line, file=sys.stderr, flush=True)


def in_notebook() -> bool:
    """Whether this is the kernel of a notebook; IPython is not imported to find out."""
    ipython = sys.modules.get("IPython")
    shell = None if ipython is None else ipython.get_ipython()
    return getattr(shell, "kernel", None) is not None


def print_json(document: Mapping[str, Any]) -> None:
    """Print one JSON document on stdout."""
    print(json.dumps(document, indent=2, allow_nan=False))
