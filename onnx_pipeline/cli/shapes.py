"""Options that say what is planned: stages, or devices for stages with replicas. They exclude each other."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from onnx_pipeline.cli.groups import gathered
from onnx_pipeline.cli.types import Stages, Value

PATH = click.Path(path_type=Path)


def the_one(**given: Any) -> dict[str, Any]:
    """Return options that exclude each other with all but one None; the command line wins over a file.

    Raises
    ------
    click.UsageError
        If more than one is given in the same place.
    """
    context = click.get_current_context()
    named = [name for name, value in given.items() if value is not None]
    typed = [n for n in named if context.get_parameter_source(n) is ParameterSource.COMMANDLINE]
    chosen = typed or named
    if len(chosen) > 1:
        flags = " and ".join(max(_option(name).opts, key=len) for name in chosen)
        raise click.UsageError(f"{flags} exclude each other: give one of them", context)
    return {name: value if name in chosen else None for name, value in given.items()}


def _option(name: str) -> click.Parameter:
    return next(each for each in click.get_current_context().command.params if each.name == name)


def _shape(
    stages: Any, devices: Any, fleet: Any, stages_per_device: Any, partition: Path | None
) -> dict[str, Any]:
    """Keep the one that is given; take the number of stages from the partition where only that is."""
    shape = the_one(stages=stages, devices=devices, fleet=fleet)
    if all(value is None for value in shape.values()):
        if partition is None:
            hint = "'-k' / '--stages', '--devices' or '--fleet'"
            raise click.MissingParameter(None, click.get_current_context(), _option("stages"), hint)
        from onnx_pipeline.given import GivenPartition

        shape["stages"] = GivenPartition.load(partition).stages
    return {**shape, "stages_per_device": stages_per_device, "partition": partition}


_DEVICES = click.option(
    "--devices",
    type=Stages("devices"),
    metavar="N",
    help="Number of devices, in place of -k: plans stages and how many devices serve each; several, as "
    "1-8, are compared.",
)


def _numbers(stages: Any, devices: Any) -> dict[str, Any]:
    return the_one(stages=stages, devices=devices)


#: The numbers that ``explore`` plans for: ``stages`` or ``devices``.
numbers = gathered(
    _numbers,
    click.option(
        "-k",
        "--stages",
        type=Stages(),
        metavar="LIST",
        help="Numbers of stages: 1-64, 1,2,4,8.  [default: 1-64]",
    ),
    _DEVICES,
)
front = click.option(
    "--front",
    is_flag=True,
    help="With --devices N: show what brings a shorter period or latency than fewer devices, from 1 to N.",
)
fleet = click.option(
    "--fleet",
    type=Value("fleet"),
    metavar="FILE.toml",
    help="Devices that differ, in place of -k: how many there are of each kind, and what each can do.",
)
#: What ``split`` and ``plan`` plan: ``stages``, ``devices``, ``fleet`` with ``stages_per_device``, and
#: ``partition``, as far as they are given.
shape = gathered(
    _shape,
    click.option(
        "-k",
        "--stages",
        type=Stages(),
        metavar="K",
        help="Number of stages, one per device; several, as 2-16 or 1,2,4,8, are compared.  "
        "[required without --devices, --fleet and --partition]",
    ),
    _DEVICES,
    fleet,
    click.option(
        "--stages-per-device",
        type=Value("stages_per_device"),
        metavar="N|any",
        help="How many stages a device of the fleet may hold.  [default: the fleet's, or 1]",
    ),
    click.option(
        "--partition",
        type=PATH,
        metavar="FILE",
        help="Take this partition, search none: JSON (stages by node, a list, a plan) or CSV (name,stage).",
    ),
)
