"""onnxruntime's messages as one line."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from onnx import TensorProto, helper

from onnx_pipeline.errors import InputError
from onnx_pipeline.ort.call import run_session
from onnx_pipeline.ort.errors import reason, too_new
from onnx_pipeline.ort.session import open_session
from tests.splitting import save


def test_one_line_without_status() -> None:
    """The status is gone, wherever it stands; so are line ends."""
    error = RuntimeError("[ONNXRuntimeError] : 1 : FAIL : Load failed:\n  [ONNXRuntimeError] : 9 : NO : why")
    assert reason(error) == "Load failed: why"


def test_empty_and_endless_messages() -> None:
    """The exception's type instead of nothing; the beginning of what is too long."""
    assert reason(MemoryError()) == "MemoryError"
    line = reason(ValueError("x" * 10_000))
    assert len(line) < 600
    assert line.endswith("x...")


def test_places_in_the_sources_are_left_out(tmp_path: Path) -> None:
    """A C++ signature tells a user nothing, and could push what matters beyond the end."""
    signature = "std::vector<int (*)(float)> ns::Op<(Kind)2>::operator()(const T&) const [with T = int]"
    error = RuntimeError(f"Add failed: /onnxruntime_src/core/op.h:46 {signature} a (b) was false.")
    assert reason(error) == "Add failed: a (b) was false."
    assert reason(RuntimeError("/onnxruntime_src/core/op.h:46 no signature")) == "no signature"
    path = save(tmp_path, "m (float[4] x, int64[1] s) => (float[N] y) { y = Reshape(x, s) }")
    session = open_session(path)
    with pytest.raises(Exception, match="reshape_helper") as caught:
        run_session(session, ["y"], {"x": np.ones(4, np.float32), "s": np.array([3])})
    assert reason(caught.value).endswith("Input shape:{4}, requested shape:{3}")
    assert "reshape_helper" not in reason(caught.value)


def test_a_model_that_is_too_new_is_named_as_such() -> None:
    """By version and by what this onnxruntime takes, without a lecture on releases."""
    version = ".".join(onnxruntime.__version__.split(".")[:2])
    ir = "[ONNXRuntimeError] : 1 : FAIL : Unsupported model IR version: 14, max supported IR version: 13"
    told = f"the model has IR version 14; onnxruntime {version} supports up to 13"
    assert too_new(RuntimeError(ir)) == told
    assert too_new(RuntimeError("no such file")) is None
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, [1]) for name in "xy")
    graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "g", [x], [y])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 999)], ir_version=10)
    expected = f"uses operator set 999 of ai.onnx; onnxruntime {version} supports up to "
    with pytest.raises(InputError, match=expected):
        open_session(model.SerializeToString())
