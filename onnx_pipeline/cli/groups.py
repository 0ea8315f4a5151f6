"""Several command-line options as one decorator."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any, TypeVar

Command = TypeVar("Command", bound=Callable[..., Any])
Decorator = Callable[[Command], Command]


def group(*options: Decorator[Any]) -> Decorator[Any]:
    """Return one decorator that adds several options in this order."""

    def decorate(command: Any) -> Any:
        for option in reversed(options):
            command = option(command)
        return command

    return decorate


def gathered(gather: Callable[..., dict[str, Any]], *options: Decorator[Any]) -> Decorator[Any]:
    """Add options whose values ``gather``, which names them, turns into arguments of the command."""
    names = tuple(inspect.signature(gather).parameters)

    def decorate(command: Any) -> Any:
        @functools.wraps(command)
        def call(*args: Any, **values: Any) -> Any:
            return command(*args, **gather(**{name: values.pop(name) for name in names}), **values)

        return group(*options)(call)

    return decorate
