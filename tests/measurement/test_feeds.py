"""The request that a benchmark runs: as a profile of the unsplit model makes it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

import onnx_pipeline as op
from models import structures
from onnx_pipeline.errors import PipelineError, UsageError
from onnx_pipeline.manifest import Manifest
from onnx_pipeline.measurement.feeds import request_feeds
from onnx_pipeline.model.inputs import make_feeds
from onnx_pipeline.model.source import load
from onnx_pipeline.progress import silent
from tests.splitting import split

SUMS = """m (float[past] p, float[new] n, float["past + new"] s, int64 trips, int64[2] rows, int64 unread)
    => (float[T] y, float[2,1] z) <float[1,1] table = {3}> {
        t = Constant <value = bool {1}> ()
        c = Concat <axis = 0> (p, n)
        a = Add(c, s)
        b = Loop (trips, t, a) <body = g (int64 i, bool go, float[T] v) => (bool on, float[T] out) {
            on = Identity(go)
            out = Add(v, v)
        }>
        y = Neg(b)
        r = Gather (table, rows)
        z = Reshape <allowzero = 0> (r, shape)
    }"""


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Manifest]:
    """A model with sums of dimensions, a count, and numbers that select rows; split in two."""
    folder = tmp_path_factory.mktemp("feeds")
    text = SUMS.replace("{3}>", "{3}, int64[2] shape = {2,1}>")
    onnx.save(structures.from_text(text), folder / "model.onnx")
    return folder, split(folder / "model.onnx", folder / "out", 2)


def made(whole: tuple[Path, Manifest], dims: Any = None, inputs: Any = None) -> Any:
    """Ask for a request."""
    folder, document = whole
    return request_feeds(folder / "out", document, dims, inputs, silent)


def test_as_a_profile_makes_it(whole: tuple[Path, Manifest]) -> None:
    """Sums of dimensions, lone integers, rows of tables; an input that nobody reads is there, too."""
    feeds = made(whole, {"past": 16})
    assert {name: feeds[name].shape for name in "pns"} == {"p": (16,), "n": (1,), "s": (17,)}
    assert feeds["trips"] == 1
    assert feeds["rows"].tolist() == [0, 0]
    assert feeds["unread"].shape == ()
    profiled = make_feeds(load(whole[0] / "model.onnx"), {"past": 16, "new": 1}, 0)
    for name in "pns":
        np.testing.assert_array_equal(feeds[name], profiled[name])


def test_dimensions_of_the_profile(whole: tuple[Path, Manifest]) -> None:
    """They hold unless others are given; what no input has is ignored."""
    folder, document = whole
    document = replace(document, cost_model={"dims": {"past": 3, "gone": 4}})
    assert made((folder, document))["s"].shape == (4,)
    assert made((folder, document), {"past": 5})["s"].shape == (6,)


def test_misspelt_dimension(whole: tuple[Path, Manifest]) -> None:
    """As for every other command."""
    with pytest.raises(UsageError, match="no dimension 'pats': only past, new"):
        made(whole, {"pats": 3})
    feeds = made(whole)
    with pytest.raises(UsageError, match="no dimension 'pats'"):
        made(whole, {"pats": 3}, feeds)
    with pytest.raises(UsageError, match="'past' is set to 3 and is 1 in the inputs"):
        made(whole, {"past": 3}, feeds)
    assert made(whole, {"past": 1}, feeds) is feeds


@pytest.mark.parametrize("size", [-2, 10**12, 10**30, "many", None, [1]])
def test_impossible_dimensions(whole: tuple[Path, Manifest], size: Any) -> None:
    """One line where a manifest states them."""
    folder, document = whole
    with pytest.raises(PipelineError):
        made((folder, replace(document, cost_model={"dims": {"past": size}})))


def test_bench_uses_it(whole: tuple[Path, Manifest]) -> None:
    """From end to end, where the sizes of the inputs must agree."""
    found = op.bench(whole[0] / "out", rounds=1, requests=2, dims={"past": 16}, baselines=False)
    assert found["period_seconds"] > 0
    with pytest.raises(UsageError, match="no dimension 'pats'"):
        op.bench(whole[0] / "out", rounds=1, requests=2, dims={"pats": 16})
