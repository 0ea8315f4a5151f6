"""Every setting by name: which values it takes, and its key in a configuration file.

A setting has one name in Python (``time_limit``, ``dims``), one key in a file and one option (``time-limit``,
``dim``). Parameter objects, files and the command line all check values here.
"""

from __future__ import annotations

import math
import os
import re
import reprlib
from collections.abc import Callable, Mapping
from numbers import Integral, Real
from typing import Any

from onnx_pipeline.errors import InputError, UsageError, did_you_mean

#: Returns a checked value, or None for one that is not allowed.
Accept = Callable[[Any], Any]

#: Certificates by name. The simple bound is always there.
BOUNDS = (
    "simple",
    "min-cut",
    "windows",
    "crossings",
    "ideals",
    "bottleneck",
    "guess",
    "cp-sat",
    "mip",
    "exactly",
)
MEMORY_MODES = ("overflow", "hard")
WEIGHTS = ("copy", "link", "reference")
#: More stages than any machine has; beyond this only the memory of this one would be tested.
MOST_STAGES = 100_000
#: The largest whole number that every solver takes.
LARGEST = 2**31 - 1

#: Three years: a time limit beyond is none.
MOST_SECONDS = 1e8


class Setting:
    """What a setting accepts, and a description of it."""

    def __init__(self, accept: Accept, what: str, *, optional: bool = False) -> None:
        self.accept, self.what, self.optional = accept, what, optional

    def check(self, value: Any, label: str) -> Any:
        """Return the value in its final form; errors call the setting ``label``.

        Raises
        ------
        UsageError
            If the value is not allowed.
        """
        if value is None and self.optional:
            return None
        accepted = self.accept(value)
        if accepted is None:
            raise UsageError(f"{label} must be {self.what}, got {_short(value)}")
        return accepted


def _short(value: Any) -> str:
    shown = reprlib.Repr()
    shown.maxstring = shown.maxother = shown.maxlong = 60
    return shown.repr(value)


def _whole(low: int, high: int = LARGEST, *, optional: bool = False) -> Setting:
    def accept(value: Any) -> int | None:
        number = int(value) if isinstance(value, Integral) and not isinstance(value, bool) else low - 1
        return number if low <= number <= high else None

    return Setting(accept, f"a whole number from {low} to {high}", optional=optional)


def _number(holds: Callable[[float], bool], what: str, *, optional: bool = False) -> Setting:
    def accept(value: Any) -> float | None:
        if isinstance(value, bool) or not isinstance(value, Real):
            return None
        try:
            number = float(value)
        except OverflowError:
            return None
        return number if holds(number) else None

    return Setting(accept, what, optional=optional)


def _seconds(*, optional: bool = False) -> Setting:
    return _number(lambda x: 0 < x < math.inf, "a number of seconds above 0", optional=optional)


def _time_limit() -> Setting:
    """Seconds, or infinity for no limit; no solver's clock goes beyond years."""
    above = _number(lambda x: x > 0, "a number of seconds above 0")

    def accept(value: Any) -> float | None:
        seconds = above.accept(value)
        return None if seconds is None else min(seconds, MOST_SECONDS)

    return Setting(accept, above.what)


def _flag() -> Setting:
    return Setting(lambda value: value if isinstance(value, bool) else None, "true or false")


def _text(what: str) -> Setting:
    return Setting(lambda value: value if isinstance(value, str) and value else None, what)


def _choice(*words: str) -> Setting:
    known = f"{', '.join(map(repr, words[:-1]))} or {words[-1]!r}"
    return Setting(lambda value: value if isinstance(value, str) and value in words else None, known)


def _path_like(value: Any) -> Any:
    return value if isinstance(value, os.PathLike) or (isinstance(value, str) and value) else None


def _path(*, optional: bool = False) -> Setting:
    return Setting(_path_like, "a path", optional=optional)


