"""The command that writes a page about a split or plan: ``report``."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import click

from onnx_pipeline.cli import options
from onnx_pipeline.cli.once import Command
from onnx_pipeline.cli.results import Report, output, reporting


@click.command(cls=Command)
@click.argument("path", type=options.PATH, metavar="DIR|PLAN.json")
@output("REPORT.html", "report.html")
@click.option(
    "--trace",
    type=options.PATH,
    metavar="FILE.json",
    help="What `run` or `bench` wrote with --trace, for the timeline.  [default: computed from the costs]",
)
@click.option(
    "--bench",
    type=options.PATH,
    metavar="FILE.json",
    help="What `bench` printed with --json: measured times.  [default: those that `split` measured]",
)
@reporting
def report(path: Path, output: Path | None, report: Report, **choices: Any) -> None:
    """Write a page about a split or plan: one HTML file that needs no network."""
    from onnx_pipeline.cli.units import format_bytes
    from onnx_pipeline.reporting import build

    output = output or Path("report.html")
    with report.console():
        build.report(path, output, **choices)
    size = output.stat().st_size
    document = {"output": os.fspath(output), "bytes": size}
    report.result(document, lambda: click.echo(f"{format_bytes(size)}, open it in any browser"), output)
