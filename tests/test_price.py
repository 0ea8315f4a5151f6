"""Pricing a model from its file, or one that is loaded already."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

import onnx_pipeline as op
from models import builders
from onnx_pipeline.cli.commands import cli
from onnx_pipeline.cli.spelling import speller
from onnx_pipeline.errors import InputError, UsageError, spelled
from onnx_pipeline.model import shapes
from onnx_pipeline.model import source as models
from onnx_pipeline.parameters import ProfileParams
from onnx_pipeline.price import bind, price, price_source
from onnx_pipeline.progress import Phases
from tests.splitting import save

as_option = speller(cli)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A chain of eight nodes with a symbolic batch."""
    path = tmp_path_factory.mktemp("model") / "mlp.onnx"
    onnx.save(builders.mlp(batch="batch"), path)
    return path


def test_a_loaded_model_is_priced_like_its_file(model: Path) -> None:
    """One function does both; the graph is lowered once, when asked for."""
    params = ProfileParams("analytic", dims={"batch": 4})
    phases = Phases()
    whole = price(model, params, phases=phases)
    assert list(phases) == ["load", "shapes", "profile"]
    loaded = price_source(models.load(model), params)
    assert loaded.costs.to_json() == whole.costs.to_json()
    assert whole.graph is whole.graph
    assert whole.graph.num_nodes == 8
    assert loaded.params is params


@pytest.mark.parametrize(
    ("params", "word"),
    [
        (ProfileParams("guess"), "cost model"),
        (ProfileParams(device="abacus"), "device"),
        (ProfileParams(provider="NoSuchProvider"), "provider"),
    ],
)
def test_wrong_parameters_are_found_before_the_model_is_read(params: ProfileParams, word: str) -> None:
    """The file is not even there."""
    with pytest.raises(UsageError, match=word):
        price("nowhere.onnx", params)


def test_dimensions_that_contradict_the_inputs(model: Path) -> None:
    """In the words of Python, and of the command line."""
    source = models.load(model)
    inputs = {"x": np.zeros((5, 16), np.float32)}
    assert bind(source, {"batch": 5}, inputs)[0] == {"batch": 5}
    with pytest.raises(UsageError) as raised:
        bind(source, {"batch": 4}, inputs)
    assert str(raised.value).endswith('leave out dims={"batch": 4}')
    assert raised.value.told(as_option).endswith("leave out --dim batch=4")


def test_the_note_on_open_dimensions(model: Path) -> None:
    """It names them, and how to set them."""
    said: list[Any] = []
    bind(models.load(model), None, None, lambda *told: said.append(told))
    ((phase, _, note),) = said
    assert phase == "note"
    assert note == "costs are for batch=1; give real sizes with dims=..."
    assert spelled(note, as_option).endswith("give real sizes with --dim NAME=INT")


DIVISION = "m (int64[4] a, int64[4] b) => (int64[4] y) { c = Abs(b)  d = Div(a, c)  e = Abs(d)  y = Neg(e) }"
SPLIT = """m (float[6] x, int64[2] s) => (float[A] y, float[B] z) {
    a = Neg(x)
    b, c = Split(a, s)
    y = Abs(b)
    z = Abs(c)
}"""
#: Shapes known by a run only: those of m and z, and of b and what follows, which a run never reaches.
ENDLESS = """m (float[2] x) => (float[N] y, float[M,1] z) {
    t = Constant <value = bool {1}> ()
    a = Relu(x)
    n = NonZero(a)
    m = Transpose(n)
    z = Cast <to = 1> (m)
    b = Loop (, t, a) <body = g (int64 i, bool go, float[K] s) => (bool on, float[L] out) {
        on = Identity(go)
        out = Add(s, a)
    }>
    y = Abs(b)
}"""


@pytest.mark.parametrize(
    ("text", "guilty"), [(DIVISION, "division by zero"), (SPLIT, "depends on the input 's'")]
)
@pytest.mark.parametrize("cost_model", ["profile", "analytic"])
def test_computed_costs_serve_where_the_model_does_not_run(
    text: str, guilty: str, cost_model: str, tmp_path: Path
) -> None:
    """A note says why, and which input the node depends on; with inputs given it is an error."""
    notes: list[str] = []
    found = op.split(
        save(tmp_path, text),
        stages=2,
        output=tmp_path / "out",
        cost_model=cost_model,
        cache=False,
        time_limit=0.2,
        threads=1,
        progress=lambda kind, _, note: notes.append(f"{kind} {note}"),
    )
    assert found.cost_model["kind"] == "analytic"
    said = any(guilty in note for note in notes if note.startswith("note"))
    assert said == (cost_model == "profile" or text == SPLIT)
    if text == SPLIT:
        feeds = {"x": np.ones(6, np.float32), "s": np.array([1, 1])}
        with pytest.raises(InputError, match="depends on the input 's'"):
            op.profile(tmp_path / "model.onnx", inputs=feeds, cache=False, cost_model=cost_model)


def test_only_shapes_behind_an_endless_loop_need_inputs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is before it, or beside, is found out without it."""
    monkeypatch.setattr(shapes, "MAX_LOOP_SECONDS", 0.3)
    source = models.load(save(tmp_path, ENDLESS))
    problems: list[InputError] = []
    infos = shapes.value_infos(source, tell=problems.append)
    assert "a Loop takes more than" in str(problems[0])
    assert infos["z"].shape is not None
    assert not infos["b"].can_cross
    found = op.split(
        tmp_path / "model.onnx", stages=2, output=tmp_path / "out", time_limit=0.2, threads=1, cache=False
    )
    assert found.cost_model["kind"] == "analytic"