class _Quantity(Setting):
    """Bytes, bytes/second or seconds, as a number or as text with a unit."""

    def __init__(self, unit: str, *words: str) -> None:
        super().__init__(lambda value: value, "", optional=True)
        self.unit, self.words = unit, words

    def check(self, value: Any, label: str) -> Any:
        """Return a float, or one of the words that are allowed instead."""
        from onnx_pipeline.graph.units import parse_bandwidth, parse_bytes, parse_seconds

        if value is None or (isinstance(value, str) and value in self.words):
            return value
        if self.unit == "seconds" and isinstance(value, Real) and not value:
            raise UsageError(f"{label} must be positive, got {value!r}")
        readers = {"bytes": parse_bytes, "bytes/second": parse_bandwidth, "seconds": parse_seconds}
        return readers[self.unit](value, label)


def _device(value: Any) -> Any:
    if _path_like(value) is None:
        from onnx_pipeline.costmodel.devices import Device

        return value if isinstance(value, Device) else None
    return value


def _fleet(value: Any) -> Any:
    return (
        value if isinstance(value, Mapping) or not isinstance(value, str | os.PathLike) else _path_like(value)
    )


def _share(value: Any) -> int | str | None:
    """Accept a number of stages, also as text, and ``any``."""
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) < 10:
        value = int(value)
    return "any" if value == "any" else _whole(1, MOST_STAGES).accept(value)


def _cost_model(value: Any) -> Any:
    if callable(value):
        return value
    return os.fspath(value) if _path_like(value) is not None else None


def _names(value: Any) -> tuple[str, ...] | None:
    """Names in a list, or in one text with commas between them."""
    parts = value.split(",") if isinstance(value, str) else value
    if not isinstance(parts, list | tuple | set | frozenset) or not parts:
        return None
    return tuple(parts) if all(isinstance(part, str) and part for part in parts) else None


def _list(accept: Accept, what: str) -> Setting:
    def each(value: Any) -> tuple[Any, ...] | None:
        if isinstance(value, str | Mapping) or not hasattr(value, "__iter__"):
            return None
        found = tuple(accept(item) for item in value)
        return None if None in found else found

    return Setting(each, f"a list of {what}")


def _numbered(what: str, *, optional: bool = False) -> Setting:
    number = _whole(0).accept

    def accept(value: Any) -> dict[str, int | None] | None:
        if not isinstance(value, Mapping):
            return None
        found = {name: number(each) for name, each in value.items()}
        good = all(isinstance(name, str) and each is not None for name, each in found.items())
        return found if good else None

    return Setting(accept, f"whole numbers from 0 to {LARGEST} by {what}", optional=optional)


def _given(value: Any) -> Any:
    """A partition; what it says is checked against its graph."""
    if isinstance(value, Mapping | list | tuple) or hasattr(value, "__array__"):
        return value
    return _path_like(value)


def _bounds(value: Any) -> tuple[str, ...] | None:
    names = () if value in ((), [], set(), frozenset()) else _names(value)
    return names if names is not None and set(names) <= set(BOUNDS) else None


def numbers_of_stages(value: Any) -> tuple[int, ...] | None:
    """Read a number of stages, a list of numbers, or text such as ``"2-16"`` and ``"1,2,4-8"``; ascending."""
    if isinstance(value, str):
        match = re.fullmatch(r"\s*\d{1,9}(-\d{1,9})?(\s*,\s*\d{1,9}(-\d{1,9})?)*\s*", value)
        parts = [[int(end) for end in part.split("-")] for part in value.split(",")] if match else []
        value = [k for ends in parts for k in range(ends[0], min(ends[-1], MOST_STAGES + 1) + 1)]
    number = _whole(1, MOST_STAGES).accept
    if not hasattr(value, "__iter__") or isinstance(value, Mapping):
        value = [value]
    found = {number(each) for each in value}
    return tuple(sorted(found)) if found and None not in found else None


