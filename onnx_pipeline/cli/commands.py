"""The commands: arguments in, one call of the library, a result on stdout."""

from __future__ import annotations

import math
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import click

from onnx_pipeline.cli import options, run_commands
from onnx_pipeline.cli.console import Console, print_json
from onnx_pipeline.errors import InputError, UsageError, VerificationError
from onnx_pipeline.files.atomic import check_file, new_file

CONTEXT = {"help_option_names": ["-h", "--help"], "max_content_width": 110}
EXIT_CODES = (
    "Exit codes: 0 success, 2 bad command line, 3 unusable file, 4 infeasible, 5 verification failed, "
    "130 interrupted."
)


def run(arguments: Sequence[str] | None, program: str) -> int:
    """Parse the arguments, run the command and return its exit code.

    Raises
    ------
    UsageError
        For everything that click has to say, in one line.
    """
    complete = os.environ.get("_ONNX_PIPELINE_COMPLETE")
    if complete:
        from click.shell_completion import shell_complete

        return shell_complete(cli, {}, program, "_ONNX_PIPELINE_COMPLETE", complete)
    try:
        with cli.make_context(program, list(sys.argv[1:] if arguments is None else arguments)) as context:
            code = cli.invoke(context)
    except click.exceptions.Exit as done:
        return done.exit_code
    except click.UsageError as error:
        command = error.ctx.command_path if error.ctx else program
        raise UsageError(f"{error.format_message()} See `{command} --help`.") from None
    return code if isinstance(code, int) else 0


@click.group(context_settings=CONTEXT, invoke_without_command=True, epilog=EXIT_CODES)
@click.option("--version", is_flag=True, help="Show the version and exit.")
@click.pass_context
def cli(context: click.Context, version: bool) -> None:
    """Split an ONNX model into k pipeline stages with a certified bottleneck."""
    if version:
        from onnx_pipeline import __version__

        click.echo(f"onnx-pipeline {__version__}")
        context.exit()
    if context.invoked_subcommand is None:
        click.echo(context.get_help(), err=True)
        context.exit(2)


@cli.command()
@click.argument("model", type=options.PATH)
@options.stages
@options.output("DIR", "default: <model stem>-k<K>")
@options.target()
@options.costs
@options.search
@options.constraints
@click.option(
    "--measure",
    type=click.IntRange(min=0),
    metavar="ROUNDS",
    help="Measure the stages, correct the costs, partition again; keep the best measured.  "
    "[default: 1 for profiled costs, else 0]",
)
@click.option("--annotate", is_flag=True, help="Also write the whole model with pipeline_stage on its nodes.")
@click.option(
    "--weights",
    type=click.Choice(["copy", "link", "reference"]),
    default="copy",
    show_default=True,
    help="External weights: copy into each stage, hard-link into the output, or use where they are.",
)
@options.reporting
def split(
    model: Path, stages: int, output: Path | None, as_json: bool, quiet: bool, verbose: int, **choices: Any
) -> None:
    """Profile MODEL, partition it, certify the partition and write the stages."""
    from onnx_pipeline import pipeline
    from onnx_pipeline.cli import tables

    output = output or Path(f"{model.stem}-k{stages}")
    choices["device"] = choices["device"] or "cpu"
    with Console(quiet, verbose) as console:
        manifest = pipeline.split(model, stages=stages, output=output, progress=console, **choices)
    document = manifest.to_json() | {"output": os.fspath(output)}
    if as_json:
        print_json(document)
    else:
        tables.show(document)
        click.echo(f"written to {output}")


@cli.command()
@click.argument("model", type=options.PATH)
@options.output("COSTS.json", "default: print only")
@options.device
@options.costs
@options.seed
@options.reporting
def profile(
    model: Path,
    output: Path | None,
    force: bool,
    as_json: bool,
    quiet: bool,
    verbose: int,
    **choices: Any,
) -> None:
    """Only measure MODEL: work, parameter and output size of every node."""
    from onnx_pipeline import pipeline
    from onnx_pipeline.cli import tables
    from onnx_pipeline.graph import costs_json
    from onnx_pipeline.price import Phases

    if output is not None:
        check_file(output, force=force)
    choices["device"] = choices["device"] or "cpu"
    phases = Phases()
    with Console(quiet, verbose) as console:
        graph = pipeline.profile(model, progress=console, phases=phases, **choices)
    document = costs_json.graph_to_json(graph)
    if output is not None:
        with new_file(output) as temporary:
            costs_json.write_graph(graph, temporary)
    if as_json:
        print_json(document)
    else:
        tables.show_costs(graph, phases)
        if output is not None:
            click.echo(f"written to {output}")


