"""Models as bytes: what is read is what is written."""

from __future__ import annotations

from pathlib import Path

import onnx

from models import builders
from onnx_pipeline.model.protos import describe, serialize
from onnx_pipeline.model.running import PLAIN, open_model
from onnx_pipeline.model.source import load
from tests.splitting import save


def test_serialize_keeps_the_model(tmp_path: Path) -> None:
    """The bytes give the same outputs, plus the values asked for."""
    path = tmp_path / "m.onnx"
    onnx.save(builders.with_subgraph(), path)
    source = load(path)
    extra = str(source.ir.graph[0].outputs[0].name)
    proto = onnx.ModelProto.FromString(serialize(source.ir, path, [extra, extra]))
    assert [node.op_type for node in proto.graph.node] == [node.op_type for node in source.ir.graph]
    assert [o.name for o in open_model(source, PLAIN, [extra]).get_outputs()][-1] == extra


def test_maps_survive(tmp_path: Path) -> None:
    """onnx_ir has no class for maps: their types are kept aside and written again."""
    text = """m (map(int64, float) pairs) => (float[N] y) {
        y = ai.onnx.ml.CastMap <cast_to = "TO_FLOAT"> (pairs)
    }"""
    path = save(tmp_path, text)
    source = load(path)
    before = onnx.load(path).graph.input[0]
    assert before.type.HasField("map_type")
    assert describe(source.inputs[0]).type == before.type
    assert onnx.ModelProto.FromString(serialize(source.ir, path)).graph.input[0].type == before.type
