"""Loading: good models come through unchanged, bad ones are refused in one line."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from models import builders
from onnx_pipeline.errors import InputError
from onnx_pipeline.model import source as models
from onnx_pipeline.model.protos import serialize
from onnx_pipeline.model.running import PLAIN, open_model
from tests.splitting import save

CHAIN = "m (float[4] x) => (float[4] y) { a = Relu(x)  b = Neg(a)  y = Abs(b) }"


def refused(path: Path) -> str:
    """Return the message with which a model is refused; it must be one line and name the file."""
    with pytest.raises(InputError) as caught:
        models.load(path)
    message = str(caught.value)
    assert message.startswith(str(path))
    assert "\n" not in message
    return message


def external_model(folder: Path, location: str, *, length: int = 16, offset: int = 0) -> Path:
    """Save a model whose only weight lies at ``location``."""
    weight = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[4])
    weight.data_location = TensorProto.EXTERNAL
    for key, value in (("location", location), ("offset", str(offset)), ("length", str(length))):
        weight.external_data.add(key=key, value=value)
    x, y = (helper.make_tensor_value_info(n, TensorProto.FLOAT, [4]) for n in "xy")
    graph = helper.make_graph([helper.make_node("Add", ["x", "w"], ["y"])], "g", [x], [y], [weight])
    path = folder / "model.onnx"
    opsets = [helper.make_opsetid("", 18)]
    path.write_bytes(helper.make_model(graph, ir_version=8, opset_imports=opsets).SerializeToString())
    return path


def test_not_a_model(tmp_path: Path) -> None:
    """Missing, a directory, empty, random bytes, text, truncated."""
    assert "No such file" in refused(tmp_path / "none.onnx")
    assert "directory" in refused(tmp_path)
    path = tmp_path / "bad.onnx"
    path.write_bytes(b"")
    assert "empty" in refused(path)
    path.write_bytes(np.random.default_rng(0).bytes(5000))
    assert "not an ONNX model" in refused(path)
    path.write_text("hello")
    refused(path)


def test_every_truncation_is_refused(tmp_path: Path) -> None:
    """However many bytes are missing, there is one clear line."""
    data = save(tmp_path, CHAIN).read_bytes()
    path = tmp_path / "short.onnx"
    operator_sets = 40  # bytes at the end: of three imports, only the used one is needed
    for size in range(len(data) - operator_sets):
        path.write_bytes(data[:size])
        refused(path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("m (float[4] x) => (float[4] y) { a = Add(x, b)  b = Relu(a)  y = Neg(b) }", "cycle through node"),
        ("m (float[4] x) => (float[4] y) { y = Add(x, ghost) }", "'ghost', which nothing produces"),
        ("m (float[4] x) => (float[4] y) { a = Relu(x) }", "'y', which nothing produces"),
        ("m (float[4] x) => (float[4] y) { y = Relu(x)  y = Neg(x) }", "'y' is defined twice"),
        ("m (float[4] x) => (float[4] y) { x = Relu(x)  y = Neg(x) }", "'x' is defined twice"),
        ("m (float[4] x) => (float[4] y, float[4] y) { y = Relu(x) }", "'y' is listed twice"),
        ("m (float[4] x) => () { y = Relu(x) }", "no outputs"),
        ("m (float[4] x) => (float[4] y) { y = nowhere.Relu(x) }", "'nowhere', which is not imported"),
        (
            """m (float[4] x) => (float[4] y) { y = local.f(x) }
            <domain: "local", opset_import: ["" : 20]> f (a) => (b) { b = Add(a, ghost) }""",
            "in function 'f': node 'b' (Add) reads 'ghost'",
        ),
        (
            """m (float[4] x, bool c) => (float[4] y) {
                y = If (c) < then_branch = t () => (float[4] p) { p = Add(x, ghost) },
                             else_branch = e () => (float[4] q) { q = Neg(x) } >
            }""",
            "'ghost', which nothing produces",
        ),
        (
            """m (float[4] x, bool c) => (float[4] y) {
                y = If (c) < then_branch = t () => (float[4] p) { p = Neg(y) },
                             else_branch = e () => (float[4] q) { q = Neg(x) } >
            }""",
            "cycle through node",
        ),
    ],
)
def test_malformed_graphs(text: str, message: str, tmp_path: Path) -> None:
    """Cycles, undefined and doubly defined values, in subgraphs too."""
    assert message in refused(save(tmp_path, text))


def test_unsafe_external_data(tmp_path: Path) -> None:
    """Missing files, paths and links that leave the folder, ranges beyond the file."""
    folder = tmp_path / "folder"
    folder.mkdir()
    (tmp_path / "secret").write_bytes(bytes(64))
    (folder / "link").symlink_to(tmp_path / "secret")
    (folder / "short").write_bytes(bytes(20))
    (folder / "sub").mkdir()
    assert "missing" in refused(external_model(folder, "none.bin"))
    for outside in ("../secret", str(tmp_path / "secret"), "sub/../../secret", "..\\secret", "C:\\secret"):
        assert "outside the model's folder" in refused(external_model(folder, outside))
    assert "leads outside" in refused(external_model(folder, "link"))
    assert "beyond the end" in refused(external_model(folder, "short", offset=8))
    assert "need 16" in refused(external_model(folder, "short", length=12))
    assert "need 16" in refused(external_model(folder, "short", offset=-4))
    assert "not a regular file" in refused(external_model(folder, "sub"))
    assert "no location" in refused(external_model(folder, ""))


def test_a_cache_of_linked_blobs_is_accepted(tmp_path: Path) -> None:
    """Model and weights may both be links into one folder, as model hubs arrange their caches."""
    blobs, snapshot = tmp_path / "blobs", tmp_path / "snapshots" / "1"
    blobs.mkdir()
    snapshot.mkdir(parents=True)
    external_model(blobs, "weights.bin").rename(blobs / "0a")
    (blobs / "0b").write_bytes(np.arange(4, dtype=np.float32).tobytes())
    (snapshot / "model.onnx").symlink_to("../../blobs/0a")
    (snapshot / "weights.bin").symlink_to("../../blobs/0b")
    source = models.load(snapshot / "model.onnx")
    assert source.data_dir == blobs.resolve()
    np.testing.assert_array_equal(source.ir.graph.initializers["w"].const_value.numpy(), np.arange(4))
    session = open_model(source, PLAIN)
    assert session.run(None, {"x": np.ones(4, np.float32)})[0].tolist() == [1, 2, 3, 4]


def test_weights_are_not_read(tmp_path: Path) -> None:
    """A sparse file of 64 GiB loads at once."""
    path = external_model(tmp_path, "huge")
    proto = onnx.load(path, load_external_data=False)
    proto.graph.initializer[0].dims[:] = [1 << 34]
    proto.graph.initializer[0].external_data[2].value = str(1 << 36)
    path.write_bytes(proto.SerializeToString())
    (tmp_path / "huge").touch()
    os.truncate(tmp_path / "huge", 1 << 36)
    assert models.load(path).ir.graph.initializers["w"].const_value.nbytes == 1 << 36


def test_nodes_get_unique_names(tmp_path: Path) -> None:
    """Given names stay where unique; generated ones clash with none."""
    proto = onnx.load(save(tmp_path, CHAIN))
    for node, name in zip(proto.graph.node, ["", "same", "same"], strict=True):
        node.name = name
    proto.graph.node.add(op_type="Relu", input=["x"], output=["z"], name="Relu_0")
    onnx.save(proto, tmp_path / "m.onnx")
    names = [node.name for node in models.load(tmp_path / "m.onnx").ir.graph]
    assert names == ["Relu_0_1", "same", "same_1", "Relu_0"]


def test_unsorted_nodes_are_sorted(tmp_path: Path) -> None:
    """Any order of nodes is accepted."""
    path = save(tmp_path, "m (float[4] x) => (float[4] y) { y = Abs(b)  b = Neg(a)  a = Relu(x) }")
    assert [node.op_type for node in models.load(path).ir.graph] == ["Relu", "Neg", "Abs"]


def test_inputs_leave_out_defaults(tmp_path: Path) -> None:
    """An input with an initializer is a constant here, not something to feed."""
    text = "m (float[4] x, float[4] w) => (float[4] y) <float[4] w = {1,2,3,4}> { y = Add(x, w) }"
    source = models.load(save(tmp_path, text))
    assert [value.name for value in source.inputs] == ["x"]


def test_mutated_files_never_end_in_a_traceback(tmp_path: Path) -> None:
    """Random bytes changed, dropped and inserted: a model or one clear line."""
    random = np.random.default_rng(0)
    path = tmp_path / "mutant.onnx"
    onnx.save(builders.with_function(), path)
    data = path.read_bytes()
    accepted = 0
    for _ in range(400):
        mutant = bytearray(data)
        for position in random.integers(0, len(data) - 8, size=random.integers(1, 4)):
            kind = random.integers(3)
            mutant[position : position + kind] = random.bytes(1 + kind % 2)
        path.write_bytes(mutant)
        try:
            source = models.load(path)
        except InputError:
            continue
        accepted += 1
        serialize(source.ir, path)
    assert accepted < 400
