"""The commands that run a split: ``run`` and ``bench``."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from onnx_pipeline.cli import options
from onnx_pipeline.cli.groups import gathered, group
from onnx_pipeline.cli.once import Command
from onnx_pipeline.cli.results import Report, output_file, reporting
from onnx_pipeline.cli.types import Count, Provider
from onnx_pipeline.files.atomic import check_file

if TYPE_CHECKING:
    from onnx_pipeline.runtime import Timeline


def _providers(ctx: click.Context, param: click.Parameter, parsed: Any) -> Any:
    if not parsed:
        return None
    from onnx_pipeline.runtime.placement import gather_providers

    return gather_providers(parsed)


def _observer(trace: Path | None, plot: Path | None) -> dict[str, Any]:
    """Return what writes the timelines; problems that can be foreseen are raised now."""
    if trace is None and plot is None:
        return {"observe": None}
    from onnx_pipeline.measurement import timeline

    if plot is not None:
        timeline.check_plot()
    for path in (trace, plot):
        if path is not None:
            check_file(path, force=True)

    def observe(lines: Sequence[Timeline], files: Sequence[str]) -> None:
        if trace is not None:
            timeline.write_trace(trace, lines, files)
        if plot is not None:
            timeline.write_plot(plot, lines, files)

    return {"observe": observe}


streaming = group(
    options.custom_ops,
    click.option(
        "--provider",
        "providers",
        type=Provider(),
        multiple=True,
        callback=_providers,
        metavar="[STAGE=]NAME[:key=value]",
        help="Execution provider of all stages or of one; repeatable.  [default: the manifest's, else CPU]",
    ),
    click.option(
        "--allow-reference",
        type=options.PATH,
        metavar="FOLDER",
        help="Let a split read its weights from this folder outside it.",
    ),
    click.option(
        "--backend",
        type=click.Choice(["auto", "threads", "processes"]),
        default="auto",
        show_default=True,
        help="Run stages on threads or in processes.",
    ),
    click.option(
        "--queue-depth",
        type=Count(),
        default=2,
        show_default=True,
        metavar="N",
        help="Requests that may wait between two stages.",
    ),
    click.option(
        "--max-in-flight",
        type=Count(),
        metavar="N",
        help="Requests in flight at most.  [default: as many as stages and queues hold]",
    ),
    gathered(
        _observer,
        click.option(
            "--trace", type=options.PATH, metavar="FILE.json", help="Write a timeline for Perfetto."
        ),
        click.option("--plot", type=options.PATH, metavar="FILE.png", help="Draw a timeline."),
    ),
)


@click.command(cls=Command)
@click.argument("directory", type=options.PATH, metavar="DIR")
@click.option(
    "--inputs",
    type=options.PATH,
    required=True,
    metavar="X.npz",
    help="The model's inputs by name, or a folder of input_0.pb, ...",
)
@output_file("Y.npz")
@click.option("--batched", is_flag=True, help="The leading axis of every array in X.npz counts requests.")
@streaming
@reporting
def run(directory: Path, inputs: Path, output: Path | None, report: Report, **choices: Any) -> None:
    """Run inputs through the stages of DIR."""
    from onnx_pipeline.cli import tables
    from onnx_pipeline.files import npz

    with report.console() as console:
        results = npz.run_file(directory, inputs, progress=console, **choices)
        if output is not None:
            npz.save_arrays(results, output)
    arrays = npz.describe(results)
    document = {"output": None if output is None else os.fspath(output), "outputs": arrays}
    report.result(document, lambda: tables.show_arrays(arrays), output)


@click.command(cls=Command)
@click.argument("directory", type=options.PATH, metavar="DIR")
@click.option(
    "--requests",
    type=Count(),
    metavar="N",
    help="Pipelined requests in total.  [default: half a second per measurement]",
)
@click.option(
    "--rounds",
    type=Count(),
    default=5,
    show_default=True,
    metavar="N",
    help="Rounds; each measures every contender once.",
)
@click.option(
    "--model",
    type=options.PATH,
    metavar="MODEL.onnx",
    help="The unsplit model.  [default: reassembled from the stages]",
)
@click.option("--no-baselines", is_flag=True, help="Measure only the pipeline, not the unsplit model.")
@options.inputs
@options.dims
@streaming
@reporting
def bench(directory: Path, inputs: Path | None, no_baselines: bool, report: Report, **choices: Any) -> None:
    """Measure the throughput and the stage times of DIR.

    Compare them with the prediction and with the unsplit model.
    """
    from onnx_pipeline import manifest
    from onnx_pipeline.cli import bench_tables
    from onnx_pipeline.files import npz
    from onnx_pipeline.measurement import bench

    feeds: Mapping[str, Any] | None = None
    if inputs is not None:
        feeds = npz.load_inputs(inputs, manifest.read(directory))
    with report.console({"load": 1.0, "bench": math.inf}) as console:
        document = bench.bench(
            directory, inputs=feeds, baselines=not no_baselines, progress=console, **choices
        )
    report.result(document, lambda: bench_tables.show_bench(document))
