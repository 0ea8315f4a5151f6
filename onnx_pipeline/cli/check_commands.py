"""The commands that inspect an output: ``verify`` and ``show``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from onnx_pipeline.cli import options
from onnx_pipeline.cli.once import Command
from onnx_pipeline.cli.results import Report, output_file, reporting
from onnx_pipeline.cli.types import Value
from onnx_pipeline.errors import InputError, UsageError, VerificationError


@click.command(cls=Command)
@click.argument("directory", type=options.PATH, metavar="DIR|PLAN.json")
@click.option(
    "--model",
    type=options.PATH,
    metavar="MODEL.onnx",
    help="The unsplit model: run both, compare their outputs.",
)
@options.inputs
@options.dims
@options.seed
@click.option(
    "--recheck",
    type=Value("recheck", click.FLOAT),
    metavar="SECONDS",
    help="Prove the lower bound again by exhaustive search, up to this long from each end.",
)
@options.custom_ops
@reporting
def verify(directory: Path, model: Path | None, report: Report, **choices: Any) -> None:
    """Check files, wiring and certificate of a split or plan.

    With --model, compare the outputs of a split with those of the unsplit model.
    """
    from onnx_pipeline.cli import tables
    from onnx_pipeline.verification.checks import inspect

    if model is None and (choices["inputs"] is not None or choices["dims"]):
        raise UsageError("--inputs and --dim need --model: nothing runs without it")
    with report.console() as console:
        found = inspect(directory, model=model, progress=console, **choices)
        for note in found.notes:
            console.note(note)
    if found.ok or report.as_json:
        report.result(found.to_json(), lambda: tables.show_verification(found, every=report.verbose > 0))
    if not found.ok:
        raise VerificationError(f"{directory}: {'; '.join(found.problems)}")


@click.command(cls=Command)
@click.argument("path", type=options.PATH, metavar="DIR|PLAN.json")
@click.option("--cuts", is_flag=True, help="List the tensors at every border instead.")
@click.option(
    "--format",
    "form",
    type=click.Choice(["csv", "dot", "mermaid", "svg"]),
    help="Write the cuts as a table or a picture of the stages.",
)
@click.option(
    "--node-data",
    type=click.Choice(["stage", "work"]),
    help="Write stage or work of every node for Model Explorer.",
)
@output_file("FILE")
@reporting
def show(path: Path, report: Report, **choices: Any) -> None:
    """Print the summary of a split or plan again, or where it cuts the model."""
    from onnx_pipeline.cli import tables

    report.console()  # nothing takes time here, only the log level counts
    if any(value for name, value in choices.items() if name != "output"):
        from onnx_pipeline.cli.cuts import show_cuts

        return show_cuts(path, report, **choices)
    if choices["output"] is not None:
        raise UsageError("-o needs --cuts, --format or --node-data: the summary is printed only")
    document: dict[str, Any]
    if path.is_dir():
        from onnx_pipeline import manifest

        document = manifest.read(path).to_json()
    elif path.exists():
        from onnx_pipeline.planfile import read_plan

        document = read_plan(path)
    else:
        raise InputError(path, "no such file or directory")
    report.result(document, lambda: tables.show(document))
    return None
