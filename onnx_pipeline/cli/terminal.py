"""Printing results: tables and labelled lines that a terminal of any width shows whole and unharmed."""

from __future__ import annotations

import re
import shutil
import sys
import textwrap
from collections.abc import Mapping, Sequence
from typing import IO, TYPE_CHECKING, Any, TextIO

from onnx_pipeline.errors import printable

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

#: Wide enough for any table: where no terminal sets a width, nothing is folded or cut.
PIPE_WIDTH = 200
#: Columns that a text which may be folded keeps.
_LEAST_FOLDED = 16
#: The space between a figure and what it counts.
_UNIT = re.compile(r"(?<=\d) (?=[%A-Za-z])")


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


def print_title(console: Console, text: str) -> None:
    """Print the first line of a result; on a terminal it is folded between words."""
    text = printable(text)
    console.print(fold(text, console.width, 2) if console.is_terminal else text, style="bold", soft_wrap=True)


def print_whole(console: Console, table: Table) -> None:
    """Print a table so that no figure is cut; columns that may be folded are, where a terminal needs it."""
    width = console.width
    needed = console.measure(table, options=console.options.update(width=PIPE_WIDTH)).maximum
    if console.is_terminal:
        for column in table.columns:
            if column.overflow == "fold":
                needed -= max(0, max(len(str(cell)) for cell in column.cells) - _LEAST_FOLDED)
    console.width = max(width, needed)
    console.print(table, crop=False)
    console.width = width


def print_lines(console: Console, lines: Sequence[tuple[str, str]]) -> None:
    """Print labelled lines below a table; on a terminal they are folded between words."""
    width = max(len(label) for label, _ in lines) + 2
    for label, text in lines:
        line = printable(f"{label:<{width}}{text}")
        if console.is_terminal and console.width > 2 * width:
            line = fold(line, console.width, width)
        console.print(line, soft_wrap=True)


def fold(line: str, width: int, indent: int) -> str:
    """Return a line folded between words, the following lines indented; a figure keeps its unit beside it."""
    whole = _UNIT.sub("\xa0", line)
    folded = textwrap.fill(
        whole, width, subsequent_indent=" " * indent, break_on_hyphens=False, break_long_words=False
    )
    return folded.replace("\xa0", " ")


def folded(line: str, stream: TextIO) -> str:
    """Return a message as a stream shows it best: folded on a terminal, as it is elsewhere."""
    return fold(line, shutil.get_terminal_size().columns, 2) if stream.isatty() else line
