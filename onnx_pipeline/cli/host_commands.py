"""The commands about this machine: ``calibrate`` and ``cache``."""

from __future__ import annotations

from pathlib import Path

import click

from onnx_pipeline.cli.once import Command
from onnx_pipeline.cli.results import Report, output_file, reporting

_NO_FOLDER = "no folder, since there is no home"


@click.command(cls=Command)
@output_file("DEVICE.toml")
@click.option(
    "--transport",
    type=click.Choice(["threads", "processes"]),
    default="threads",
    show_default=True,
    help="How stages will be run.",
)
@reporting
def calibrate(output: Path | None, transport: str, report: Report) -> None:
    """Measure this host and write a device for --device."""
    from dataclasses import asdict

    from onnx_pipeline.cli import tables
    from onnx_pipeline.costmodel import calibrate

    with report.console() as console:
        found = calibrate.calibrate(transport, console)
    if output is not None:
        calibrate.write_device(found.device(output.stem), output)
    figures = asdict(found)
    figures["bandwidth"] = None if found.bandwidth == float("inf") else found.bandwidth
    report.result(figures, lambda: tables.show_calibration(found), output)


@click.group()
def cache() -> None:
    """Manage the profiles in the user's cache directory."""


@cache.command(cls=Command)
def clear() -> None:
    """Remove all profiles."""
    from onnx_pipeline.costmodel.cache import clear as clear_cache
    from onnx_pipeline.figures import format_bytes, format_count
    from onnx_pipeline.files.user_cache import user_cache

    count, size = clear_cache()
    place = user_cache() or _NO_FOLDER
    click.echo(f"removed {format_count(count, 'profile')}, {format_bytes(size)}, from {place}")


@cache.command(cls=Command)
def info() -> None:
    """Show where profiles are kept and how many there are."""
    from onnx_pipeline.costmodel.cache import usage
    from onnx_pipeline.figures import format_bytes, format_count
    from onnx_pipeline.files.user_cache import user_cache

    count, size = usage()
    place = user_cache() or _NO_FOLDER
    click.echo(f"{format_count(count, 'profile')}, {format_bytes(size)}, in {place}")
