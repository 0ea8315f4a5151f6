"""Parameters of the library as the options that set them: ``force=True`` is ``--force``."""

from __future__ import annotations

from functools import cache
from typing import Any

import click

from onnx_pipeline.errors import as_keyword


def as_option(name: str, value: Any) -> str:
    """Spell a parameter as the command line does; ``...`` stands for any value."""
    option = _options().get(name)
    if option is None:
        return as_keyword(name, value)
    flag = max(option.opts, key=len)
    if isinstance(value, bool):
        return flag if value or not option.secondary_opts else option.secondary_opts[0]
    if isinstance(value, dict):
        return " ".join(f"{flag} {key}={each}" for key, each in value.items())
    if value is ...:
        value = option.metavar or name.upper()
    return f"{flag} {value}"


@cache
def _options() -> dict[str, click.Option]:
    """Return every option of every command by the parameter that it sets; commands agree on them."""
    from onnx_pipeline.cli.commands import cli

    found: dict[str, click.Option] = {}
    for command in cli.commands.values():
        for option in command.params:
            if isinstance(option, click.Option) and option.name:
                found.setdefault(option.name, option)
    return found