SETTINGS: dict[str, Setting] = {
    # The devices.
    "stages": _whole(1, MOST_STAGES),
    "stages_list": Setting(numbers_of_stages, f"numbers from 1 to {MOST_STAGES}, such as 8, 2-16 or 1,2,4,8"),
    "front": _flag(),
    "devices": Setting(numbers_of_stages, f"numbers from 1 to {MOST_STAGES}, such as 8, 2-16 or 1,2,4,8"),
    "device": Setting(_device, "the name of a device or a TOML file", optional=True),
    "bandwidth": _Quantity("bytes/second"),
    "memory": _Quantity("bytes", "file"),
    "fleet": Setting(_fleet, "a TOML file", optional=True),
    "stages_per_device": Setting(_share, 'a whole number from 1 or "any"', optional=True),
    "memory_mode": _choice(*MEMORY_MODES),
    "activations": _flag(),
    # The costs.
    "cost_model": Setting(_cost_model, "the name of a cost model, a file or a function"),
    "dims": _numbered("dimension", optional=True),
    "inputs": Setting(
        lambda value: value if isinstance(value, Mapping) else _path_like(value), "a file", optional=True
    ),
    "profile_runs": _whole(1, optional=True),
    "profile_seconds": _seconds(optional=True),
    "cache": _flag(),
    "provider": _text("the name of an execution provider"),
    "custom_ops": _list(_path_like, "paths"),
    "intra_op_threads": _whole(1),
    # The search.
    "time_limit": _time_limit(),
    "gap": _number(lambda x: 0 <= x < 1, "a fraction of at least 0 and below 1"),
    "seed": _whole(0),
    "threads": _whole(1, optional=True),
    "exactly": _flag(),
    "bounds": Setting(_bounds, f"names out of {', '.join(BOUNDS)}", optional=True),
    "log": _path(optional=True),
    # The demands.
    "together": _list(_names, "groups of nodes"),
    "uncut": _list(lambda name: name if isinstance(name, str) and name else None, "tensors"),
    "pins": _numbered("node"),
    "ignore_colocation": _flag(),
    "partition": Setting(_given, "stages by node, a list of them or a file", optional=True),
    # The goals.
    "for_rate": _number(lambda x: 0 < x < math.inf, "a number of requests per second above 0", optional=True),
    "for_latency": _Quantity("seconds"),
    "fit": _Quantity("bytes"),
    # What is measured, and what is written.
    "measure": _whole(0, optional=True),
    "measure_seconds": _seconds(optional=True),
    "perturb": _number(lambda x: 0 < x < 1, "a fraction between 0 and 1", optional=True),
    "samples": _whole(1),
    "recheck": _seconds(optional=True),
    "output": _path(optional=True),
    "force": _flag(),
    "annotate": _flag(),
    "weights": _choice(*WEIGHTS),
    "as_json": _flag(),
    "quiet": _flag(),
    "verbose": _whole(0),
}

#: Settings that no command reads from a file, and those whose option has another name.
_NOT_IN_FILES = {"recheck", "stages_list"}
_RENAMED = {"dims": "dim", "pins": "pin", "uncut": "no-cut", "as_json": "json"}
KEYS = {name: _RENAMED.get(name, name.replace("_", "-")) for name in SETTINGS if name not in _NOT_IN_FILES}


def check(name: str, value: Any) -> Any:
    """Return the checked value of a setting.

    Raises
    ------
    UsageError
        If the value is not allowed; the message names the setting and what it takes.
    """
    return SETTINGS[name].check(value, name)


def load(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Return the settings in a configuration file by their names in Python, checked.

    Keys are the options of the command line without the leading dashes, with ``-`` or ``_`` inside. One file
    may serve several commands and parameter objects; each takes the settings that it has.

    Parameters
    ----------
    path : path-like
        A TOML file. Paths in it are relative to the working directory.

    Raises
    ------
    InputError
        If the file cannot be read, or a key or value is wrong; the message names both.

    Examples
    --------
    >>> load("pipeline.toml")  # doctest: +SKIP
    {'time_limit': 30.0, 'dims': {'batch': 8}}
    """
    from onnx_pipeline.files.toml import read_toml

    names = {key: name for name, key in KEYS.items()}
    found: dict[str, Any] = {}
    for key, value in read_toml(path, "a TOML file of options").items():
        name = names.get(key.replace("_", "-"))
        if name is None:
            raise InputError(path, f"unknown key {_short(key)}", did_you_mean(key.replace("_", "-"), names))
        if name in found:
            raise InputError(path, f"key {key!r} is given twice, with '-' and with '_'")
        try:
            found[name] = SETTINGS[name].check(value, key)
        except UsageError as error:
            raise InputError(path, error.message, error.hint) from None
    return found
