"""Sessions of a whole model, and what is said when it cannot run."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from onnx_pipeline.errors import InputError
from onnx_pipeline.model import shapes
from onnx_pipeline.model.running import PLAIN, explain_failure, open_model
from onnx_pipeline.model.source import load
from onnx_pipeline.ort.call import run_session
from tests.splitting import save


def test_inputs_that_disagree_are_explained(tmp_path: Path) -> None:
    """When no run is possible the message says which dimension to set to what."""
    text = """m (float[N, past] a, float[N, new] b, float[total, 3] w) => (float[N, 3] y)
        <int64[1] minus = {-1}> {
        c = Concat <axis = 1> (a, b)
        n = NonZero(c)
        f = Reshape(n, minus)
        y = MatMul(c, w)
        z = Neg(f)
    }"""
    source = load(save(tmp_path, text))
    with pytest.raises(InputError, match=r'w is \[total,3\]\); it runs with dims=\{"total": 20}'):
        shapes.value_infos(source, {"past": 15, "new": 5})
    assert shapes.value_infos(source, {"past": 15, "new": 5, "total": 20})["y"].shape == (1, 3)


def test_the_zoo_decoder_is_explained(zoo_dir: Path) -> None:
    """A real decoder with past keys and values: past + new must be the mask's length."""
    source = load(zoo_dir / "llama_small_past_dyn.onnx")
    with pytest.raises(InputError, match=r'it runs with dims=\{"s12": 17}'):
        shapes.value_infos(source, {"s16": 16})


def test_without_dimensions_the_reason_is_given(tmp_path: Path) -> None:
    """onnxruntime's own words on one line, without its status prefix, and what to try."""
    source = load(save(tmp_path, "m (float[4] x, int64[1] s) => (float[N] y) { y = Reshape(x, s) }"))
    session = open_model(source, PLAIN)
    with pytest.raises(Exception, match="Reshape") as caught:
        run_session(session, ["y"], {"x": np.ones(4, np.float32), "s": np.array([3])})
    line = str(explain_failure(source, None, caught.value))
    assert line.startswith(f"{source.path}: onnxruntime cannot run the model: ")
    assert "\n" not in line
    assert "ONNXRuntimeError" not in line
    assert line.endswith("try inputs=...")
