"""Parameters of the library as the options that set them: ``force=True`` is ``--force``."""

from __future__ import annotations

from typing import Any

import click

from onnx_pipeline.errors import Spell, as_keyword


def speller(program: click.Command) -> Spell:
    """Return what spells parameters as a program's options do; its commands agree on them."""
    commands = program.commands.values() if isinstance(program, click.Group) else [program]
    options: dict[str, click.Option] = {}
    for command in commands:
        for option in command.params:
            if isinstance(option, click.Option) and option.name:
                options.setdefault(option.name, option)

    def spell(name: str, value: Any) -> str:
        return _spelled(options[name], value) if name in options else as_keyword(name, value)

    return spell


def _spelled(option: click.Option, value: Any) -> str:
    flag = max(option.opts, key=len)
    if isinstance(value, bool):
        return flag if value or not option.secondary_opts else option.secondary_opts[0]
    if isinstance(value, dict):
        return " ".join(f"{flag} {key}={each}" for key, each in value.items())
    if value is ...:
        value = option.metavar or str(option.name).upper()
    return f"{flag} {value}"
