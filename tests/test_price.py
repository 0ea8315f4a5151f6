"""Pricing a model from its file, or one that is loaded already."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

import onnx_pipeline as op
from models import builders
from onnx_pipeline.cli.commands import cli
from onnx_pipeline.cli.spelling import speller
from onnx_pipeline.costmodel.profiling import sessions
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


def _without_ranks(folder: Path, text: str) -> Path:
    path = save(folder, text)
    model = onnx.load(path)
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.ClearField("shape")
    onnx.save(model, path)
    return path


def test_inputs_of_unknown_rank(tmp_path: Path) -> None:
    """Ranks with which the model runs serve for its costs; the stages take any other."""
    text = """m (float x, float w) => (float y, float twice) {
        a = Relu(x)
        b = Neg(a)
        c = Exp(b)
        y = MatMul(c, w)
        twice = Concat <axis = 1> (w, w)
    }"""
    path = _without_ranks(tmp_path, text)
    notes: list[str] = []
    out = tmp_path / "out"
    found = op.split(
        path,
        stages=2,
        output=out,
        cost_model="analytic",
        time_limit=0.2,
        progress=lambda kind, _, note: notes.append(f"{kind}: {note}"),
    )
    assert [note for note in notes if "has no rank; ran with rank 2" in note]
    assert len(found.stages) == 2
    assert all(p.shape is None for s in found.stages for p in (*s.inputs, *s.outputs))
    assert op.verify(out, model=path).ok
    with op.PipelineSession(out) as session:
        x, w = np.ones((5, 2, 3), np.float32), np.ones((5, 3, 4), np.float32)
        assert session.run(["y"], {"x": x, "w": w})[0].shape == (5, 2, 4)


def test_no_rank_will_do(tmp_path: Path) -> None:
    """Where none of the usual ranks lets the model run, the error is that of before."""
    path = _without_ranks(tmp_path, "m (float x) => (float y) { a = Flatten <axis = 7> (x) y = Relu(a) }")
    with pytest.raises(InputError, match="input 'x' has no shape; give it with inputs"):
        op.profile(path, cache=False)


#: All shapes are known; with negative numbers it never ends.
WAITING = """m (float[2] x) => (float[2] y, float[2] z) {
    zero = Constant <value = float {0}> ()
    t = Constant <value = bool {1}> ()
    two = Constant <value = int64[1] {2}> ()
    a = Relu(x)
    most = ReduceMax <keepdims = 0> (x)
    negative = Less(most, zero)
    b = If (negative) <
        then_branch = wait () => (float[2] waited) {
            [turning] s = Loop (, t, a) <body = g (int64 i, bool go, float[2] v) => (bool on, float[2] out) {
                out = Identity(v)
                on = Identity(go)
            }>
            waited = Reshape(s, two)
        }, else_branch = go () => (float[2] gone) { gone = Identity(a) }
    >
    y = Abs(b)
    z = Neg(a)
}"""


@pytest.mark.parametrize("measure", [None, 1])
def test_a_loop_that_never_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, measure: int | None) -> None:
    """A profile and the closed loop end all the same, and name the node."""
    monkeypatch.setattr(sessions, "MAX_TRIAL_SECONDS", 0.3)
    path = save(tmp_path, WAITING)
    x = np.full(2, -1, np.float32)
    with pytest.raises(InputError, match=r"a Loop takes more than 0.3 seconds \('turning'\); give inputs"):
        op.profile(path, inputs={"x": x}, cache=False)
    with pytest.raises(InputError, match="a Loop takes more than") if measure else nullcontext():
        op.split(
            path,
            stages=2,
            output=tmp_path / "out",
            cost_model="analytic",
            measure=measure,
            inputs={"x": x},
            time_limit=0.2,
        )
    ended = op.profile(path, inputs={"x": -x}, profile_runs=1, cache=False)
    assert ended.meta["cost_model"] == "profile"
