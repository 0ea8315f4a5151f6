"""Every kind of value over the borders of both backends, and weights that are in another folder."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import helper

from models import builders, structures
from onnx_pipeline import pipeline
from onnx_pipeline.errors import InputError, UsageError
from onnx_pipeline.files import npz
from onnx_pipeline.measurement import bench
from onnx_pipeline.model import inputs
from onnx_pipeline.model import source as models
from onnx_pipeline.runtime import PipelineSession
from onnx_pipeline.verification.checks import verify
from tests.splitting import save, split
from tests.streaming import BACKENDS

#: One model for each kind of value that is not an ordinary tensor.
KINDS = ("sequence", "optional", "map", "strings", "bfloat16", "float8", "int4", "zero_size")
FOUR_BITS = """m (int4[5] a, uint4[2,3] u) => (int4[5] y, float[5] z, uint4[2,3] w)
<float s = {0.5}, int4 i0 = {0}, uint4 u0 = {0}> {
    z = DequantizeLinear(a, s)
    y = QuantizeLinear(z, s, i0)
    v = DequantizeLinear(u, s)
    w = QuantizeLinear(v, s, u0)
}"""


def same(actual: Any, expected: Any) -> None:
    """Bit for bit, whatever is nested in what."""
    assert type(actual) is type(expected)
    if isinstance(expected, list):
        assert len(actual) == len(expected)
        for a, e in zip(actual, expected, strict=True):
            same(a, e)
    elif isinstance(expected, Mapping):
        assert actual == expected
    else:
        assert actual.dtype == expected.dtype
        np.testing.assert_array_equal(actual, expected)


@pytest.mark.parametrize("name", KINDS)
def test_processes_pass_every_kind_of_value(name: str, tmp_path: Path) -> None:
    """What threads hand over by reference arrives through shared memory as the same."""
    path = tmp_path / "m.onnx"
    onnx.save(structures.SMALL[name](), path)
    split(path, tmp_path / "out", 3)
    given = inputs.make_feeds(models.load(path))
    found = []
    for backend in BACKENDS:
        with PipelineSession(tmp_path / "out", backend=backend) as session:
            found.append(session.run(None, given))
    same(found[1], found[0])


@pytest.mark.parametrize("backend", BACKENDS)
def test_types_of_four_bits_go_in_and_out(backend: str, tmp_path: Path) -> None:
    """Odd counts and negative numbers; names are those of onnxruntime and of ml_dtypes."""
    proto = onnx.load(save(tmp_path, FOUR_BITS, ir_version=10))
    proto.opset_import[0].version = 21
    onnx.save(proto, tmp_path / "m.onnx")
    split(tmp_path / "m.onnx", tmp_path / "out", 2)
    with PipelineSession(tmp_path / "out", backend=backend) as session:
        assert [arg.type for arg in session.get_inputs()] == ["tensor(int4)", "tensor(uint4)"]
        int4, uint4 = (np.dtype(port.dtype) for port in session.manifest.model.inputs)
        a, u = np.array([-8, 7, -1, 0, 3]).astype(int4), np.array([[0, 15, 8], [1, 2, 7]]).astype(uint4)
        y, z, w = session.run(None, {"a": a, "u": u})
    same(y, a)
    same(w, u)
    np.testing.assert_array_equal(z, a.astype(np.float32) / 2)


@pytest.mark.parametrize("backend", BACKENDS)
def test_referenced_weights(backend: str, tmp_path: Path) -> None:
    """The stages find the model's own data file, the model put together from them does, and no warning."""
    path = builders.with_external_data(tmp_path / "m", layers=4, width=400)
    outputs = []
    for mode in ("copy", "reference"):
        out = tmp_path / mode
        pipeline.split(
            path, stages=2, output=out, weights=mode, cost_model="analytic", time_limit=0.2, threads=1
        )
        with PipelineSession(out, backend=backend, allow_reference=path.parent) as session:
            outputs.append(session.run(None, inputs.make_feeds(models.load(path))))
    same(outputs[1], outputs[0])
    if backend == "threads":
        found = bench.bench(
            tmp_path / "reference", requests=4, rounds=1, backend=backend, allow_reference=path.parent
        )
        assert found["baselines"]


