"""Figures as people read them: three digits and a unit; JSON documents keep the exact numbers.

:mod:`onnx_pipeline.graph.units` parses what users write.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from itertools import groupby

_BELOW_SECONDS = ((0.9995e-6, 1e9, "ns"), (0.9995e-3, 1e6, "us"), (0.9995, 1e3, "ms"), (999.5, 1.0, "s"))
_BEYOND_SECONDS = ((5997.0, 60.0, "min"), (359820.0, 3600.0, "h"))
_DAY = 86400.0


def format_bytes(nbytes: float) -> str:
    """Return a size with a binary unit and three digits: ``97.5 MiB``."""
    return _scaled(nbytes, 1024, ("B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"))


def rounded_bytes(nbytes: float, *, up: bool) -> float:
    """Return the next size above or below with the three digits that :func:`format_bytes` writes."""
    unit = 1.0
    while nbytes >= 1024 * unit:
        unit *= 1024
    digits = 0 if unit == 1 else 2 if nbytes < 9.99 * unit else 1 if nbytes < 99.9 * unit else 0
    step = unit / (1, 10, 100)[digits]
    return (math.ceil(nbytes / step) if up else math.floor(nbytes / step)) * step


def format_bandwidth(rate: float) -> str:
    """Return a rate with a decimal unit, as data sheets do: ``16 GB/s``."""
    text = _scaled(rate, 1000, ("B/s", "kB/s", "MB/s", "GB/s", "TB/s", "PB/s", "EB/s"))
    number, _, unit = text.partition(" ")
    return f"{number.rstrip('0').rstrip('.')} {unit}" if "." in number else text


def format_seconds(seconds: float) -> str:
    """Return a time with a unit that leaves three significant digits: ``12.3 ms``, ``20.6 min``."""
    if seconds == 0:
        return "0 s"
    for limit, factor, unit in _BELOW_SECONDS:
        if abs(seconds) < limit:
            return f"{_digits(seconds * factor)} {unit}"
    for limit, divisor, unit in _BEYOND_SECONDS:
        if abs(seconds) < limit:
            return f"{_digits(seconds / divisor)} {unit}"
    days = seconds / _DAY
    return f"{_rounded(days) if days < 999.5 else f'{days:,.0f}'} days"


def format_rate(period: float, noun: str = "inference") -> str:
    """Return how many things a period in seconds above 0 makes: ``1.4 inferences/s``, ``2 inferences/h``.

    Without a noun, as in columns: ``1.4/s``.
    """
    units = ((1.0, "s", 0.1), (60.0, "min", 1.0), (3600.0, "h", 1.0), (_DAY, "day", 0.0))
    seconds, unit = next((seconds, unit) for seconds, unit, least in units if seconds >= least * period)
    rate = seconds / period
    number = f"{rate:,.0f}" if rate >= 999.5 else f"{rate:.3g}"
    things = f" {noun if number == '1' else f'{noun}s'}" if noun else ""
    return f"{number}{things}/{unit}"


def format_percent(fraction: float) -> str:
    """Return a share in percent with three digits, exact zero without: ``0 %``, ``3.41 %``, ``27.9 %``."""
    percent = 100 * fraction
    if percent == 0:
        return "0 %"
    return "below 0.01 %" if abs(percent) < 0.005 else f"{_rounded(percent)} %"


def format_count(number: int, noun: str) -> str:
    """Return a number of things, one or several: ``1 profile``, ``2 profiles``, ``1,769 nodes``."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def _scaled(value: float, step: int, units: tuple[str, ...]) -> str:
    if math.isinf(value):
        return "unlimited"
    index = 0
    while value >= step - 0.5 and index < len(units) - 1:
        value /= step
        index += 1
    return f"{_digits(value) if index else f'{value:.0f}'} {units[index]}"


def _digits(value: float) -> str:
    """Return three digits; values below 1 are of the smallest unit."""
    return f"{value:.3g}" if abs(value) < 0.995 else _rounded(value)


def _rounded(value: float) -> str:
    return f"{value:.{2 if abs(value) < 9.995 else 1 if abs(value) < 99.95 else 0}f}"


def fleet_text(names: Sequence[str], devices: Sequence[int], *, free: bool) -> str:
    """Return the devices of a fleet in words, runs of equal ones counted: ``1 slow, 1 fast, 1 slow``."""
    line = [names[kind] for kind in devices]
    runs = list(Counter(line).items()) if free else [(k, len(list(each))) for k, each in groupby(line)]
    *first, last = [f"{count} {name}" for name, count in runs]
    text = f"{', '.join(first)} and {last}" if first else last
    return f"{text}, in any order" if free and first else text
