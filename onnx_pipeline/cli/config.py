"""``--config FILE``: options from a TOML file; the command line wins."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from onnx_pipeline.settings import load


def _read(context: click.Context, _: click.Parameter, path: Path | None) -> None:
    """Make the file's values the defaults of the options that this command has."""
    if path is None or context.resilient_parsing:
        return
    names = {option.name for option in context.command.params if isinstance(option, click.Option)}
    context.default_map = {name: _as_given(value) for name, value in load(path).items() if name in names}


def _as_given(value: Any) -> Any:
    """Return a table as the list of pairs that a repeated option gives."""
    return list(value.items()) if isinstance(value, Mapping) else value


config = click.option(
    "--config",
    type=click.Path(path_type=Path),
    is_eager=True,
    expose_value=False,
    callback=_read,
    metavar="FILE.toml",
    help="Read options from a file; the command line wins.",
)
