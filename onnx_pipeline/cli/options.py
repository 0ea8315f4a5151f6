"""Types and groups of command-line options; only click is imported until a value is read."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    ParamType = click.ParamType[Any]  # generic for type checkers only, in older releases not at run time
else:
    ParamType = click.ParamType

Command = TypeVar("Command", bound=Callable[..., Any])
Decorator = Callable[[Command], Command]


class Quantity(ParamType):
    """A bandwidth or a memory size as people write it, such as ``16GB/s`` or ``8GiB``."""

    def __init__(self, what: str, *, words: tuple[str, ...] = ()) -> None:
        self.name = what
        self.words = words

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float | str:
        """Return bytes or bytes/second, or one of the words that stand for a value."""
        from onnx_pipeline.costmodel.units import parse_bandwidth, parse_bytes
        from onnx_pipeline.errors import UsageError

        if value in self.words:
            return str(value)
        try:
            return (parse_bandwidth if self.name == "bandwidth" else parse_bytes)(value, self.name)
        except UsageError as error:
            self.fail(str(error), param, ctx)


class Dim(ParamType):
    """``NAME=INT``: the value of a symbolic dimension."""

    name = "dim"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, int]:
        """Return the name and the value."""
        if isinstance(value, tuple):
            return value
        name, equals, text = str(value).rpartition("=")
        try:
            number = int(text)
        except ValueError:
            number = -1
        if not (name and equals and number >= 0):
            self.fail(f"{value!r} is not NAME=INT with INT at least 0, such as batch=8", param, ctx)
        return name, number


class Provider(ParamType):
    """``[STAGE=]NAME[:key=value...]``: an execution provider with options."""

    name = "provider"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return the stage (None for all) and the provider."""
        from onnx_pipeline.runtime.placement import parse_provider

        try:
            return value if isinstance(value, tuple) else parse_provider(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)


class Number(ParamType):
    """A number for which ``accept`` holds; ``what`` says which ones do."""

    name = "number"

    def __init__(self, accept: Callable[[float], bool], what: str) -> None:
        self.accept, self.what = accept, what

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Return the number."""
        try:
            number = float(value)
        except ValueError:
            number = math.nan
        if not self.accept(number):
            self.fail(f"{value!r} is not {self.what}", param, ctx)
        return number


def _dims(ctx: click.Context, param: click.Parameter, pairs: tuple[tuple[str, int], ...]) -> dict[str, int]:
    dims: dict[str, int] = {}
    for name, value in pairs:
        if dims.setdefault(name, value) != value:
            raise click.BadParameter(f"{name!r} is given as both {dims[name]} and {value}", ctx, param)
    return dims


def _together(*options: Decorator[Any]) -> Decorator[Any]:
    def decorate(command: Any) -> Any:
        for option in reversed(options):
            command = option(command)
        return command

    return decorate


PATH = click.Path(path_type=Path)

stages = click.option(
    "-k", "--stages", type=click.IntRange(min=1), required=True, metavar="K", help="Number of stages."
)


def output(what: str, default: str) -> Decorator[Any]:
    """``-o`` and ``--force``."""
    return _together(
        click.option("-o", "--output", type=PATH, metavar=what, help=f"Where to write.  [{default}]"),
        click.option("--force", is_flag=True, help="Replace an existing output."),
    )


def _device(default: str) -> Decorator[Any]:
    return click.option(
        "--device", metavar="FILE|NAME", help=f"Device: a TOML file or a built-in name.  [default: {default}]"
    )


device = _device("cpu")


def target(memory_words: tuple[str, ...] = (), default: str = "cpu") -> Decorator[Any]:
    """Device and what overrides it."""
    return _together(
        _device(default),
        click.option(
            "--bandwidth",
            type=Quantity("bandwidth"),
            metavar="RATE",
            help="Between devices: 16GB/s, 800MB/s, inf.  [default: the device's]",
        ),
        click.option(
            "--memory",
            type=Quantity("memory", words=memory_words),
            metavar="|".join(("SIZE", *memory_words)),
            help="Fast memory per device: 8GiB, 800MB, inf"
            + (", or the graph file's own limit" if memory_words else "")
            + ".  [default: the device's]",
        ),
        click.option(
            "--memory-mode",
            type=click.Choice(["overflow", "hard"]),
            default="overflow",
            show_default=True,
            help="Bytes beyond the memory are streamed, or forbidden.",
        ),
        click.option(
            "--activations/--no-activations",
            default=True,
            show_default=True,
            help="Whether a stage's live activations need memory beside its parameters.",
        ),
    )


dims = click.option(
    "--dim",
    "dims",
    type=Dim(),
    multiple=True,
    callback=_dims,
    metavar="NAME=INT",
    help="Value of a symbolic dimension (repeat).  [default: 1]",
)
inputs = click.option(
    "--inputs", type=PATH, metavar="X.npz", help="Representative inputs.  [default: random, seeded]"
)
seed = click.option(
    "--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Seed of everything random."
)

costs = _together(
    click.option(
        "--cost-model",
        default="profile",
        show_default=True,
        metavar="profile|analytic|FILE",
        help="Measure with onnxruntime, estimate from shapes, or read COSTS.json or CSV.",
    ),
    dims,
    inputs,
    click.option(
        "--profile-runs",
        type=click.IntRange(min=1),
        metavar="N",
        help="Measured inferences per pair of sessions.  [default: 10, more for quick models]",
    ),
    click.option(
        "--profile-seconds",
        type=Number(lambda x: 0 < x < math.inf, "a number of seconds above 0"),
        metavar="SECONDS",
        help="Bound on the time of a profile.  [default: 1.2 per inference asked for]",
    ),
    click.option(
        "--cache/--no-cache", default=True, help="Keep profiles in the user's cache directory and use them."
    ),
    click.option(
        "--provider",
        default="CPUExecutionProvider",
        show_default=True,
        metavar="NAME",
        help="onnxruntime execution provider to measure.",
    ),
)

custom_ops = click.option(
    "--custom-ops",
    type=PATH,
    multiple=True,
    metavar="LIBRARY",
    help="Library of custom operators for onnxruntime (repeat); its code is run.",
)
costs = _together(costs, custom_ops)

search = _together(
    click.option(
        "--time-limit",
        type=Number(lambda x: 0 < x < math.inf, "a number of seconds above 0"),
        default=10.0,
        show_default=True,
        metavar="SECONDS",
        help="Wall time for search and certificate together.",
    ),
    click.option(
        "--gap",
        type=Number(lambda x: 0 <= x < 1, "a fraction of at least 0 and below 1"),
        default=0.0,
        show_default=True,
        metavar="FRACTION",
        help="Stop as soon as this gap is proved.",
    ),
    seed,
    click.option(
        "--threads", type=click.IntRange(min=1), metavar="N", help="For the search.  [default: all cores]"
    ),
)


class Pin(ParamType):
    """``NODE=STAGE``; node names may hold equals signs."""

    name = "pin"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return the pair."""
        node, equals, stage = str(value).rpartition("=")
        if not equals or not node or not stage.isdigit():
            self.fail(f"{value!r} is not NODE=STAGE with a stage counted from 0", param, ctx)
        return node, int(stage)


