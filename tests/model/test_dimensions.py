"""Symbolic dimensions: names, defaults, expressions."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest

from onnx_pipeline.errors import InputError, UsageError
from onnx_pipeline.model.dimensions import bound_dims, dims_of, evaluate
from onnx_pipeline.model.inputs import make_feeds
from onnx_pipeline.model.source import load
from tests.splitting import save

TOKENS = """m (int64[batch, seq] ids, int64[batch, seq] attention_mask, float[batch, 2, past, 4] cache,
    int64[batch, total] positions) => (float[batch, seq, 3] y) <float[5, 3] table = {
    1,2,3,4,5,6,7,8,9,10,11,12,13,14,15}> {
    shape = Constant <value = int64[2] {0, -1}> ()
    flat = Reshape(ids, shape)
    y = Gather(table, flat)
}"""


def test_symbolic_dimensions_default_to_one(tmp_path: Path) -> None:
    """Every named dimension of the inputs, in order, 1 unless given."""
    source = load(save(tmp_path, TOKENS))
    assert bound_dims(source, {"seq": 7}) == {"batch": 1, "seq": 7, "past": 1, "total": 1}


def test_unknown_and_negative_dimensions_are_usage_errors(tmp_path: Path) -> None:
    """The message lists what there is."""
    source = load(save(tmp_path, TOKENS))
    with pytest.raises(UsageError, match="no dimension 'sqe': only batch, seq, past, total"):
        bound_dims(source, {"sqe": 7})
    with pytest.raises(UsageError, match="must not be negative"):
        bound_dims(source, {"seq": -1})


def test_a_dimension_may_be_an_expression_of_others(tmp_path: Path) -> None:
    """``past + seq`` follows from its parts; ``batch-size`` is a name."""
    text = "m (float[past, seq] a, float[P, Q] b) => (float[R, S] y) { y = Neg(a) }"
    source = load(save(tmp_path, text))
    source.inputs[1].shape = ir.Shape(["past + seq", "batch-size"])
    dims = bound_dims(source, {"past": 3, "seq": 4})
    assert dims == {"past": 3, "seq": 4, "batch-size": 1}
    assert make_feeds(source, dims)["b"].shape == (7, 1)


def test_inputs_determine_dimensions(tmp_path: Path) -> None:
    """One size per name; two inputs that disagree are both named, and so is a fixed size that differs."""
    source = load(save(tmp_path, "m (float[N, 2] a, float[N] b) => (float[N, 2] y) { y = Neg(a) }"))
    feeds = {"a": np.ones((3, 2), np.float32), "b": np.ones(3, np.float32)}
    assert dims_of(source, feeds) == {"N": 3}
    with pytest.raises(InputError, match="dimension 'N' is 3 in input 'a', 4 in 'b'"):
        dims_of(source, {**feeds, "b": np.ones(4, np.float32)})
    with pytest.raises(InputError, match="'a' must have shape"):
        dims_of(source, {**feeds, "a": np.ones((3, 5), np.float32)})


def test_expressions() -> None:
    """Sums and products of known names; None for anything that is not determined."""
    assert evaluate("past + new", {"past": 2, "new": 3}) == 5
    assert evaluate("N", {"N": 7}) == 7
    assert evaluate("past + other", {"past": 2}) is None
    assert evaluate("M", {"N": 7}) is None


def test_absurd_expressions_are_names(tmp_path: Path) -> None:
    """A power tower is not computed; a negative size is refused."""
    source = load(save(tmp_path, "m (float[n, P] a) => (float[R, S] y) { y = Neg(a) }"))
    source.inputs[0].shape = ir.Shape(["n", "(n+9)**(n+9999999)"])
    assert bound_dims(source) == {"n": 1, "(n+9)**(n+9999999)": 1}
    source.inputs[0].shape = ir.Shape(["n", "n - 5"])
    with pytest.raises(InputError, match=r"would have the shape \[1, -4\]"):
        make_feeds(source, bound_dims(source))
