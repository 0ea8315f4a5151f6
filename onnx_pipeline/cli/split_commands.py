"""The commands that measure, partition and split: ``split``, ``profile`` and ``plan``."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from onnx_pipeline.cli import options, shapes
from onnx_pipeline.cli.config import config
from onnx_pipeline.cli.once import Command
from onnx_pipeline.cli.phases import planning, pricing, splitting
from onnx_pipeline.cli.results import Report, output, output_file, reporting
from onnx_pipeline.cli.shapes import fleet as fleet_option
from onnx_pipeline.cli.shapes import shape
from onnx_pipeline.cli.types import Value
from onnx_pipeline.errors import Advice, UsageError

#: One number or several; None where the other of stages and devices is given.
Numbers = int | tuple[int, ...] | None


@click.command(cls=Command)
@click.argument("model", type=options.PATH)
@shape
@output("DIR", "<model stem>-k<K>, or -n<N>, -<fleet>")
@options.device()
@options.bandwidth
@options.memory()
@options.costs
@options.search
@options.constraints
@options.goals
@options.log
@options.measure
@options.writing
@config
@reporting
def split(
    model: Path,
    stages: Numbers,
    devices: Numbers,
    fleet: Any,
    output: Path | None,
    report: Report,
    **choices: Any,
) -> None:
    """Profile, partition and certify MODEL; write the stages.

    Of several numbers of stages or devices, the fewest that reach the goals are taken.
    """
    from onnx_pipeline import pipeline
    from onnx_pipeline.cli import tables
    from onnx_pipeline.goals import Goals

    goals = {name: choices[name] for name in ("for_rate", "for_latency", "fit")}
    shape: dict[str, Any] = {"stages": stages, "devices": devices, "fleet": fleet}
    if fleet is not None and Goals(**goals):
        raise UsageError("goals are for stages or devices that are alike", "give -k or --devices")
    if isinstance(stages or devices, tuple) or Goals(**goals):
        shape |= _fewest(model, shape, output, choices, report)
    if choices.pop("fit") is not None:
        choices |= {"memory": goals["fit"], "memory_mode": "hard"}
    del choices["for_rate"], choices["for_latency"]
    output = output or Path(f"{model.stem}-{_suffix(**shape)}")
    with report.console(splitting(choices)) as console:
        manifest = pipeline.split(model, output=output, progress=console, **shape, **choices)
    document = manifest.to_json() | {"output": os.fspath(output)}
    report.result(document, lambda: tables.show(document), output)


def _suffix(stages: Numbers, devices: Numbers, fleet: Any) -> str:
    """Return what the default output's name says of the devices."""
    if fleet is not None:
        return Path(fleet).stem
    return f"k{stages}" if devices is None else f"n{devices}"


def _fewest(
    model: Path,
    shape: Mapping[str, Any],
    output: Path | None,
    choices: Mapping[str, Any],
    report: Report,
) -> dict[str, int]:
    """Return the fewest stages or devices that reach the goals, before anything is written."""
    if choices["partition"] is not None:
        raise UsageError("--partition has its number of stages: give -k K, and no goals")
    from onnx_pipeline.cli import explore_commands
    from onnx_pipeline.files.directory import check_output
    from onnx_pipeline.goals import Goals

    if not Goals(choices["for_rate"], choices["for_latency"], choices["fit"]):
        hint = Advice(
            "explore compares several; {for_rate}, {for_latency} or {fit} choose the fewest",
            for_rate=...,
            for_latency=...,
            fit=...,
        )
        raise UsageError("a split has one number of stages or devices", hint)
    if output is not None:
        check_output(output, force=choices["force"], keep=[model])
    return explore_commands.choose(model, shape, choices, report)


@click.command(cls=Command)
@click.argument("model", type=options.PATH)
@output_file("COSTS.json")
@options.device()
@options.costs
@options.seed
@fleet_option
@config
@reporting
def profile(model: Path, output: Path | None, report: Report, **choices: Any) -> None:
    """Measure MODEL only: time and sizes of every node."""
    from onnx_pipeline import pipeline
    from onnx_pipeline.cli import tables
    from onnx_pipeline.files.atomic import new_file
    from onnx_pipeline.graph import costs_json
    from onnx_pipeline.progress import Phases

    phases = Phases()
    with report.console(pricing(choices)) as console:
        graph = pipeline.profile(model, progress=console, phases=phases, **choices)
    if output is not None:
        with new_file(output) as temporary:
            costs_json.write_graph(graph, temporary)
    report.result(
        costs_json.graph_to_json(graph), lambda: tables.show_costs(graph, phases, name=model.name), output
    )


@click.command(cls=Command)
@click.argument("graph", type=options.PATH)
@shape
@shapes.front
@output_file("PLAN.json")
@options.device(None, "cpu, or ideal where the graph brings transfer times")
@options.bandwidth
@options.memory(of_file=True)
@click.option("--ignore-colocation", is_flag=True, help="Ignore the graph's colocation groups.")
@click.option(
    "--perturb",
    type=Value("perturb", click.FLOAT),
    metavar="FRACTION",
    help="Report how errors of the costs of up to this fraction would affect the partition.",
)
@click.option(
    "--samples",
    type=Value("samples", click.INT),
    default=50,
    show_default=True,
    metavar="N",
    help="Perturbed graphs to try.",
)
@options.search
@options.constraints
@options.log
@config
@reporting
def plan(
    graph: Path,
    stages: Numbers,
    devices: Numbers,
    fleet: Any,
    output: Path | None,
    report: Report,
    front: bool,
    perturb: float | None,
    samples: int,
    **choices: Any,
) -> int:
    """Partition and certify GRAPH only; no ONNX model is needed.

    GRAPH is COSTS.json or an MSR workload. Several numbers of stages or devices give the table of `explore`.
    """
    from onnx_pipeline import pipeline, planfile
    from onnx_pipeline.cli import explore_commands, tables
    from onnx_pipeline.partition.result import PartitionResult
    from onnx_pipeline.progress import Phases

    if perturb is not None and stages is None:
        raise UsageError("--perturb is for a number of stages", "give -k K")
    if isinstance(stages or devices, tuple) or front:
        only_one = (perturb, choices.pop("log"), choices.pop("partition"))
        if any(choice is not None for choice in only_one):
            raise UsageError("--perturb, --log and --partition need one number of stages")
        if fleet is not None:
            raise UsageError("--front is for --devices, not for --fleet")
        del choices["stages_per_device"]
        choices |= {"stages": stages, "devices": devices, "front": front}
        return explore_commands.run(graph, choices, output, report, planning(choices))
    choices |= {"stages": stages, "devices": devices, "fleet": fleet}
    phases = Phases()
    with report.console(planning(choices, samples if perturb else 0)) as console:
        result = pipeline.plan(graph, progress=console, phases=phases, **choices)
        if result.interrupted:
            console.note("interrupted: this is the best partition so far; its certificate is valid")
        document = planfile.plan_document(result, graph)
        if perturb is not None and not result.interrupted and isinstance(result, PartitionResult):
            from onnx_pipeline.partition.sensitivity import sensitivity

            chosen = {name: choices[name] for name in ("seed", "time_limit", "threads")}
            with phases.measure("perturb", console):
                found = sensitivity(result, perturb=perturb, samples=samples, progress=console, **chosen)
            document["sensitivity"] = found.to_json()
        document["phases"] = dict(phases)
    if output is not None:
        planfile.write_plan(document, output)
    report.result(document, lambda: tables.show(document), output)
    return 130 if result.interrupted else 0
