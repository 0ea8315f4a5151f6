"""Printing results: tables and labelled lines that a terminal of any width shows whole and unharmed."""

from __future__ import annotations

import sys
import textwrap
from collections.abc import Mapping, Sequence
from typing import IO, TYPE_CHECKING, Any

from onnx_pipeline.errors import printable

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

#: Wide enough for any table: where no terminal sets a width, nothing is folded or cut.
PIPE_WIDTH = 200


def make_console(stream: IO[str] | None = None) -> Console:
    """Return a console that neither folds nor cuts lines when its output is not a terminal."""
    from rich.console import Console

    stream = sys.stdout if stream is None else stream
    width = None if stream.isatty() else PIPE_WIDTH
    return Console(file=stream, width=width, highlight=False, markup=False, emoji=False)


def harmless(value: Any) -> Any:
    """Return a document whose texts a terminal may show: they come from files of others."""
    if isinstance(value, str):
        return printable(value)
    if isinstance(value, Mapping):
        return {harmless(key): harmless(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [harmless(each) for each in value]
    return value


def natural_width(console: Console, table: Table) -> int:
    """Columns that a table takes when nothing limits it."""
    return console.measure(table, options=console.options.update(width=PIPE_WIDTH)).maximum


def print_whole(console: Console, table: Table) -> None:
    """Print a table at its natural width: a narrower terminal wraps lines, but no figure is cut."""
    width = console.width
    console.width = max(width, natural_width(console, table))
    console.print(table, crop=False)
    console.width = width


def print_lines(console: Console, lines: Sequence[tuple[str, str]]) -> None:
    """Print labelled lines below a table; on a terminal they are folded between words."""
    width = max(len(label) for label, _ in lines) + 2
    for label, text in lines:
        line = printable(f"{label:<{width}}{text}")
        if console.is_terminal and console.width > 2 * width:
            line = textwrap.fill(line, console.width, subsequent_indent=" " * width, break_on_hyphens=False)
        console.print(line, soft_wrap=True)
