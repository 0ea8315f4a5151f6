"""Types and shapes: inferred, found by a run, and what may be written at a boundary."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest

from onnx_pipeline.errors import InputError
from onnx_pipeline.model import shapes
from onnx_pipeline.model import source as models
from tests.splitting import save


def test_concrete_and_declared_shapes(tmp_path: Path) -> None:
    """Bound dimensions give sizes in bytes; the boundary keeps the names."""
    text = "m (float[N, 4] x) => (float[N, 8] y) { a = Relu(x)  y = Concat <axis = 1> (a, x) }"
    infos = shapes.value_infos(models.load(save(tmp_path, text)), {"N": 3})
    assert infos["a"] == shapes.TensorInfo("a", ir.DataType.FLOAT, (3, 4), ("N", 4))
    assert infos["y"].shape == (3, 8)
    assert infos["y"].nbytes == 96


def test_wrong_recorded_shapes_are_ignored(tmp_path: Path) -> None:
    """A file that lies about an inner value does not mislead."""
    proto = onnx.load(save(tmp_path, "m (float[N, 4] x) => (float[N, 4] y) { a = Relu(x)  y = Neg(a) }"))
    lie = onnx.helper.make_tensor_value_info("a", onnx.TensorProto.INT64, [7, 7, 7])
    proto.graph.value_info.append(lie)
    onnx.save(proto, tmp_path / "lie.onnx")
    infos = shapes.value_infos(models.load(tmp_path / "lie.onnx"))
    assert infos["a"] == shapes.TensorInfo("a", ir.DataType.FLOAT, (1, 4), ("N", 4))


def test_holes_are_filled_by_a_run(tmp_path: Path) -> None:
    """Data-dependent sizes are measured, and left open at the boundary."""
    text = """m (float[4] x) => (float[M] y) <int64[1] minus = {-1}> {
        n = NonZero(x)
        s = Reshape(n, minus)
        y = Gather(x, s)
    }"""
    arrays = {"x": np.array([1, 0, 2, 3], np.float32)}
    infos = shapes.value_infos(models.load(save(tmp_path, text)), feeds=arrays)
    assert infos["n"].shape == (1, 3)
    assert infos["n"].declared == (1, None)
    assert infos["y"].shape == (3,)
    assert infos["y"].declared == ("M",)


def test_operators_unknown_to_inference_are_filled_by_a_run(tmp_path: Path) -> None:
    """A contributed operator has no inference: rank and type come from onnxruntime."""
    text = "m (float[N, 4] x) => (float[N, 4] y) { a = com.microsoft.FusedMatMul(x, w)  y = Neg(a) }"
    text = text.replace("{ a", "<float[4,4] w = {1,2,3,4,1,2,3,4,1,2,3,4,1,2,3,4}> { a")
    proto = onnx.parser.parse_model('<ir_version: 8, opset_import: ["" : 18, "com.microsoft" : 1]>\n' + text)
    onnx.save(proto, tmp_path / "m.onnx")
    infos = shapes.value_infos(models.load(tmp_path / "m.onnx"), {"N": 2})
    assert infos["a"] == shapes.TensorInfo("a", ir.DataType.FLOAT, (2, 4), (None, None))
    assert infos["a"].can_cross


def test_values_that_are_no_tensors_cannot_cross(tmp_path: Path) -> None:
    """A sequence has neither type nor shape here."""
    text = """m (float[4] x) => (float[8] y) {
        s = SequenceConstruct(x, x)
        y = ConcatFromSequence <axis = 0> (s)
    }"""
    info = shapes.value_infos(models.load(save(tmp_path, text)))["s"]
    assert (info.can_cross, info.nbytes) == (False, 0)


def test_packed_and_foreign_types_have_their_size(tmp_path: Path) -> None:
    """int4 takes half a byte, bfloat16 two."""
    text = "m (float[3] x) => (int4[3] y, bfloat16[3] z) { y = Cast <to = 22> (x)  z = Cast <to = 16> (x) }"
    infos = shapes.value_infos(models.load(save(tmp_path, text, ir_version=10)))
    assert (infos["y"].nbytes, infos["z"].nbytes) == (2, 6)


def test_a_model_that_the_runtime_refuses_is_one_line(tmp_path: Path) -> None:
    """An unknown operator without recorded shapes cannot be split."""
    proto = onnx.load(save(tmp_path, "m (float[4] x) => (float[4] y) { a = Relu(x)  y = Neg(a) }"))
    proto.graph.node[0].op_type = "NoSuchOperator"
    onnx.save(proto, tmp_path / "m.onnx")
    with pytest.raises(InputError, match=r"onnxruntime cannot load the model: .*NoSuchOperator") as caught:
        shapes.value_infos(models.load(tmp_path / "m.onnx"))
    assert "\n" not in str(caught.value)


def test_recorded_shapes_serve_where_nothing_can_run(tmp_path: Path) -> None:
    """With recorded types such a model can still be priced and cut."""
    proto = onnx.load(save(tmp_path, "m (float[N, 4] x) => (float[N, 4] y) { a = Relu(x)  y = Neg(a) }"))
    proto.graph.node[0].op_type = "NoSuchOperator"
    proto.graph.value_info.append(onnx.helper.make_tensor_value_info("a", 1, ["N", 4]))
    onnx.save(proto, tmp_path / "m.onnx")
    infos = shapes.value_infos(models.load(tmp_path / "m.onnx"), {"N": 2})
    assert infos["a"] == shapes.TensorInfo("a", ir.DataType.FLOAT, (2, 4), ("N", 4))