def test_measured_split_of_referenced_weights(tmp_path: Path) -> None:
    """The closed loop measures stages without copies of the weights, and the manifest tells both."""
    path = builders.with_external_data(tmp_path / "m", layers=4, width=400)
    found = pipeline.split(
        path,
        stages=2,
        output=tmp_path / "out",
        weights="reference",
        cost_model="analytic",
        measure=1,
        time_limit=1.0,
        threads=1,
    )
    assert found.weights is not None
    assert found.measurement is not None
    assert all(stage.measured for stage in found.stages)


def test_libraries_of_custom_operators(tmp_path: Path) -> None:
    """A library that is none is named, in this process or another; an options object brings its own."""
    import onnxruntime

    onnx.save(builders.mlp(), tmp_path / "m.onnx")
    split(tmp_path / "m.onnx", tmp_path / "out", 2)
    (tmp_path / "lib.so").write_bytes(b"not a library")
    for backend in BACKENDS:
        with pytest.raises(InputError, match=r"lib\.so: onnxruntime cannot load custom operators"):
            PipelineSession(tmp_path / "out", backend=backend, custom_ops=[tmp_path / "lib.so"])
    with pytest.raises(UsageError, match="SessionOptions object"):
        PipelineSession(
            tmp_path / "out",
            sess_options=onnxruntime.SessionOptions(),
            custom_ops=[tmp_path / "lib.so"],
        )


FOREIGN = ("BFLOAT16", "FLOAT8E4M3FN", "FLOAT8E4M3FNUZ", "FLOAT8E5M2", "FLOAT8E5M2FNUZ")


@pytest.mark.parametrize("name", FOREIGN)
def test_types_that_numpy_lacks_are_fed_everywhere(name: str, tmp_path: Path) -> None:
    """Profiled, measured, verified, benchmarked, and run from a file by both backends."""
    number = onnx.TensorProto.DataType.Value(name)
    to = {"m": 1, "y": number}
    nodes = [helper.make_node("Cast", [a], [b], to=to[b]) for a, b in (("x", "m"), ("c", "y"))]
    nodes[1:1] = [helper.make_node("Neg", ["m"], ["b"]), helper.make_node("Abs", ["b"], ["c"])]
    ends = [helper.make_tensor_value_info(each, number, [4]) for each in ("x", "y")]
    proto = helper.make_model(
        helper.make_graph(nodes, "g", ends[:1], ends[1:]),
        ir_version=10,
        opset_imports=[helper.make_opsetid("", 21)],
    )
    path, out = tmp_path / "m.onnx", tmp_path / "out"
    onnx.save(proto, path)
    x = np.array([1, -2, 0.5, -0.25]).astype(ir.DataType(number).numpy())
    npz.save_arrays({"x": x}, tmp_path / "x.npz")
    found = pipeline.split(
        path,
        stages=2,
        output=out,
        inputs=tmp_path / "x.npz",
        cache=False,
        measure=1,
        time_limit=0.5,
        threads=1,
    )
    assert found.measurement is not None
    assert verify(out, model=path, inputs={"x": x}).ok
    assert bench.bench(out, requests=2, rounds=1)["baselines"]
    for backend in BACKENDS:
        same(npz.run_file(out, tmp_path / "x.npz", backend=backend)["y"], np.abs(x))


@pytest.mark.parametrize("backend", BACKENDS)
def test_the_other_byte_order_is_converted(backend: str, tmp_path: Path) -> None:
    """onnxruntime would take the bytes as they lie."""
    path = save(tmp_path, "m (float[3] x) => (float[3] y) { a = Neg(x)  y = Abs(a) }")
    split(path, tmp_path / "out", 2)
    other = np.array([1, 2, 3], np.dtype(np.float32).newbyteorder("S"))
    with PipelineSession(tmp_path / "out", backend=backend) as session:
        (y,) = session.run(None, {"x": other})
    same(y, np.array([1, 2, 3], np.float32))
    assert verify(tmp_path / "out", model=path, inputs={"x": other}).ok
    assert pipeline.profile(path, inputs={"x": other}, cache=False).work.all()
