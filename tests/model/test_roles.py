"""Which nodes run, which are parameters of others, and which are random."""

from __future__ import annotations

from pathlib import Path

from onnx_pipeline.model import roles
from onnx_pipeline.model.source import load
from tests.splitting import save


def test_parameter_nodes_depend_on_no_input(tmp_path: Path) -> None:
    """Whatever is computed from weights alone; through Identity a stage holds the bytes of its operand."""
    text = """m (float[1, 4] x) => (float[1, 4] y) <float[4, 4] w = {1,2,3,4,1,2,3,4,1,2,3,4,1,2,3,4}> {
        i = Identity(w)
        t = Transpose(i)
        a = MatMul(x, i)
        y = MatMul(a, t)
    }"""
    source = load(save(tmp_path, text))
    assert roles.parameter_nodes(source) == {
        str(node.name) for node in source.ir.graph if node.op_type in ("Identity", "Transpose")
    }
    found = roles.parameter_values(source, roles.executable_nodes(source))
    assert {(value.name, root.name) for value, root in found} == {("i", "w"), ("t", "t")}


def test_random_operators_are_no_parameters(tmp_path: Path) -> None:
    """Copies would draw different numbers."""
    text = """m (float[4] x) => (float[4] y) {
        r = RandomNormal <shape = [4]> ()
        s = local.noise(x)
        t = Neg(r)
        a = Add(s, t)
        y = Neg(a)
    }
    <domain: "local", opset_import: ["" : 20]> noise (x) => (y) { y = RandomNormalLike(x) }"""
    source = load(save(tmp_path, text))
    assert not roles.parameter_nodes(source)
    assert [node.op_type for node in roles.random_nodes(source)] == ["RandomNormal", "noise"]


def test_dead_nodes_are_left_out(tmp_path: Path) -> None:
    """What no output depends on is not executed, hence not split."""
    text = "m (float[4] x) => (float[4] y) { d = Neg(x)  e = Abs(d)  y = Relu(x) }"
    source = load(save(tmp_path, text))
    assert [node.op_type for node in roles.executable_nodes(source)] == ["Relu"]
