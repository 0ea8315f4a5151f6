"""What a node reads, its subgraphs included."""

from __future__ import annotations

from pathlib import Path

from onnx_pipeline.model.nodes import node_inputs
from onnx_pipeline.model.source import load
from tests.splitting import save


def test_node_inputs_include_captured_values(tmp_path: Path) -> None:
    """Values captured at any depth count, values inside the subgraphs do not."""
    text = """m (float[4] x, bool c, float[4] k) => (float[4] y) <float[4] w = {1,2,3,4}> {
        a = Relu(x)
        y = If (c) <
            then_branch = t () => (float[4] p) {
                i = Add(a, a)
                p = If (c) < then_branch = tt () => (float[4] q) { q = Mul(i, w) },
                             else_branch = te () => (float[4] r) { r = Neg(k) } >
            },
            else_branch = e () => (float[4] s) { s = Identity(x) }
        >
    }"""
    node = load(save(tmp_path, text)).ir.graph[1]
    assert {value.name for value in node_inputs(node)} == {"c", "a", "w", "k", "x"}
