"""Where a command's result goes (stdout as table or JSON, a file) and what it reports meanwhile."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from onnx_pipeline.cli.console import Console, print_json
from onnx_pipeline.cli.groups import Decorator, gathered, group
from onnx_pipeline.cli.spelling import speller
from onnx_pipeline.files.atomic import check_file
from onnx_pipeline.parameters import OutputParams

PATH = click.Path(path_type=Path)


@dataclass(frozen=True)
class Report:
    """How a command reports, by the options of :data:`reporting`."""

    as_json: bool
    quiet: bool
    verbose: int

    def console(self, steps: Mapping[str, float] | None = None) -> Console:
        """Return what is told of the progress; it spells parameters as options.

        Parameters
        ----------
        steps : mapping of str to float, optional
            Phases to come, with the seconds that each may take.
        """
        level = logging.DEBUG if self.verbose > 1 else logging.INFO if self.verbose else logging.WARNING
        logging.getLogger("onnx_pipeline").setLevel(level)
        program = click.get_current_context().find_root().command
        return Console(self.quiet, self.verbose, speller(program), steps)

    def result(
        self, document: Mapping[str, Any], show: Callable[[], object], written: Path | None = None
    ) -> None:
        """Print the document as JSON, or as a table with the place of the written file."""
        if self.as_json:
            print_json(document)
            return
        show()
        if written is not None:
            click.echo(f"written to {written}")


def _report(as_json: bool, quiet: bool, verbose: int) -> dict[str, Any]:
    return {"report": Report(as_json, quiet, verbose)}


reporting = gathered(
    _report,
    click.option(
        "--json", "as_json", is_flag=True, help="Print one JSON document on stdout and nothing else there."
    ),
    click.option("-q", "--quiet", is_flag=True, help="Print only errors on stderr."),
    click.option("-v", "--verbose", count=True, help="Print more on stderr; -vv adds tracebacks."),
)


def output(what: str, default: str) -> Decorator[Any]:
    """``-o`` and ``--force``."""
    return group(
        click.option(
            "-o", "--output", type=PATH, metavar=what, help=f"Where to write.  [default: {default}]"
        ),
        click.option("--force", is_flag=True, default=OutputParams.force, help="Replace an existing output."),
    )


def _new_file(output: Path | None, force: bool) -> dict[str, Any]:
    if output is not None:
        check_file(output, force=force)
    return {"output": output}


def output_file(what: str) -> Decorator[Any]:
    """``-o`` and ``--force`` of a single file, which is checked before any work."""
    return gathered(_new_file, output(what, "print only"))
