"""Quantities as people write them."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from onnx_pipeline.errors import UsageError
from onnx_pipeline.graph.units import parse_bandwidth, parse_bytes, parse_seconds


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("16GB/s", 16e9),
        ("800MB/s", 8e8),
        ("800 mb/s", 8e8),
        ("1.5GiB/s", 1.5 * 2**30),
        ("10Gbit/s", 1.25e9),
        ("16GB", 16e9),
        ("1e9", 1e9),
        (16e9, 16e9),
        ("inf", math.inf),
        (math.inf, math.inf),
    ],
)
def test_bandwidths(text: str | float, value: float) -> None:
    """Every documented way to write a bandwidth."""
    assert parse_bandwidth(text) == value


@pytest.mark.parametrize(
    ("text", "value"), [("8GiB", 8 * 2**30), ("512kB", 512e3), ("4096", 4096), (7, 7), ("inf", math.inf)]
)
def test_sizes(text: str | float, value: float) -> None:
    """Every documented way to write a size."""
    assert parse_bytes(text) == value


@pytest.mark.parametrize(
    ("text", "value"), [("35us", 35e-6), ("1.5 ms", 1.5e-3), ("2µs", 2e-6), ("0", 0), (3, 3)]
)
def test_durations(text: str | float, value: float) -> None:
    """Every documented way to write a duration, to the last bit."""
    assert parse_seconds(text) == value


@pytest.mark.parametrize(
    "text", ["-3", "0", "nan", "", "fast", "16XB/s", "8s", "1e", "--1", "16Gb/s", True, None]
)
def test_bandwidth_rejects(text: str) -> None:
    """What is no positive bandwidth is a usage error that quotes it."""
    with pytest.raises(UsageError, match="bandwidth"):
        parse_bandwidth(text)


@pytest.mark.parametrize("text", ["8GiB/s", "-8GiB", "8Gbit", "8Gb"])
def test_size_rejects(text: str) -> None:
    """A rate is no size, and bits are no bytes."""
    with pytest.raises(UsageError, match="size"):
        parse_bytes(text)


@pytest.mark.parametrize("text", ["-1us", "inf", "3GB"])
def test_duration_rejects(text: str) -> None:
    """Durations are finite and not negative."""
    with pytest.raises(UsageError, match="latency"):
        parse_seconds(text, "latency")


def test_error_names_the_value() -> None:
    """The message of a rejected value says which and why."""
    with pytest.raises(UsageError, match="bandwidth must be positive, got '-3'"):
        parse_bandwidth("-3")


@given(st.floats(min_value=1e-3, max_value=1e15), st.sampled_from(["", "B", "kB", "MB", "GiB", "TB"]))
def test_units_scale_numbers(number: float, unit: str) -> None:
    """A number with a unit is the number times the unit."""
    assert parse_bytes(f"{number!r}{unit}") == number * parse_bytes(f"1{unit}")


@given(st.text(max_size=12))
def test_no_text_escapes(text: str) -> None:
    """Any text is either a positive quantity or a usage error, never something else."""
    try:
        value = parse_bandwidth(text)
    except UsageError:
        return
    assert value > 0
