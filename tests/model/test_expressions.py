"""Expressions of dimensions: what they are worth, and what is none."""

from __future__ import annotations

import time

import pytest

from onnx_pipeline.model.expressions import evaluate_expression

DIMS = {"n": 7, "past": 3, "seq": 4, "ids.45_dim_1": 5}
VALUES = {
    "past + seq": 7,
    "n//2": 3,
    "floor(n/2)": 3,
    "floor(3/2*n)": 10,
    "((n - 1)//2) + 1": 4,
    "max(n, 3) - Min(past, seq)": 4,
    "-n % 4": 1,
    "Mod(n, 4)": 3,
    "2**n": 128,
    "sqrt(n + 2)": 3,
    "floor(sqrt(n))": 2,
    "2 * ids.45_dim_1": 10,
}
NONE = ["n/2", "sqrt(n)", "(n", "2n", "batch-size", "1e3*n", "2.5*n", "n mod 2", "f(n)", "n/0", "max()"]
HUGE = ["9**9**9**9", "(n+9)**(n+9999999)", "9**64*9**64", "(" * 400 + "n" + ")" * 400, "9+" * 9999 + "n"]


@pytest.mark.parametrize("text", VALUES)
def test_values(text: str) -> None:
    """Fractions in between are exact."""
    assert evaluate_expression(text, DIMS) == VALUES[text]


@pytest.mark.parametrize("text", NONE + HUGE)
def test_what_is_no_dimension(text: str) -> None:
    """Whatever it is, it is known at once."""
    begin = time.monotonic()
    assert evaluate_expression(text, DIMS) is None
    assert time.monotonic() - begin < 0.5
