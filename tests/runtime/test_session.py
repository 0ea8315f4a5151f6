"""PipelineSession: the call of an onnxruntime session, over stages."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from onnx_pipeline import manifest
from onnx_pipeline.errors import InputError, PipelineError
from onnx_pipeline.runtime import PipelineSession
from onnx_pipeline.runtime.wiring import Wiring
from tests.splitting import save, split
from tests.streaming import BACKENDS

TEXT = """m (float[N, 4] x, int64[1] i) => (float[N, 4] y, float[N, 4] a, float[N, 1] z) {
    a = Relu(x)
    b = Neg(a)
    z = Gather <axis = 1> (b, i)
    y = Add(b, x)
}"""


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """Four stages of one node."""
    split(save(tmp_path, TEXT), tmp_path / "out", 4)
    return tmp_path / "out"


def test_run_returns_outputs_in_the_asked_order(directory: Path) -> None:
    """All outputs by default, else those named."""
    x = np.array([[1, -2, 3, -4]], np.float32)
    with PipelineSession(directory) as session:
        y, a, z = session.run(None, {"x": x, "i": np.array([2])})
        np.testing.assert_array_equal(a, [[1, 0, 3, 0]])
        np.testing.assert_array_equal(y, [[0, -2, 0, -4]])
        np.testing.assert_array_equal(z, [[-3]])
        only_z, only_y = session.run(["z", "y"], {"x": x, "i": np.array([0])})
        np.testing.assert_array_equal(only_z, [[-1]])
        np.testing.assert_array_equal(only_y, y)


def test_inputs_and_outputs_are_described(directory: Path) -> None:
    """As onnxruntime does: name, type, shape."""
    session = PipelineSession(directory)
    assert [(a.name, a.type, a.shape) for a in session.get_inputs()] == [
        ("x", "tensor(float)", ("N", 4)),
        ("i", "tensor(int64)", (1,)),
    ]
    assert [a.name for a in session.get_outputs()] == ["y", "a", "z"]


def test_bad_feeds_are_named(directory: Path) -> None:
    """Missing, unknown, wrong type, wrong shape: the message names the input and what it must be."""
    good = {"x": np.ones((2, 4), np.float32), "i": np.array([2])}
    session = PipelineSession(directory)
    for change, message in (
        ({"x": None}, r"input 'x' \(float32\[N, 4\]\) is missing"),
        ({"w": np.ones(1)}, "no input 'w'; it takes x, i"),
        ({"x": np.ones((2, 4))}, r"'x' must be float32\[N, 4\], got float64\[2, 4\]"),
        ({"x": np.ones((2, 5), np.float32)}, r"'x' must be float32\[N, 4\], got float32\[2, 5\]"),
        ({"x": np.ones(4, np.float32)}, r"got float32\[4\]"),
    ):
        with pytest.raises(InputError, match=message):
            session.run(None, {k: v for k, v in {**good, **change}.items() if v is not None})
    with pytest.raises(InputError, match="no output 'q'; there are y, a, z"):
        session.run(["q"], good)


def test_a_failing_stage_is_named(directory: Path) -> None:
    """An index outside its axis fails in the stage that gathers."""
    with (
        PipelineSession(directory) as session,
        pytest.raises(PipelineError, match=r"stage_2\.onnx: stage 2 failed"),
    ):
        session.run(None, {"x": np.ones((1, 4), np.float32), "i": np.array([9])})


def test_a_closed_session_does_not_run(directory: Path) -> None:
    """After the with block."""
    with PipelineSession(directory) as session:
        pass
    with pytest.raises(PipelineError, match="closed"):
        session.run(None, {})


def test_a_damaged_stage_is_an_input_error(directory: Path) -> None:
    """The file is named."""
    (directory / "stage_1.onnx").write_bytes(b"broken")
    with pytest.raises(InputError, match=r"stage_1\.onnx: onnxruntime cannot load"):
        PipelineSession(directory)


@pytest.mark.parametrize("backend", ["threads", "processes"])
def test_a_stage_that_wants_more_than_it_gets_is_not_opened(directory: Path, backend: str) -> None:
    """The manifest may be of another split; a request would fail only once it is under way."""
    file = directory / "manifest.json"
    document = json.loads(file.read_text())
    lost = document["stages"][0]["inputs"].pop()["name"]
    file.write_text(json.dumps(document))
    with pytest.raises(InputError, match=rf"stage_0\.onnx: takes an input '{lost}'"):
        PipelineSession(directory, backend=backend)


def test_tensors_are_released_after_their_last_reader(directory: Path) -> None:
    """What a later stage still reads stays, nothing else does."""
    wiring = Wiring.of(manifest.read(directory))
    assert [set(names) for names in wiring.released] == [set(), set(), {"i"}, {"b", "x"}]


def test_bfloat16_results_are_arrays(tmp_path: Path) -> None:
    """A type that numpy lacks crosses borders and comes out as an ml_dtypes array."""
    text = """m (bfloat16[N] x) => (bfloat16[N] y) { a = Identity(x)  b = Identity(a)  y = Identity(b) }"""
    split(save(tmp_path, text), tmp_path / "out", 3)
    import ml_dtypes

    x = np.array([1, 2.5, -3], dtype=ml_dtypes.bfloat16)
    with PipelineSession(tmp_path / "out") as session:
        (y,) = session.run(None, {"x": x})
    assert y.dtype == x.dtype
    np.testing.assert_array_equal(y.astype(np.float32), [1, 2.5, -3])


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_model_without_inputs(backend: str, tmp_path: Path) -> None:
    """What draws random numbers runs at every request and is split; the first stage takes no tensor."""
    text = "m () => (float[4] y) { a = RandomNormal <shape = [4]> ()  b = Abs(a)  c = Neg(b)  y = Abs(c) }"
    split(save(tmp_path, text), tmp_path / "out", 2)
    with PipelineSession(tmp_path / "out", backend=backend) as session:
        first, second = session.map([{}, {}])
    assert (first[0] != second[0]).all()
