"""The command ``explore``, and what ``plan`` and ``split`` do with several numbers of stages."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from onnx_pipeline.cli import options, shapes
from onnx_pipeline.cli.config import config
from onnx_pipeline.cli.once import Command
from onnx_pipeline.cli.phases import planning, pricing
from onnx_pipeline.cli.results import Report, output_file, reporting
from onnx_pipeline.cli.types import Several, Value
from onnx_pipeline.errors import Advice, InfeasibleError, UsageError

if TYPE_CHECKING:
    from onnx_pipeline.exploration import Exploration

#: Options that say how a model is profiled: costs in a file have been already.
_PROFILING = (
    "cost_model", "dims", "inputs", "profile_runs", "profile_seconds",
    "intra_op_threads", "cache", "provider", "custom_ops",
)  # fmt: skip
#: What ``split`` and an exploration have in common besides.
_SAME = (
    "device", "bandwidth", "memory", "memory_mode", "activations", "time_limit", "gap", "seed", "threads",
    "demands", "for_rate", "for_latency", "fit",
)  # fmt: skip


@click.command(cls=Command)
@click.argument("graph", type=options.PATH, metavar="MODEL|COSTS")
@shapes.numbers
@shapes.front
@output_file("FILE.csv|.json|.png|.svg")
@options.device(None, "cpu, or ideal where the graph brings transfer times")
@click.option(
    "--bandwidth",
    type=Several(Value("bandwidth")),
    metavar="RATE,RATE...",
    help="Bandwidths between devices: 1Gbit/s,10GB/s.  [default: the device's]",
)
@click.option(
    "--memory",
    type=Several(Value("memory")),
    metavar="SIZE,SIZE...",
    help="Fast memories of one device: 8GiB,16GiB.  [default: the device's]",
)
@options.memory_counts
@options.goals
@click.option("--ignore-colocation", is_flag=True, help="Ignore the colocation groups of COSTS.")
@options.costs
@options.search
@options.constraints
@config
@reporting
def explore(graph: Path, output: Path | None, report: Report, **choices: Any) -> int:
    """Plan MODEL or COSTS for many numbers of stages or devices and kinds of these: how many suffice?

    The time limit is for each row.
    """
    from onnx_pipeline.exploration import is_costs

    profile = {name: choices.pop(name) for name in _PROFILING}
    steps = planning(choices)
    if is_costs(graph):
        _refuse_profiling(graph)
    else:
        steps = pricing(profile) | steps
        choices["profile"] = profile | {"seed": choices["seed"]}
    return run(graph, choices, output, report, steps)


def run(
    graph: Path, choices: Mapping[str, Any], output: Path | None, report: Report, steps: Mapping[str, float]
) -> int:
    """Explore, print the table and write the file; return the exit code.

    Raises
    ------
    InfeasibleError
        If no number of stages reaches the goals on any target; the table is printed all the same.
    """
    from onnx_pipeline import exploration
    from onnx_pipeline.cli import explore_tables
    from onnx_pipeline.progress import Phases

    if output is not None:
        exploration.writer(output)
    phases = Phases()
    with report.console(steps) as console:
        found = exploration.explore(graph, progress=console, phases=phases, **choices)
        if found.interrupted:
            console.note("interrupted: these rows are the best so far; their certificates are valid")
    if output is not None:
        found.write(output)
    document = found.to_json() | {"phases": dict(phases)}
    report.result(document, lambda: explore_tables.show(found, phases, graph.name), output)
    if found.answers and not any(answer.stages for _, answer in found.answers):
        raise InfeasibleError(_unanswered(found), _hint(found))
    return 130 if found.interrupted else 0


def choose(
    graph: Path, shape: Mapping[str, Any], choices: Mapping[str, Any], report: Report
) -> dict[str, int]:
    """Return the fewest stages or devices that reach the goals of ``split``; say what is proved of fewer.

    Raises
    ------
    InfeasibleError
        If none of them does.
    """
    from onnx_pipeline import exploration
    from onnx_pipeline.cli import explore_tables

    profile = {name: choices[name] for name in _PROFILING} | {"seed": choices["seed"]}
    ((counted, numbers),) = ((name, value) for name, value in shape.items() if value is not None)
    same = {name: choices[name] for name in _SAME} | {counted: numbers}
    with report.console(pricing(choices) | planning(choices)) as console:
        found = exploration.explore(graph, profile=profile, progress=console, **same)
        if found.interrupted:
            raise KeyboardInterrupt
        ((_, answer),) = found.answers
        if answer.stages is None:
            raise InfeasibleError(_unanswered(found))
        console.note(explore_tables.devices(found.goals, answer, found.rows))
    return {counted: answer.stages}


def _unanswered(found: Exploration) -> str:
    from onnx_pipeline.cli import explore_tables

    setup, answer = found.answers[0]
    rows = [row for row in found.rows if row.setup is setup]
    return explore_tables.devices(found.goals, answer, rows)


def _hint(found: Exploration) -> Advice:
    if all(answer.forever for _, answer in found.answers):
        return Advice("ask for less")
    counted = f"{found.rows[0].noun}s" if found.rows else "stages"
    return Advice(f"ask for less, or give more {{{counted}}}", **{counted: ...})


def _refuse_profiling(path: Path) -> None:
    """Refuse options that would change nothing."""
    context = click.get_current_context()
    for name in _PROFILING:
        if context.get_parameter_source(name) is ParameterSource.COMMANDLINE:
            option = next(each for each in context.command.params if each.name == name)
            raise UsageError(f"{option.opts[0]} is for models: {path} holds costs")
