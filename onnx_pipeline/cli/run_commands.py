"""The commands that run a split: ``run`` and ``bench``."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from onnx_pipeline.cli import options
from onnx_pipeline.cli.console import Console, print_json
from onnx_pipeline.files.atomic import check_file

if TYPE_CHECKING:
    from onnx_pipeline.measurement.timeline import Observe
    from onnx_pipeline.runtime import Timeline


@click.command()
@click.argument("directory", type=options.PATH, metavar="DIR")
@click.option(
    "--inputs", type=options.PATH, required=True, metavar="X.npz", help="The model's inputs by name."
)
@options.output("Y.npz", "default: print only")
@click.option("--batched", is_flag=True, help="The leading axis of every entry of X.npz counts requests.")
@options.streaming
@options.reporting
def run(
    directory: Path,
    inputs: Path,
    output: Path | None,
    force: bool,
    batched: bool,
    trace: Path | None,
    plot: Path | None,
    as_json: bool,
    quiet: bool,
    verbose: int,
    **choices: Any,
) -> None:
    """Run inputs through the stages of DIR."""
    from onnx_pipeline.cli import tables
    from onnx_pipeline.files import npz

    if output is not None:
        check_file(output, force=force)
    observe = _observer(trace, plot)
    with Console(quiet, verbose) as console:
        results = npz.run_file(
            directory, inputs, batched=batched, progress=console, observe=observe, **choices
        )
        if output is not None:
            npz.save_arrays(results, output)
    document = npz.describe(results)
    if as_json:
        print_json({"output": None if output is None else os.fspath(output), "outputs": document})
    else:
        tables.show_arrays(document)
        if output is not None:
            click.echo(f"written to {output}")


@click.command()
@click.argument("directory", type=options.PATH, metavar="DIR")
@click.option(
    "--requests",
    type=click.IntRange(min=1),
    metavar="N",
    help="Pipelined requests in all rounds together.  [default: half a second per measurement]",
)
@click.option(
    "--rounds",
    type=click.IntRange(min=1),
    default=5,
    show_default=True,
    metavar="N",
    help="Rounds; each measures everything once.",
)
@click.option(
    "--model", type=options.PATH, help="The unsplit model.  [default: put together from the stages]"
)
@click.option("--no-baselines", is_flag=True, help="Only the pipeline: the unsplit model is not loaded.")
@options.inputs
@options.dims
@options.streaming
@options.reporting
def bench(
    directory: Path,
    model: Path | None,
    inputs: Path | None,
    no_baselines: bool,
    trace: Path | None,
    plot: Path | None,
    as_json: bool,
    quiet: bool,
    verbose: int,
    **choices: Any,
) -> None:
    """Measure DIR: throughput and stage times against the prediction and the unsplit model."""
    from onnx_pipeline.cli import bench_tables
    from onnx_pipeline.files import npz
    from onnx_pipeline.measurement import bench

    observe = _observer(trace, plot)
    feeds: Mapping[str, Any] | None = None if inputs is None else npz.load_arrays(inputs)
    with Console(quiet, verbose) as console:
        document = bench.bench(
            directory,
            model=model,
            inputs=feeds,
            baselines=not no_baselines,
            progress=console,
            observe=observe,
            **choices,
        )
    if as_json:
        print_json(document)
    else:
        bench_tables.show_bench(document)


def _observer(trace: Path | None, plot: Path | None) -> Observe | None:
    """Return what writes the timelines; what would go wrong then goes wrong now."""
    if trace is None and plot is None:
        return None
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

    return observe
