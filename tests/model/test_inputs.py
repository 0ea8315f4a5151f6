"""Inputs: symbolic dimensions, random values a model accepts, values from files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from onnx_pipeline.errors import InputError
from onnx_pipeline.model import inputs
from onnx_pipeline.model import source as models
from tests.splitting import save

TOKENS = """m (int64[batch, seq] ids, int64[batch, seq] attention_mask, float[batch, 2, past, 4] cache,
    int64[batch, total] positions) => (float[batch, seq, 3] y) <float[5, 3] table = {
    1,2,3,4,5,6,7,8,9,10,11,12,13,14,15}> {
    shape = Constant <value = int64[2] {0, -1}> ()
    flat = Reshape(ids, shape)
    y = Gather(table, flat)
}"""


def test_random_inputs_are_valid_and_seeded(tmp_path: Path) -> None:
    """Ids stay inside their table, masks are ones, the same seed gives the same values."""
    source = models.load(save(tmp_path, TOKENS))
    dims = {"batch": 2, "seq": 100}
    first, again, other = (inputs.make_feeds(source, dims, seed) for seed in (0, 0, 1))
    assert set(np.unique(first["ids"])) == {0, 1, 2, 3, 4}
    assert np.all(first["attention_mask"] == 1)
    assert first["cache"].dtype == np.float32
    for name in first:
        np.testing.assert_array_equal(first[name], again[name])
    assert not np.array_equal(first["ids"], other["ids"])


def test_every_tensor_type_gets_values(tmp_path: Path) -> None:
    """Strings, halves, bytes, flags, scalars and sequences; maps are refused by name."""
    text = """m (string[2] s, float16[2] h, bfloat16[2] b, uint8[2] u, bool[2] f, int64 n, double[2] d)
        => (float16[2] y) { y = Neg(h) }"""
    values = inputs.make_feeds(models.load(save(tmp_path, text)))
    assert {name: value.dtype.name for name, value in values.items()} == {
        "s": "object",
        "h": "float16",
        "b": "bfloat16",
        "u": "uint8",
        "f": "bool",
        "n": "int64",
        "d": "float64",
    }
    assert values["n"] == 1
    text = "m (seq(float[2]) many) => (float[N] y) { y = ConcatFromSequence <axis = 0> (many) }"
    (many,) = inputs.make_feeds(models.load(save(tmp_path, text))).values()
    assert [element.shape for element in many] == [(2,)]
    text = """m (map(int64, float) pairs) => (float[N] y) {
        y = ai.onnx.ml.CastMap <cast_to = "TO_FLOAT"> (pairs)
    }"""
    with pytest.raises(InputError, match="'pairs'"):
        inputs.make_feeds(models.load(save(tmp_path, text)))


def test_files_are_checked_against_the_model(tmp_path: Path) -> None:
    """Wrong files, names, types, ranks and contradicting dimensions are named."""
    source = models.load(save(tmp_path, "m (float[N, 2] a, float[N] b) => (float[N, 2] y) { y = Neg(a) }"))
    path = tmp_path / "x.npz"
    good = {"a": np.ones((3, 2), np.float32), "b": np.ones(3, np.float32)}
    np.savez(path, **good)
    assert set(inputs.load_feeds(path, source)) == {"a", "b"}
    for change, message in (
        ({"b": None}, "input 'b' is missing"),
        ({"c": np.ones(1)}, "no input 'c'"),
        ({"b": np.ones(3)}, "'b' must be float32, got float64"),
        ({"b": np.ones((3, 1), np.float32)}, "'b' must have shape"),
        ({"a": np.ones((3, 4), np.float32)}, "'a' must have shape"),
        ({"b": np.ones(4, np.float32)}, "dimension 'N' is 3 in input 'a', 4 in 'b'"),
    ):
        np.savez(path, **{k: v for k, v in {**good, **change}.items() if v is not None})
        with pytest.raises(InputError, match=message) as caught:
            inputs.load_feeds(path, source)
        assert str(caught.value).startswith(str(path))
    path.write_bytes(b"PK not really")
    for bad in (path, tmp_path / "none.npz", tmp_path):
        with pytest.raises(InputError, match="cannot read inputs"):
            inputs.load_feeds(bad, source)
    np.save(tmp_path / "one.npy", good["a"])
    with pytest.raises(InputError, match="cannot read inputs"):
        inputs.load_feeds(tmp_path / "one.npy", source)
