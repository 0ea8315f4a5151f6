"""What a running command prints on stderr: a bar on a terminal, notes always, phases on request.

Its result goes to stdout.
"""

from __future__ import annotations

import json
import logging
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
    """The :data:`~onnx_pipeline.progress.Progress` of the command line, used as a context manager.

    Parameters
    ----------
    quiet : bool
        Print nothing but errors.
    verbose : int
        1 logs every message of every phase, 2 asks for tracebacks too.
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
        level = logging.DEBUG if verbose > 1 else logging.INFO if verbose else logging.WARNING
        logging.getLogger("onnx_pipeline").setLevel(level)

    def __enter__(self) -> Console:
        """Start the bar where there is a terminal to draw it on."""
        if not self.quiet and not self.verbose and sys.stderr.isatty():
            from onnx_pipeline.cli.bar import Bar

            self._bar = Bar(Course(self._steps), sys.stderr)
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


def print_json(document: Mapping[str, Any]) -> None:
    """Print one JSON document on stdout."""
    print(json.dumps(document, indent=2, allow_nan=False))
