"""Slices of weights hold the right bytes, and are read a little at a time."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import onnx_pipeline as op
from onnx_pipeline.errors import InputError
from onnx_pipeline.model import sliced as module
from onnx_pipeline.model.sliced import SlicedTensor, slice_tensor
from onnx_pipeline.model.source import load
from tests.slices.nets import MODELS


def external(folder: Path, array: np.ndarray, offset: int = 24) -> ir.ExternalTensor:
    """Write an array into a data file."""
    folder.mkdir(exist_ok=True)
    (folder / "data.bin").write_bytes(b"x" * offset + array.tobytes() + b"y" * 7)
    dtype = ir.DataType.from_numpy(array.dtype)
    shape = ir.Shape(array.shape)
    return ir.ExternalTensor("data.bin", offset, array.nbytes, dtype, shape=shape, name="w", base_dir=folder)


@settings(max_examples=60, deadline=None)
@given(
    shape=st.lists(st.integers(1, 7), min_size=1, max_size=4),
    data=st.data(),
    kind=st.sampled_from(["float32", "int8", "float16", "float64"]),
    block=st.sampled_from([1, 16, 100, 1 << 22]),
)
def test_any_range(
    shape: list[int], data: st.DataObject, kind: str, block: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Every axis and range, in memory and in a file, twice, read in blocks of any size."""
    array = np.arange(np.prod(shape)).reshape(shape).astype(kind)
    axis = data.draw(st.integers(0, len(shape) - 1))
    begin = data.draw(st.integers(0, shape[axis] - 1))
    end = data.draw(st.integers(begin + 1, shape[axis]))
    expected = np.take(array, range(begin, end), axis)
    before, module._BLOCK = module._BLOCK, block
    try:
        for tensor in (ir.tensor(array), external(tmp_path_factory.getbasetemp() / "any", array)):
            part = slice_tensor(tensor, axis, begin, end, "part")
            assert part.tobytes() == expected.tobytes()
            np.testing.assert_array_equal(part.numpy(), expected)
            assert list(part.shape.numpy()) == list(expected.shape)
            again = slice_tensor(part, axis, 0, 1, "again")
            assert again.tobytes() == np.take(expected, [0], axis).tobytes()
    finally:
        module._BLOCK = before


def test_contiguous_is_a_range_of_the_file(tmp_path: Path) -> None:
    """Rows are found where they lie; columns are read piece by piece."""
    tensor = external(tmp_path, np.arange(24, dtype=np.float32).reshape(6, 4))
    rows = slice_tensor(tensor, 0, 2, 5, "rows")
    assert isinstance(rows, ir.ExternalTensor)
    assert (rows.offset, rows.length, rows.location) == (24 + 2 * 16, 48, "data.bin")
    assert isinstance(slice_tensor(tensor, 1, 2, 4, "columns"), SlicedTensor)


def test_a_file_that_ends_early_is_told(tmp_path: Path) -> None:
    """One line with the file."""
    part = slice_tensor(external(tmp_path, np.zeros((6, 4), np.float32)), 1, 2, 4, "columns")
    (tmp_path / "data.bin").write_bytes(b"short")
    with pytest.raises(InputError, match=r"data\.bin.*ended early"):
        part.tobytes()
    (tmp_path / "data.bin").unlink()
    with pytest.raises(InputError, match=r"data\.bin.*cannot be read"):
        part.tobytes()


def test_split_of_a_sliced_model_with_external_data(tmp_path: Path) -> None:
    """Stages hold their slices, and a data file that only slices are read from is known, too."""
    proto, parts = MODELS["mlp"](), {"first": 2, "again": 2, "back": 2}
    sliced, other = (
        op.slice_model(saved(proto, tmp_path / "model.onnx", location), parts)
        for location in ("w.bin", "v.bin")
    )
    held = [value.const_value for value in sliced.graph.initializers.values()]
    assert any(isinstance(tensor, SlicedTensor) for tensor in held)
    assert not any(isinstance(tensor, ir.ExternalTensor) for tensor in held)
    source = load(sliced)
    assert [file.name for file in source.stamps] == ["w.bin"]
    assert source.sha256 == load(sliced).sha256 != load(other).sha256
    manifest = op.split(sliced, stages=3, output=tmp_path / "out", cost_model="analytic", measure=0)
    assert any("first/slice_0" in stage.node_names for stage in manifest.stages)
    assert op.verify(tmp_path / "out", model=sliced).ok


def saved(proto: onnx.ModelProto, path: Path, location: str) -> Path:
    """Save a model with its large weights in a data file."""
    copy = onnx.ModelProto.FromString(proto.SerializeToString())
    onnx.save(copy, path, save_as_external_data=True, location=location, size_threshold=1000)
    return path


MEMORY = """
import resource, sys
import numpy as np, onnx
from pathlib import Path
from onnx import TensorProto, helper
import onnx_pipeline as op
folder = Path(sys.argv[1])
rows, columns, layers = 2048, 6144, 3
size = rows * columns * 4
with open(folder / "w.bin", "wb") as file:
    for _ in range(2 * layers):
        for _ in range(32):
            file.write(np.random.default_rng(0).bytes(size // 32))
nodes, weights = [], []
for i in range(2 * layers):
    dims = (columns, rows) if i % 2 else (rows, columns)
    w = onnx.TensorProto(name=f"w{i}", data_type=1, dims=dims, data_location=1)
    for key, value in (("location", "w.bin"), ("offset", i * size), ("length", size)):
        w.external_data.add(key=key, value=str(value))
    weights.append(w)
    nodes.append(helper.make_node("MatMul", [f"h{i}", w.name], [f"h{i + 1}"], name=f"n{i}"))
x = helper.make_tensor_value_info("h0", TensorProto.FLOAT, [1, rows])
y = helper.make_tensor_value_info(f"h{2 * layers}", TensorProto.FLOAT, [1, rows])
graph = helper.make_graph(nodes, "big", [x], [y], weights)
opset = helper.make_opsetid("", 17)
onnx.save(helper.make_model(graph, opset_imports=[opset], ir_version=8), folder / "m.onnx")
def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
model = folder / "m.onnx"
op.split(model, stages=2, output=folder / "plain", cost_model="analytic", measure=0)
before = peak()
if sys.argv[2] == "sliced":
    model = op.slice_model(model, {f"n{i}": 3 for i in range(2 * layers)})
    op.split(model, stages=4, output=folder / "out", cost_model="analytic", measure=0)
print(before, peak())
"""


def test_slices_of_large_weights_are_not_gathered(tmp_path: Path) -> None:
    """288 MiB of weights in columns: the split takes no more memory than that of the whole model."""
    code = [sys.executable, "-c", MEMORY, str(tmp_path), "sliced"]
    done = subprocess.run(code, capture_output=True, text=True, check=True)
    before, after = map(float, done.stdout.split())
    assert after - before < 60
