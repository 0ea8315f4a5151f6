"""Models in memory: the same as from a file, untouched, their weights not copied."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest

import onnx_pipeline as op
from models import builders, structures
from onnx_pipeline.costmodel import cache
from onnx_pipeline.errors import InputError, UsageError
from onnx_pipeline.model.digest import content_digest
from onnx_pipeline.model.source import load


def refused(model: onnx.ModelProto | ir.Model) -> str:
    """Return the one line with which a model is refused."""
    with pytest.raises(InputError) as caught:
        load(model)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def with_data_file(folder: Path, name: str = "weights.bin") -> Path:
    """Save a small model whose weights lie in a file of their own."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "model.onnx"
    onnx.save(builders.mlp(width=16), path, save_as_external_data=True, location=name, size_threshold=0)
    return path


@pytest.mark.parametrize("name", sorted(structures.SMALL))
def test_every_form_is_the_same_model(name: str, tmp_path: Path) -> None:
    """A file, a message and onnx_ir's model have the same content; those in memory stay as they were."""
    proto = structures.SMALL[name]()
    onnx.save(proto, tmp_path / "model.onnx")
    before = proto.SerializeToString()
    file, message = load(tmp_path / "model.onnx"), load(proto)
    assert proto.SerializeToString() == before
    assert message.sha256 == content_digest(file.ir)
    assert [node.name for node in message.ir.graph] == [node.name for node in file.ir.graph]
    try:
        model = ir.from_proto(proto)
    except Exception:  # maps, which onnx_ir cannot read by itself
        return
    names = [node.name for node in model.graph]
    assert load(model).sha256 == content_digest(file.ir)
    assert [node.name for node in model.graph] == names


def test_weights_are_shared() -> None:
    """No second copy: the loaded model holds the tensors that the caller has."""
    proto = builders.mlp(width=16)
    tensors = list(proto.graph.initializer)
    held = [value.const_value for value in load(proto).ir.graph.initializers.values()]
    assert all(a.raw is b for a, b in zip(held, tensors, strict=True))
    model = ir.from_proto(proto)
    given = [value.const_value for value in model.graph.initializers.values()]
    held = [value.const_value for value in load(model).ir.graph.initializers.values()]
    assert all(a is b for a, b in zip(held, given, strict=True))


def test_a_changed_weight_is_another_model() -> None:
    """The content's digest covers the data."""
    proto = builders.mlp(width=16)
    before = load(proto).sha256
    weight = onnx.numpy_helper.to_array(proto.graph.initializer[0]).copy()
    weight.flat[-1] += 1
    proto.graph.initializer[0].raw_data = weight.tobytes()
    assert load(proto).sha256 != before


def test_a_file_can_be_named_after_every_graph() -> None:
    """Names of graphs hold anything."""
    proto = builders.mlp(width=16)
    for name, file in (("main graph/é", "main_graph_é.onnx"), ("../..", "model.onnx"), ("", "model.onnx")):
        proto.graph.name = name
        assert str(load(proto).path) == file


def test_external_data_of_a_message_has_no_folder(tmp_path: Path) -> None:
    """It is refused, and onnx_ir's model of the same file is not."""
    path = with_data_file(tmp_path)
    message = refused(onnx.load(path, load_external_data=False))
    assert "'weights.bin' of unknown folder; give the path" in message
    assert load(onnx.load(path)).sha256 != load(path).sha256
    assert load(ir.load(path)).data_dir == tmp_path


def test_external_data_in_several_folders(tmp_path: Path) -> None:
    """Every tensor knows its file, wherever that is; only equal locations cannot be told apart."""
    first = ir.load(with_data_file(tmp_path / "a", "one.bin"))
    second = ir.load(with_data_file(tmp_path / "b", "two.bin"))
    name = next(iter(first.graph.initializers))
    first.graph.initializers[name].const_value = second.graph.initializers[name].const_value
    source = load(first)
    assert source.data_dir == tmp_path
    assert set(source.stamps) == {tmp_path / "a" / "one.bin", tmp_path / "b" / "two.bin"}
    op.split(first, stages=2, output=tmp_path / "out", cost_model="analytic")
    assert op.verify(tmp_path / "out", model=first).ok

    third = ir.load(with_data_file(tmp_path / "c", "one.bin"))
    first.graph.initializers[name].const_value = third.graph.initializers[name].const_value
    assert "have the same location" in refused(first)
    (tmp_path / "b" / "two.bin").unlink()
    first.graph.initializers[name].const_value = second.graph.initializers[name].const_value
    assert "is missing" in refused(first)


def test_weights_beyond_one_message() -> None:
    """They are refused before anything is read; nothing here takes memory."""
    model = ir.from_proto(builders.mlp(width=16))
    value = next(iter(model.graph.initializers.values()))

    def never() -> ir.TensorProtocol:
        raise AssertionError("was read")

    value.const_value = ir.LazyTensor(
        never, dtype=ir.DataType.FLOAT, shape=ir.Shape([1 << 20, 1 << 10]), name=value.name
    )
    assert "4.0 GiB of memory, and one ONNX message holds 2 GiB; save it with" in refused(model)


def test_a_malformed_weight_is_refused() -> None:
    """In a message, and where onnx_ir wraps one."""
    proto = builders.mlp(width=16)
    proto.graph.initializer[0].raw_data = b"1234"
    assert "holds 4 of" in refused(proto)
    assert "holds 4 of" in refused(ir.from_proto(proto))


def test_what_is_no_model() -> None:
    """Neither a path nor a model: the message says what is accepted."""
    with pytest.raises(UsageError, match=r"onnx\.ModelProto or an onnx_ir\.Model, got builtins\.int"):
        op.profile(3)  # type: ignore[arg-type]
    assert "imports no operator set" in refused(onnx.ModelProto())


def test_the_whole_job(tmp_path: Path) -> None:
    """Split one form, verify, compare and measure against another; the stages compute what the model does."""
    proto = builders.mlp(width=16)
    onnx.save(proto, tmp_path / "model.onnx")
    document = op.split(proto, stages=2, output=tmp_path / "out", cost_model="analytic")
    assert document.model.file == f"{proto.graph.name}.onnx"
    for form in (proto, ir.from_proto(proto), tmp_path / "model.onnx"):
        assert op.verify(tmp_path / "out", model=form).ok
        found = op.bench(tmp_path / "out", model=form, requests=1, rounds=1)
        assert found["baselines"]["one_thread_seconds"] > 0
    found = op.explore(ir.from_proto(proto), stages="1-2", profile={"cost_model": "analytic"})
    assert found.rows[1].bottleneck_seconds == document.certificate["bottleneck_seconds"]
    other = builders.mlp(width=16)
    other.graph.initializer[0].raw_data = bytes(len(other.graph.initializer[0].raw_data))
    with pytest.raises(op.VerificationError, match="not the model that was split"):
        op.verify(tmp_path / "out", model=other)


def test_profiles_are_found_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """The cache knows the content, not the object. (What a busy machine measures, it would not keep.)"""
    monkeypatch.setattr(cache, "NOISY", float("inf"))
    proto = builders.mlp(width=16)
    first = op.profile(proto, profile_runs=1)
    again = op.profile(ir.from_proto(proto), profile_runs=1)
    assert again.meta["cached"]
    assert np.array_equal(first.work, again.work)