@cli.command()
@click.argument("graph", type=options.PATH)
@options.stages
@options.output("PLAN.json", "default: print only")
@options.target(memory_words=("file",), default="cpu, or ideal where the graph brings transfer times")
@click.option("--ignore-colocation", is_flag=True, help="Let nodes of a colocation group part.")
@click.option(
    "--perturb",
    type=options.Number(lambda x: 0 < x < 1, "a fraction between 0 and 1"),
    metavar="FRACTION",
    help="Report what costs that are off by up to this much do to the partition.",
)
@click.option(
    "--samples", type=click.IntRange(min=1), default=50, show_default=True, help="Perturbed graphs."
)
@options.search
@options.constraints
@options.reporting
def plan(
    graph: Path,
    stages: int,
    output: Path | None,
    force: bool,
    perturb: float | None,
    samples: int,
    as_json: bool,
    quiet: bool,
    verbose: int,
    **choices: Any,
) -> int:
    """Only partition and certify GRAPH: COSTS.json or the MSR JSON format, no ONNX model needed."""
    from onnx_pipeline import pipeline, planfile
    from onnx_pipeline.cli import tables
    from onnx_pipeline.price import Phases

    if output is not None:
        check_file(output, force=force)
    phases = Phases()
    with Console(quiet, verbose) as console:
        result = pipeline.plan(graph, stages=stages, progress=console, phases=phases, **choices)
        if result.interrupted:
            console.note("interrupted: the best partition so far, its certificate is valid")
        document = planfile.plan_document(result, graph)
        if perturb is not None and not result.interrupted:
            from onnx_pipeline.partition.sensitivity import sensitivity

            with phases.measure("perturb", console):
                found = sensitivity(
                    result,
                    perturb=perturb,
                    samples=samples,
                    seed=choices["seed"],
                    time_limit=choices["time_limit"],
                    threads=choices["threads"],
                    progress=console,
                )
            document["sensitivity"] = found.to_json()
        document["phases"] = dict(phases)
    if output is not None:
        planfile.write_plan(document, output)
    if as_json:
        print_json(document)
    else:
        tables.show(document)
        if output is not None:
            click.echo(f"written to {output}")
    return 130 if result.interrupted else 0


@cli.command()
@click.argument("directory", type=options.PATH, metavar="DIR")
@click.option("--model", type=options.PATH, help="The unsplit model: run both and compare the outputs.")
@options.inputs
@options.dims
@options.seed
@click.option(
    "--recheck",
    type=options.Number(lambda x: 0 < x < math.inf, "a number of seconds above 0"),
    metavar="SECONDS",
    help="Prove the lower bound again by exhaustive search, this long from each end.",
)
@options.custom_ops
@options.reporting
def verify(
    directory: Path,
    model: Path | None,
    inputs: Path | None,
    dims: Mapping[str, int],
    seed: int,
    recheck: float | None,
    custom_ops: tuple[Path, ...],
    as_json: bool,
    quiet: bool,
    verbose: int,
) -> None:
    """Check the files, hashes, wiring and certificate of DIR; with --model also its outputs."""
    from onnx_pipeline.cli import tables
    from onnx_pipeline.verification.checks import inspect

    if model is None and (inputs is not None or dims):
        raise UsageError("--inputs and --dim need --model: without it nothing is run")
    with Console(quiet, verbose) as console:
        found = inspect(
            directory,
            model=model,
            inputs=inputs,
            dims=dims,
            seed=seed,
            recheck=recheck,
            custom_ops=custom_ops,
            progress=console,
        )
        for note in found.notes:
            console.note(note)
    if as_json:
        print_json(found.to_json())
    elif found.ok:
        tables.show_verification(found)
    if not found.ok:
        raise VerificationError(f"{directory}: {'; '.join(found.problems)}")


cli.add_command(run_commands.run)
cli.add_command(run_commands.bench)


@cli.command()
@click.argument("path", type=options.PATH, metavar="DIR|PLAN.json")
@options.reporting
def show(path: Path, as_json: bool, quiet: bool, verbose: int) -> None:
    """Print the summary of a split or of a plan again."""
    from onnx_pipeline.cli import tables

    Console(quiet, verbose)  # nothing takes time here, only the log level counts
    document: dict[str, Any]
    if path.is_dir():
        from onnx_pipeline import manifest

        document = manifest.read(path).to_json()
    elif path.exists():
        from onnx_pipeline.planfile import read_plan

        document = read_plan(path)
    else:
        raise InputError(path, "no such file or directory")
    if as_json:
        print_json(document)
    else:
        tables.show(document)


@cli.command()
@options.output("DEVICE.toml", "default: print only")
@click.option(
    "--transport",
    type=click.Choice(["threads", "processes"]),
    default="threads",
    show_default=True,
    help="How the stages will run.",
)
@options.reporting
def calibrate(
    output: Path | None, force: bool, transport: str, as_json: bool, quiet: bool, verbose: int
) -> None:
    """Measure this host's borders between stages and its rates; write a device for --device."""
    from dataclasses import asdict

    from onnx_pipeline.cli import tables
    from onnx_pipeline.costmodel.calibrate import calibrate as measure
    from onnx_pipeline.costmodel.calibrate import write_device

    if output is not None:
        check_file(output, force=force)
    with Console(quiet, verbose) as console:
        found = measure(transport, console)
    name = "this-host" if output is None else output.stem
    if output is not None:
        write_device(found.device(name), output)
    if as_json:
        figures = asdict(found)
        figures["bandwidth"] = None if found.bandwidth == float("inf") else found.bandwidth
        print_json(figures)
    else:
        tables.show_calibration(found)
        if output is not None:
            click.echo(f"written to {output}")


@cli.group()
def cache() -> None:
    """Profiles kept in the user's cache directory."""


@cache.command()
def clear() -> None:
    """Remove all kept profiles."""
    from onnx_pipeline.cli.units import format_bytes
    from onnx_pipeline.costmodel.cache import cache_dir
    from onnx_pipeline.costmodel.cache import clear as clear_cache

    count, size = clear_cache()
    click.echo(f"removed {count} profiles, {format_bytes(size)}, from {cache_dir()}")


@cache.command()
def info() -> None:
    """Say where the profiles are kept and how many there are."""
    from onnx_pipeline.cli.units import format_bytes
    from onnx_pipeline.costmodel.cache import cache_dir, usage

    count, size = usage()
    click.echo(f"{count} profiles, {format_bytes(size)}, in {cache_dir()}")
