"""Hostile and broken input: refused in one line, at once, whatever it is."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from benchmarks import fuzz
from models import builders, structures
from onnx_pipeline.errors import InputError
from onnx_pipeline.model import inputs, limits, shapes
from onnx_pipeline.model import source as models
from tests.splitting import split


def refused(proto: onnx.ModelProto | bytes, folder: Path) -> str:
    """Return the one line with which a model is refused, by loading it or by inferring its shapes."""
    path = folder / "m.onnx"
    path.write_bytes(proto if isinstance(proto, bytes) else proto.SerializeToString())
    with pytest.raises(InputError) as caught:
        inputs.make_feeds(models.load(path))
    assert "\n" not in str(caught.value)
    return caught.value.message


@pytest.mark.parametrize(
    ("trap", "message"),
    [
        (fuzz._deep, "nested more than"),
        (fuzz._wide, "more than 1,000,000 nodes"),
        (fuzz._recursive, "calls itself"),
        (fuzz._exponential, "expand to more than"),
        (fuzz._escaping, "outside the model's folder"),
        (fuzz._huge_input, "random inputs are limited"),
    ],
)
def test_traps(trap: object, message: str, tmp_path: Path) -> None:
    """Deep, wide, recursive, exponential, escaping, huge."""
    assert message in refused(trap(), tmp_path)  # type: ignore[operator]


def test_tensors_must_hold_what_they_say(tmp_path: Path) -> None:
    """Too few values, negative dimensions, unknown types."""
    model = builders.mlp(2, 4)
    tensor = model.graph.initializer[0]
    original = TensorProto.FromString(tensor.SerializeToString())
    tensor.dims[0] = 1 << 40
    assert "holds 64 of" in refused(model, tmp_path)
    tensor.dims[0] = -4
    assert "an invalid shape" in refused(model, tmp_path)
    tensor.CopyFrom(original)
    tensor.data_type = 99
    assert "unknown type" in refused(model, tmp_path)


def test_sparse_tensors_are_checked(tmp_path: Path) -> None:
    """Indices outside the shape, and shapes that would be enormous when dense."""
    model = structures.sparse_initializer()
    sparse = model.graph.sparse_initializer[0]
    sparse.indices.CopyFrom(numpy_helper.from_array(np.array([0, 5, 16], np.int64), "i"))
    assert "do not fit" in refused(model, tmp_path)
    sparse.dims[:] = [1 << 30, 1 << 30]
    assert "dense" in refused(model, tmp_path)


def test_versions(tmp_path: Path) -> None:
    """IR versions before operator sets, and ones that do not exist."""
    model = builders.mlp(2, 4)
    for version in (0, 2, 1000):
        model.ir_version = version
        assert f"IR version {version}" in refused(model, tmp_path)


def test_only_regular_files_are_read(tmp_path: Path) -> None:
    """A pipe would block and a device never end."""
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", Path("/dev/zero")):
        with pytest.raises(InputError, match="not a regular file"):
            models.load(path)


def test_invalid_operators_are_refused(tmp_path: Path) -> None:
    """What neither the checker nor onnxruntime accepts is refused before anything is written."""
    model = builders.mlp(2, 4)
    model.graph.node[1].output.append("second")
    path = tmp_path / "m.onnx"
    path.write_bytes(model.SerializeToString())
    with pytest.raises(InputError, match="not a valid ONNX model"):
        shapes.value_infos(models.load(path))


def test_names_never_become_paths(tmp_path: Path) -> None:
    """Graph, nodes, values and functions may be called anything."""
    folder = tmp_path / "inner"
    folder.mkdir()
    model = structures.names_missing_and_doubled()
    model.graph.name = "../../graph"
    old = model.graph.node[0].output[0]
    model.graph.node[0].output[0] = model.graph.node[1].input[0] = "../" + old
    onnx.save(model, folder / "m.onnx")
    split(folder / "m.onnx", folder / "out", 4, annotate=True)
    assert sorted(p.name for p in tmp_path.rglob("*") if p.is_file()) == sorted(
        ["m.onnx", "manifest.json", "costs.json", "annotated.onnx", *(f"stage_{i}.onnx" for i in range(4))]
    )


def test_element_count_is_that_of_the_message(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The scan sees every node of a real model, and weights do not slow it down."""
    data = builders.mlp(layers=4, width=300).SerializeToString()
    limits.check_elements(tmp_path, data)
    monkeypatch.setattr(limits, "MAX_ELEMENTS", 20)
    with pytest.raises(InputError, match="more than 20 nodes"):
        limits.check_elements(tmp_path, data)


def test_a_small_campaign_of_mutants(tmp_path: Path) -> None:
    """Broken files through the whole splitter: refused or split, nothing else (10,000 by the command)."""
    found = fuzz.campaign(60, seed=3)
    assert found["bad"] == []
    assert found["verdicts"].keys() == {"refused", "split"}


def test_weights_that_change_while_they_are_read(tmp_path: Path) -> None:
    """A data file written to after loading is an error, not a mixture."""
    path = builders.with_external_data(tmp_path / "m", width=400)
    source = models.load(path)
    (weights,) = source.stamps
    os.utime(weights, (1, 1))
    from onnx_pipeline.emission.weights import WeightStore

    store = WeightStore(source, tmp_path, "data")
    value = source.ir.graph.initializers["weight_0"]
    assert value.const_value is not None
    store.begin([value.const_value, value.const_value])
    with pytest.raises(InputError, match="changed while"):
        store.add("w", value.const_value)
    store.close()


def test_negative_dimensions_mean_unknown(tmp_path: Path) -> None:
    """Minus one is what some exporters write for a dimension that they do not know."""
    model = builders.mlp(2, 4)
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_value = -1
    onnx.save(model, tmp_path / "m.onnx")
    assert inputs.make_feeds(models.load(tmp_path / "m.onnx"))["x"].shape == (1, 4)
    assert helper.make_tensor_value_info("x", 1, [None]).type.tensor_type.elem_type == 1
