"""What a request must bring, and what it may bring."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper

from onnx_pipeline.errors import InputError
from onnx_pipeline.model import source as models
from onnx_pipeline.ort.session import open_session
from onnx_pipeline.runtime import PipelineSession
from onnx_pipeline.verification.checks import verify
from tests.splitting import save, split
from tests.streaming import BACKENDS

#: Both stages read w, the second through a node of its own; the shape of z follows the value of s.
TEXT = """m (float[4] x) => (float[N] y, float[M,K] z) <float[4] w = {1,2,3,4}, int64[2] s = {2,2}> {
    a = Add(x, w)
    b = Neg(a)
    c = Neg(w)
    y = Mul(b, c)
    d = Reshape(b, s)
    z = Abs(d)
}"""


def overridable(folder: Path, ir_version: int) -> Path:
    """Save a model whose initializers are inputs, too."""
    path = save(folder, TEXT, ir_version=ir_version)
    proto = onnx.load(path)
    proto.graph.input.append(helper.make_tensor_value_info("w", 1, [4]))
    proto.graph.input.append(helper.make_tensor_value_info("s", 7, [2]))
    for output in proto.graph.output:
        output.type.tensor_type.ClearField("shape")
    onnx.save(proto, path)
    return path


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("stages", [1, 2, 3])
def test_default_values_may_be_overridden(backend: str, stages: int, tmp_path: Path) -> None:
    """Fed in any combination, in turns, the stages give what the unsplit model gives."""
    path = overridable(tmp_path, 8)
    split(path, tmp_path / "out", stages)
    whole = open_session(path)
    x, w = np.arange(4, dtype=np.float32), np.full(4, 7, np.float32)
    s = np.array([4, 1], np.int64)
    with PipelineSession(tmp_path / "out", backend=backend) as session:
        assert [value.name for value in session.get_inputs()] == ["x"]
        assert [value.name for value in session.get_overridable_initializers()] == ["w", "s"]
        for more in ({}, {"w": w}, {"s": s}, {"w": w, "s": s}, {}):
            expected = whole.run(None, {"x": x, **more})
            for a, e in zip(session.run(None, {"x": x, **more}), expected, strict=True):
                np.testing.assert_array_equal(a, e)
        with pytest.raises(InputError, match=r"'w' must be float32\[4\]"):
            session.run(None, {"x": x, "w": w[:2]})


def test_overridden_defaults_are_verified(tmp_path: Path) -> None:
    """Verification feeds what it is given, to both sides; shapes follow."""
    path = overridable(tmp_path, 8)
    split(path, tmp_path / "out", 2)
    arrays = {"x": np.ones(4, np.float32), "s": np.array([1, 4], np.int64)}
    report = verify(tmp_path / "out", model=path, inputs=arrays)
    assert report.ok, report.problems


def test_old_models_list_constants_as_inputs(tmp_path: Path) -> None:
    """Before IR version 4 onnxruntime takes initializers for constants: nothing may be fed for them."""
    path = overridable(tmp_path, 3)
    split(path, tmp_path / "out", 2)
    assert models.load(path).overridable == []
    x = np.arange(4, dtype=np.float32)
    with PipelineSession(tmp_path / "out") as session:
        for a, e in zip(session.run(None, {"x": x}), open_session(path).run(None, {"x": x}), strict=True):
            np.testing.assert_array_equal(a, e)
        with pytest.raises(InputError, match="the model has no input 'w'"):
            session.run(None, {"x": x, "w": x})
