"""Quantities with units: ``16GB/s``, ``8GiB``, ``35us``, ``inf``."""

from __future__ import annotations

import math
import re
from numbers import Real

from onnx_pipeline.errors import UsageError

_QUANTITY = re.compile(
    r"\s*([+-]?(?:\d+\.?\d*|\.\d+)(?:e[+-]?\d+)?|[+-]?inf(?:inity)?)\s*([a-z/µμ]*)\s*", re.IGNORECASE
)
_PREFIXES = {"": 1.0} | {
    prefix + infix: float(base) ** power
    for power, prefix in enumerate("kmgtp", start=1)
    for infix, base in (("", 1000), ("i", 1024))
}
_BYTES = {prefix + unit: factor for prefix, factor in _PREFIXES.items() for unit in ("b", "byte", "bytes")}
_BITS = {prefix + unit: factor / 8 for prefix, factor in _PREFIXES.items() for unit in ("bit", "bits")}
# Divisors, so that 35us is the double nearest to 35e-6.
_SECONDS = {"s": 1.0, "ms": 1e3, "us": 1e6, "µs": 1e6, "μs": 1e6, "ns": 1e9}


def parse_bytes(text: str | float, what: str = "size") -> float:
    """Return a positive number of bytes.

    Parameters
    ----------
    text : str or number
        ``"8GiB"``, ``"800 MB"``, ``"4096"``, ``"inf"``; a plain number is in bytes.
    what : str
        Name of the quantity in errors.

    Raises
    ------
    UsageError
        If it is not a size, or not positive.

    Examples
    --------
    >>> parse_bytes("8GiB")
    8589934592.0
    """
    return _positive(_parse(text, {"": 1.0} | _BYTES, what, "8GiB, 800MB, 4096, inf"), text, what)


def parse_bandwidth(text: str | float, what: str = "bandwidth") -> float:
    """Return a positive number of bytes per second.

    Parameters
    ----------
    text : str or number
        ``"16GB/s"``, ``"800MB/s"``, ``"10Gbit/s"``, ``"inf"``; a plain number is in bytes per second.
    what : str
        Name of the quantity in errors.

    Raises
    ------
    UsageError
        If it is not a bandwidth, or not positive.

    Examples
    --------
    >>> parse_bandwidth("16GB/s")
    16000000000.0
    """
    units = {"": 1.0} | {unit + per: f for unit, f in (_BYTES | _BITS).items() for per in ("/s", "")}
    return _positive(_parse(text, units, what, "16GB/s, 800MB/s, 10Gbit/s, inf"), text, what)


def parse_seconds(text: str | float, what: str = "duration") -> float:
    """Return a finite, non-negative number of seconds.

    Parameters
    ----------
    text : str or number
        ``"35us"``, ``"1.5 ms"``; a plain number is in seconds.
    what : str
        Name of the quantity in errors.

    Raises
    ------
    UsageError
        If it is not a duration, or negative or infinite.
    """
    value = _parse(text, {"": 1.0} | _SECONDS, what, "35us, 1.5ms, 0", divide=True)
    if not 0 <= value < math.inf:
        raise UsageError(f"{what} must be finite and not negative, got {text!r}")
    return value


def _parse(
    text: str | float, units: dict[str, float], what: str, examples: str, *, divide: bool = False
) -> float:
    if isinstance(text, bool) or not isinstance(text, str | Real):
        raise UsageError(f"{what} {text!r} is not a quantity: write it like {examples}")
    if not isinstance(text, str):
        try:
            return float(text)
        except OverflowError:  # a whole number of hundreds of digits
            return math.inf if text > 0 else -math.inf
    match = _QUANTITY.fullmatch(text)
    if match is None:
        raise UsageError(f"{what} {text!r} is not a quantity: write it like {examples}")
    number, unit = match.groups()
    if re.fullmatch(r"[KMGTP]i?b(/s)?", unit):
        raise UsageError(f"{what} {text!r} is ambiguous: write B for bytes or bit for bits")
    if unit.lower() not in units:
        raise UsageError(f"{what} {text!r} has the unknown unit {unit!r}: write it like {examples}")
    factor = units[unit.lower()]
    return float(number) / factor if divide else float(number) * factor


def _positive(value: float, text: str | float, what: str) -> float:
    if not value > 0:
        raise UsageError(f"{what} must be positive, got {text!r}")
    return value