def _demands(command: Any) -> Any:
    """Gather the constraint options into one ``demands``."""

    @functools.wraps(command)
    def gathered(
        *args: Any, pins: Any, together: Any, uncut: Any, exactly: bool, bounds: Any, **rest: Any
    ) -> Any:
        from onnx_pipeline.graph.constraints import Demands

        groups = tuple(tuple(group.split(",")) for group in together)
        rest["demands"] = Demands(groups, tuple(uncut), dict(pins), exactly, bounds)
        return command(*args, **rest)

    return gathered


def _bounds(ctx: click.Context, param: click.Parameter, text: str | None) -> tuple[str, ...] | None:
    return None if text is None else tuple(text.split(","))


_constraints = _together(
    click.option("--pin", "pins", type=Pin(), multiple=True, help="Put a node into this stage (repeat)."),
    click.option(
        "--together", multiple=True, metavar="NODE,NODE...", help="Nodes that share a stage (repeat)."
    ),
    click.option(
        "--no-cut", "uncut", multiple=True, metavar="TENSOR", help="Must not cross a border (repeat)."
    ),
    click.option("--exactly", is_flag=True, help="Leave no stage empty."),
    click.option(
        "--bounds",
        callback=_bounds,
        metavar="NAME,NAME...",
        help="Certificates to compute: simple, min-cut, windows, ideals, bottleneck, guess, cp-sat, mip.",
    ),
    click.option("--log", type=PATH, metavar="FILE.csv", help="Write the history of the search."),
)


def constraints(command: Any) -> Any:
    """Demands on the partition, and how it is proved and logged."""
    return _constraints(_demands(command))


def _providers(ctx: click.Context, param: click.Parameter, parsed: Any) -> Any:
    if not parsed:
        return None
    from onnx_pipeline.runtime.placement import gather_providers

    return gather_providers(parsed)


streaming = _together(
    custom_ops,
    click.option(
        "--provider",
        "providers",
        type=Provider(),
        multiple=True,
        callback=_providers,
        metavar="[STAGE=]NAME[:key=value]",
        help="Execution provider of all stages or of one (repeat).  [default: the manifest's, or CPU]",
    ),
    click.option(
        "--backend",
        type=click.Choice(["auto", "threads", "processes"]),
        default="auto",
        show_default=True,
        help="Where the stages work.",
    ),
    click.option(
        "--queue-depth",
        type=click.IntRange(min=1),
        default=2,
        show_default=True,
        metavar="N",
        help="Requests that may wait between two stages.",
    ),
    click.option(
        "--max-in-flight",
        type=click.IntRange(min=1),
        metavar="N",
        help="Requests inside at once.  [default: what stages and queues hold]",
    ),
    click.option("--trace", type=PATH, metavar="FILE.json", help="Write a timeline for Perfetto."),
    click.option("--plot", type=PATH, metavar="FILE.png", help="Draw a timeline."),
)

reporting = _together(
    click.option("--json", "as_json", is_flag=True, help="One JSON document on stdout, nothing else there."),
    click.option("-q", "--quiet", is_flag=True, help="Errors only on stderr."),
    click.option("-v", "--verbose", count=True, help="More on stderr; twice: tracebacks."),
)
