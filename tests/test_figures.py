"""Figures as people read them: three digits, a unit that fits, singular and plural."""

from __future__ import annotations

import math

import pytest

from onnx_pipeline.figures import (
    format_bandwidth,
    format_bytes,
    format_count,
    format_percent,
    format_rate,
    format_seconds,
)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0 s"),
        (1e-14, "1e-05 ns"),
        (5e-10, "0.5 ns"),
        (5e-9, "5.00 ns"),
        (1.234e-6, "1.23 us"),
        (9.996e-6, "10.0 us"),
        (0.99951e-3, "1.00 ms"),
        (0.0999999, "100 ms"),
        (0.9999, "1.00 s"),
        (62, "62.0 s"),
        (999.4, "999 s"),
        (1234, "20.6 min"),
        (5999, "1.67 h"),
        (102931, "28.6 h"),
        (3e6, "34.7 days"),
        (1152921505, "13,344 days"),
    ],
)
def test_seconds(seconds: float, text: str) -> None:
    """Three digits, never 1000 of a unit, and never thousands of seconds."""
    assert format_seconds(seconds) == text


@pytest.mark.parametrize(
    ("period", "text"),
    [
        (1e-6, "1,000,000 inferences/s"),
        (1.1275e-3, "887 inferences/s"),
        (0.0625, "16 inferences/s"),
        (1 / 1.4, "1.4 inferences/s"),
        (1.0, "1 inference/s"),
        (9.0, "0.111 inferences/s"),
        (1 / 0.023, "1.38 inferences/min"),
        (1800, "2 inferences/h"),
        (102931, "0.839 inferences/day"),
    ],
)
def test_rates_below_ten_have_decimals(period: float, text: str) -> None:
    """Nothing that makes progress does "0 inferences/s"."""
    assert format_rate(period) == text


def test_sizes_are_binary_and_bandwidths_decimal() -> None:
    """As data sheets have them; words for no limit."""
    assert [format_bytes(n) for n in (0, 5, 1023, 1024, 97.5 * 2**20, 8 << 30, math.inf)] == [
        *("0 B", "5 B", "1023 B", "1.00 KiB", "97.5 MiB", "8.00 GiB", "unlimited")
    ]
    assert format_bytes(10**18) == "888 PiB"
    assert [format_bandwidth(n) for n in (16e9, 800e6, 31.5e9, 500, math.inf)] == [
        *("16 GB/s", "800 MB/s", "31.5 GB/s", "500 B/s", "unlimited")
    ]


def test_percentages_have_three_digits() -> None:
    """A gap that is not closed never reads as 0 %."""
    assert [format_percent(x) for x in (0, 1e-9, 0.0004, 0.0341, 0.27891, 1)] == [
        *("0 %", "below 0.01 %", "0.04 %", "3.41 %", "27.9 %", "100 %")
    ]


def test_counts_agree_with_their_nouns() -> None:
    """One of a thing is singular, thousands are divided."""
    assert [format_count(n, "stage") for n in (0, 1, 2, 100_000)] == [
        *("0 stages", "1 stage", "2 stages", "100,000 stages")
    ]
