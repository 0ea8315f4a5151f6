"""Sizes, rates and times for display; :mod:`onnx_pipeline.graph.units` parses what users write."""

from __future__ import annotations

import math


def format_bytes(nbytes: float) -> str:
    """Return a size with a binary unit and three digits: ``97.5 MiB``."""
    return _scaled(nbytes, 1024, ("B", "KiB", "MiB", "GiB", "TiB"))


def format_bandwidth(rate: float) -> str:
    """Return a rate with a decimal unit, as data sheets do: ``16 GB/s``."""
    text = _scaled(rate, 1000, ("B/s", "kB/s", "MB/s", "GB/s", "TB/s"))
    number, _, unit = text.partition(" ")
    return f"{number.rstrip('0').rstrip('.')} {unit}" if "." in number else text


def format_seconds(seconds: float) -> str:
    """Return a time with a unit that leaves three significant digits: ``12.3 ms``."""
    for limit, factor, unit in ((0.9995e-6, 1e9, "ns"), (0.9995e-3, 1e6, "us"), (0.9995, 1e3, "ms")):
        if abs(seconds) < limit:
            return f"{_digits(seconds * factor)} {unit}"
    return f"{_digits(seconds)} s"


def format_percent(fraction: float) -> str:
    """Return a share in percent, exact zero without digits: ``0 %``, ``3.41 %``."""
    return "0 %" if fraction == 0 else f"{100 * fraction:.2f} %"


def format_count(number: int, noun: str) -> str:
    """Return a number of things, one or several: ``1 profile``, ``2 profiles``."""
    return f"{number} {noun}{'' if number == 1 else 's'}"


def _scaled(value: float, step: int, units: tuple[str, ...]) -> str:
    if math.isinf(value):
        return "unlimited"
    index = 0
    while value >= step - 0.5 and index < len(units) - 1:
        value /= step
        index += 1
    return f"{_digits(value) if index else f'{value:.0f}'} {units[index]}"


def _digits(value: float) -> str:
    if value == 0:
        return "0"
    return f"{value:.{2 if abs(value) < 9.995 else 1 if abs(value) < 99.95 else 0}f}"
