"""Types of command-line options; only click is imported until a value is read."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from onnx_pipeline.errors import UsageError
from onnx_pipeline.settings import LARGEST, SETTINGS

if TYPE_CHECKING:
    ParamType = click.ParamType[Any]  # generic for type checkers only, in older releases not at run time
else:
    ParamType = click.ParamType


class Value(ParamType):
    """The value of a setting: read by a type of click's, checked as in Python and in files.

    Parameters
    ----------
    setting : str
        Its name.
    base : click.ParamType
        Reads the text; other values come from a file and are what they should be.
    """

    def __init__(self, setting: str, base: ParamType = click.STRING) -> None:
        self.name = setting
        self.base = base

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return the checked value."""
        given = self.base.convert(value, param, ctx) if isinstance(value, str) else value
        try:
            return SETTINGS[self.name].check(given, self.name)
        except UsageError as error:
            self.fail(str(error).removeprefix(f"{self.name} "), param, ctx)


class Count(ParamType):
    """A whole number above 0; click's own range would add ``x>=1`` to the help."""

    name = "count"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Return the number."""
        try:
            number = int(value)
        except ValueError:
            number = 0
        if not 1 <= number <= LARGEST:
            self.fail(f"must be a whole number from 1 to {LARGEST}, got {value}", param, ctx)
        return number


class Stages(Value):
    """One number of stages as it is, several as a tuple."""

    def __init__(self, setting: str = "stages_list") -> None:
        super().__init__(setting)

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> int | tuple[int, ...]:
        """Return the number or the numbers."""
        numbers: tuple[int, ...] = super().convert(value, param, ctx)
        return numbers if len(numbers) > 1 else numbers[0]


class Several(ParamType):
    """Values of one type with commas between them.

    Parameters
    ----------
    each : click.ParamType
        Reads every one of them.
    """

    name = "several"

    def __init__(self, each: ParamType) -> None:
        self.each = each

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[Any, ...]:
        """Return the values."""
        if isinstance(value, tuple):
            return value
        parts = value.split(",") if isinstance(value, str) else [value]
        return tuple(self.each.convert(part, param, ctx) for part in parts)


class Pair(ParamType):
    """``NAME=NUMBER`` with a number from 0 to 2^31 - 1; names may hold equals signs.

    Parameters
    ----------
    form : str
        How the help writes it.
    what : str
        Says more about the number in errors.
    """

    name = "pair"

    def __init__(self, form: str, what: str) -> None:
        self.form, self.what = form, what

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, int]:
        """Return name and number."""
        if isinstance(value, tuple):
            return value
        name, _, text = str(value).rpartition("=")
        if not name or not (text.isascii() and text.isdigit() and len(text) < 20 and int(text) <= LARGEST):
            self.fail(f"{value!r} is not {self.form} with {self.what}", param, ctx)
        return name, int(text)


class Names(ParamType):
    """Names with commas between them."""

    name = "names"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, ...]:
        """Return the names."""
        names = tuple(value.split(",") if isinstance(value, str) else value)
        if not all(names):
            self.fail(f"{value!r} has an empty name", param, ctx)
        return names


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
