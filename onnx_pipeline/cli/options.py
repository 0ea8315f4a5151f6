"""Groups of command-line options, each with the defaults of the parameters that it sets."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from onnx_pipeline.cli.groups import Decorator, gathered, group
from onnx_pipeline.cli.types import Names, Pair, Value
from onnx_pipeline.parameters import OutputParams, ProfileParams, SearchParams, TargetParams
from onnx_pipeline.settings import BOUNDS, MEMORY_MODES, WEIGHTS

PATH = click.Path(path_type=Path)


goals = group(
    click.option(
        "--for-rate",
        type=Value("for_rate", click.FLOAT),
        metavar="PER_SECOND",
        help="Find the fewest stages that serve so many requests per second.",
    ),
    click.option(
        "--for-latency",
        type=Value("for_latency"),
        metavar="TIME",
        help="Find the fewest stages that answer one request in 50ms, 2s, ...",
    ),
    click.option(
        "--fit",
        type=Value("fit"),
        metavar="SIZE",
        help="Find the fewest stages that need at most so much memory each: 8GiB, 800MB.",
    ),
)


def device(default: str | None = "cpu", explained: str = "cpu") -> Decorator[Any]:
    """What the stages run on."""
    return click.option(
        "--device",
        type=Value("device"),
        default=default,
        metavar="FILE|NAME",
        help=f"Device: a built-in or installed name, or a TOML file.  [default: {explained}]",
    )


bandwidth = click.option(
    "--bandwidth",
    type=Value("bandwidth"),
    metavar="RATE",
    help="Bandwidth between devices: 16GB/s, 10Gbit/s, inf.  [default: the device's]",
)


memory_counts = group(
    click.option(
        "--memory-mode",
        type=click.Choice(MEMORY_MODES),
        default=TargetParams.memory_mode,
        show_default=True,
        help="Stream what exceeds the memory in every inference, or forbid it.",
    ),
    click.option(
        "--activations/--no-activations",
        default=TargetParams.activations,
        show_default=True,
        help="Count live activations, or parameters only, against the memory.",
    ),
)


def memory(of_file: bool = False) -> Decorator[Any]:
    """Fast memory per device, how it counts and what fills it."""
    more = ", or the graph file's own limit" if of_file else ""
    return group(
        click.option(
            "--memory",
            type=Value("memory"),
            metavar="SIZE|file" if of_file else "SIZE",
            help=f"Fast memory of one device: 8GiB, 800MB, inf{more}.  [default: the device's]",
        ),
        memory_counts,
    )


def _dims(ctx: click.Context, param: click.Parameter, pairs: tuple[tuple[str, int], ...]) -> dict[str, int]:
    dims: dict[str, int] = {}
    for name, value in pairs:
        if dims.setdefault(name, value) != value:
            raise click.BadParameter(f"{name!r} is given as both {dims[name]} and {value}", ctx, param)
    return dims


dims = click.option(
    "--dim",
    "dims",
    type=Pair("NAME=INT", "INT from 0 to 2147483647, such as batch=8"),
    multiple=True,
    callback=_dims,
    metavar="NAME=INT",
    help="Value of a symbolic dimension; repeatable.  [default: 1]",
)
inputs = click.option(
    "--inputs",
    type=PATH,
    metavar="X.npz",
    help="Representative inputs by name, or a folder of input_0.pb, ...  [default: random, seeded]",
)
seed = click.option(
    "--seed",
    type=Value("seed", click.INT),
    default=SearchParams.seed,
    show_default=True,
    metavar="N",
    help="Seed of all random choices.",
)
custom_ops = click.option(
    "--custom-ops",
    type=PATH,
    multiple=True,
    metavar="LIBRARY",
    help="Library of custom operators for onnxruntime; loading it runs its code; repeatable.",
)

costs = group(
    click.option(
        "--cost-model",
        type=Value("cost_model"),
        default=ProfileParams.cost_model,
        show_default=True,
        metavar="profile|analytic|FILE",
        help="Measure with onnxruntime, estimate from shapes, or read costs or a profile from a file.",
    ),
    dims,
    inputs,
    click.option(
        "--profile-runs",
        type=Value("profile_runs", click.INT),
        metavar="N",
        help="Inferences to measure per pair of sessions.  [default: 10, more for quick models]",
    ),
    click.option(
        "--profile-seconds",
        type=Value("profile_seconds", click.FLOAT),
        metavar="SECONDS",
        help="Time a profile may take, one inference at least.  [default: 12, or 1.2 times --profile-runs]",
    ),
    click.option(
        "--intra-op-threads",
        type=Value("intra_op_threads", click.INT),
        default=ProfileParams.intra_op_threads,
        show_default=True,
        metavar="N",
        help="Threads that compute one node, in the profile and in measured stages.",
    ),
    click.option(
        "--cache/--no-cache",
        default=ProfileParams.cache,
        show_default=True,
        help="Use and keep profiles in the user's cache directory.",
    ),
    click.option(
        "--provider",
        type=Value("provider"),
        default=ProfileParams.provider,
        show_default=True,
        metavar="NAME",
        help="Execution provider of onnxruntime to measure.",
    ),
    custom_ops,
)

search = group(
    click.option(
        "--time-limit",
        type=Value("time_limit", click.FLOAT),
        default=SearchParams.time_limit,
        metavar="SECONDS",
        help=f"Time limit of the search, proofs included.  [default: {SearchParams.time_limit:g}]",
    ),
    click.option(
        "--gap",
        type=Value("gap", click.FLOAT),
        default=SearchParams.gap,
        metavar="FRACTION",
        help=f"Stop once this gap is proved.  [default: {SearchParams.gap:g}]",
    ),
    seed,
    click.option(
        "--threads",
        type=Value("threads", click.INT),
        metavar="N",
        help="Threads of the search.  [default: all cores]",
    ),
)


def _demands(pins: Any, together: Any, uncut: Any, exactly: bool, bounds: Any) -> dict[str, Any]:
    from onnx_pipeline.graph.constraints import Demands, joint_pins

    return {"demands": Demands(together, uncut, joint_pins(pins), exactly, bounds)}


constraints = gathered(
    _demands,
    click.option(
        "--pin",
        "pins",
        type=Pair("NODE=STAGE", "a stage counted from 0"),
        multiple=True,
        metavar="NODE=STAGE",
        help="Put a node into a stage, or all nodes that match: 'encoder/*=0'; repeatable.",
    ),
    click.option(
        "--together",
        type=Names(),
        multiple=True,
        metavar="NODE,NODE...",
        help="Keep nodes in one stage, also by patterns: 'layer1/*'; repeatable.",
    ),
    click.option(
        "--no-cut",
        "uncut",
        multiple=True,
        metavar="TENSOR",
        help="Keep a tensor within one stage, or all that match; repeatable.",
    ),
    click.option("--exactly", is_flag=True, help="Leave no stage empty."),
    click.option(
        "--bounds",
        type=Value("bounds"),
        metavar="NAME,NAME...",
        help=f"Lower bounds to compute: {', '.join(BOUNDS)}.",
    ),
)
log = click.option("--log", type=PATH, metavar="FILE.csv", help="Write the history of the search as CSV.")

measure = group(
    click.option(
        "--measure",
        type=Value("measure", click.INT),
        metavar="N",
        help="Measure the stages, correct the costs and try up to N other partitions; take one that is "
        "faster.  [default: 3 for profiled costs, else 0]",
    ),
    click.option(
        "--measure-seconds",
        type=Value("measure_seconds", click.FLOAT),
        metavar="SECONDS",
        help="Time that measuring stages may take; it ends when it is decided.  "
        "[default: 4, or 64 inferences, at most 60]",
    ),
)
writing = group(
    click.option(
        "--annotate", is_flag=True, help="Also write the whole model with pipeline_stage on its nodes."
    ),
    click.option(
        "--weights",
        type=click.Choice(WEIGHTS),
        default=OutputParams.weights,
        show_default=True,
        help="External weights: copy into each stage, hard-link into the output, or use where they are.",
    ),
)
