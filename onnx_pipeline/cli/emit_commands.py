"""The command that writes the stages of a plan: ``emit``."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import click

from onnx_pipeline.cli import options
from onnx_pipeline.cli.config import config
from onnx_pipeline.cli.once import Command
from onnx_pipeline.cli.results import Report, output, reporting


@click.command(cls=Command)
@click.argument("model", type=options.PATH)
@click.argument("plan", type=options.PATH, metavar="PLAN.json")
@output("DIR", "<model stem>-k<K>")
@options.dims
@options.inputs
@options.custom_ops
@options.writing
@config
@reporting
def emit(model: Path, plan: Path, output: Path | None, report: Report, **choices: Any) -> None:
    """Write the stages of a plan: PLAN.json of the costs of MODEL."""
    from onnx_pipeline import emitting
    from onnx_pipeline.cli import tables
    from onnx_pipeline.planned import read_plan

    result = read_plan(plan)
    output = output or Path(f"{model.stem}-k{result.stages}")
    with report.console() as console:
        manifest = emitting.emit(model, result, output, progress=console, **choices)
    document = manifest.to_json() | {"output": os.fspath(output)}
    report.result(document, lambda: tables.show(document), output)
