"""Bytes of parameters as the sessions hold them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

import onnx_pipeline as op
from onnx_pipeline.costmodel.profiling.held import held_bytes
from onnx_pipeline.costmodel.profiling.mapping import GraphNode, attribute


def held(
    kernels: list[GraphNode], nodes: list[GraphNode], saved: dict[str, int], own: dict[str, int]
) -> dict[str, int]:
    """Attribute the kernels and compare the weights, every weight its own group."""
    mapping = attribute(kernels, nodes, np.ones(len(nodes)))
    return held_bytes(kernels, nodes, mapping, saved, {name: name for name in own}, own)


def test_folded_weights_go_to_what_they_were_made_from() -> None:
    """A new weight is divided among the vanished ones of its kernel, by size; the rest stays as it is."""
    nodes = [
        GraphNode("Conv", "conv", ("x", "w", "b"), ("c",)),
        GraphNode("BatchNormalization", "norm", ("c", "s", "t"), ("y",)),
        GraphNode("MatMul", "mul", ("y", "v"), ("z",)),
    ]
    kernels = [
        GraphNode("Conv", "fused", ("x", "w_new"), ("y",)),
        GraphNode("MatMul", "mul", ("y", "v"), ("z",)),
    ]
    own = {"w": 600, "b": 100, "s": 200, "t": 100, "v": 50}
    assert held(kernels, nodes, {"w_new": 2000, "v": 50}, own) == {"w": 1200, "b": 200, "s": 400, "t": 200}
    assert held(nodes, nodes, own, own) == {}
    assert held(nodes, nodes, own | {"v": 100}, own) == {"v": 100}


def test_float16_weights_are_held_as_float32(tmp_path: Path) -> None:
    """onnxruntime's CPU provider multiplies in float32: a stage there holds twice the file's bytes."""
    weight = np.ones((64, 64), np.float16)
    graph = helper.make_graph(
        [
            helper.make_node("MatMul", ["x", "w"], ["y"], "mul"),
            helper.make_node("Relu", ["y"], ["z"], "relu"),
        ],
        "half",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT16, [4, 64])],
        [helper.make_tensor_value_info("z", TensorProto.FLOAT16, [4, 64])],
        [numpy_helper.from_array(weight, "w")],
    )
    path = tmp_path / "half.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    found = op.profile(path, profile_runs=1, cache=False)
    assert dict(zip(found.group_names, found.group_bytes.tolist(), strict=True)) == {"w": 4 * 64 * 64}
    computed = op.profile(path, cost_model="analytic")
    assert computed.group_bytes.tolist() == [2 * 64 * 64]
