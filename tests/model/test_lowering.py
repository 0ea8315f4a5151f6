"""Lowering: nodes, nets with their bytes, parameter groups, colocation."""

from __future__ import annotations

from pathlib import Path

import pytest

from models import builders
from onnx_pipeline.costmodel.request import NodeCosts
from onnx_pipeline.errors import InputError
from onnx_pipeline.graph.costgraph import HOST, CostGraph
from onnx_pipeline.model import lowering, shapes
from onnx_pipeline.model import source as models
from onnx_pipeline.model.roles import parameter_nodes
from tests.splitting import cost_graph, save


def nets(graph: CostGraph) -> dict[str, tuple[int, list[int], int, bool]]:
    """Producer, consumers, bytes and host pin of every net."""
    return {
        name: (
            int(graph.net_producer[t]),
            graph.consumers(t).tolist(),
            int(graph.net_bytes[t]),
            bool(graph.net_to_host[t]),
        )
        for t, name in enumerate(graph.net_names)
    }


def groups(graph: CostGraph) -> dict[str, tuple[int, list[int]]]:
    """Bytes and readers of every parameter group."""
    return {
        name: (int(graph.group_bytes[g]), graph.group_members(g).tolist())
        for g, name in enumerate(graph.group_names)
    }


def test_nets_have_one_producer_and_all_consumers(tmp_path: Path) -> None:
    """Model inputs come from the host, outputs go there, several outputs are several nets."""
    text = """m (float[4] x) => (float[2] y, float[4] a) {
        a = Relu(x)
        b, c = Split <axis = 0, num_outputs = 2> (a)
        d = Add(b, c)
        y = Mul(d, b)
    }"""
    graph = cost_graph(models.load(save(tmp_path, text)))
    assert [names[0] for names in graph.onnx_nodes] == list(graph.node_names)
    assert nets(graph) == {
        "x": (HOST, [0], 16, False),
        "a": (0, [1], 16, True),
        "b": (1, [2, 3], 8, False),
        "c": (1, [2], 8, False),
        "d": (2, [3], 8, False),
        "y": (3, [], 8, True),
    }


def test_captured_values_are_inputs(tmp_path: Path) -> None:
    """A node with subgraphs is one node that reads what the subgraphs capture."""
    text = """m (float[4] x, bool c) => (float[4] y) <float[4] w = {1,2,3,4}> {
        a = Relu(x)
        y = If (c) <
            then_branch = t () => (float[4] p) { p = Add(a, w) },
            else_branch = e () => (float[4] q) { q = Neg(a) }
        >
    }"""
    graph = cost_graph(models.load(save(tmp_path, text)))
    assert graph.num_nodes == 2
    assert nets(graph)["a"][:2] == (0, [1])
    assert nets(graph)["c"][:2] == (HOST, [1])
    assert groups(graph) == {"w": (16, [1])}


def test_a_shared_weight_is_one_group(tmp_path: Path) -> None:
    """Read directly, through Identity or by several nodes: one group; a reshaped copy is its own."""
    text = """m (float[1, 4] x) => (float[1, 4] y) <float[4, 4] w = {1,2,3,4,1,2,3,4,1,2,3,4,1,2,3,4}> {
        i = Identity(w)
        t = Transpose(w)
        a = MatMul(x, w)
        b = MatMul(a, i)
        c = MatMul(b, t)
        y = MatMul(c, w)
    }"""
    source = models.load(save(tmp_path, text))
    assert parameter_nodes(source) == {
        str(node.name) for node in source.ir.graph if node.op_type in ("Identity", "Transpose")
    }
    assert groups(cost_graph(source)) == {"w": (64, [0, 1, 3]), "t": (64, [2])}


def test_a_dequantised_weight_counts_as_quantised(tmp_path: Path) -> None:
    """The runtime holds the int8 tensor, a quarter of the float one."""
    text = """m (float[1, 4] x) => (float[1, 4] y)
        <int8[4, 4] q = {1,2,3,4,1,2,3,4,1,2,3,4,1,2,3,4}, float s = {0.5}> {
        w = DequantizeLinear(q, s)
        y = MatMul(x, w)
    }"""
    assert groups(cost_graph(models.load(save(tmp_path, text)))) == {"q": (16, [0])}


def test_parameters_of_parameters_belong_to_the_consumer(tmp_path: Path) -> None:
    """A chain of constants is one group with the bytes of its result."""
    text = """m (float[1, 8] x) => (float[1, 8] y) {
        shape = Constant <value = int64[2] {8, 8}> ()
        w = ConstantOfShape <value = float[1] {0.5}> (shape)
        y = MatMul(x, w)
    }"""
    assert groups(cost_graph(models.load(save(tmp_path, text)))) == {"w": (256, [0])}


def test_sequences_tie_producer_and_consumers(tmp_path: Path) -> None:
    """One colocation number per connected group, -1 elsewhere."""
    text = """m (float[4] x) => (float[8] y) {
        a = Relu(x)
        s = SequenceConstruct(a, x)
        t = SequenceInsert(s, a)
        n = SequenceLength(t)
        c = ConcatFromSequence <axis = 0> (s)
        y = Neg(c)
    }"""
    graph = cost_graph(models.load(save(tmp_path, text)))
    assert graph.node_names[0].startswith("Relu")
    # SequenceLength's result is read by nobody: it is dead, and so is SequenceInsert.
    assert graph.colocation.tolist() == [-1, 0, 0, -1]


def test_missing_costs_are_listed(tmp_path: Path) -> None:
    """The error names the nodes without a cost."""
    source = models.load(save(tmp_path, "m (float[4] x) => (float[4] y) { a = Relu(x)  y = Neg(a) }"))
    with pytest.raises(InputError, match="no cost for 1 node: Neg_1"):
        lowering.lower(source, shapes.value_infos(source), NodeCosts("file", {"Relu_0": 5}))


def test_nothing_to_split(tmp_path: Path) -> None:
    """A model whose outputs are constants has no executable node."""
    source = models.load(save(tmp_path, "m (float[1] x) => (float[1] w) <float[1] w = {1}> { y = Neg(x) }"))
    with pytest.raises(InputError, match="nothing to split: onnxruntime computes constants once"):
        lowering.lower(source, shapes.value_infos(source), NodeCosts("file", {}))


def test_work_and_provenance_are_taken_over(tmp_path: Path) -> None:
    """Costs arrive by node name; the cost model's name stays in the graph."""
    source = models.load(save(tmp_path, "m (float[4] x) => (float[4] y) { a = Relu(x)  y = Neg(a) }"))
    costs = NodeCosts("profile", {"Neg_1": 7, "Relu_0": 5}, {"runs": 3})
    graph = lowering.lower(source, shapes.value_infos(source), costs)
    assert [graph.seconds(ticks) for ticks in graph.work.tolist()] == [5e-9, 7e-9]
    assert graph.meta == {"cost_model": "profile", "runs": 3}


def test_builders_lower(tmp_path: Path) -> None:
    """Shared weights of a whole builder are one group."""
    import onnx

    onnx.save(builders.shared_weights(layers=4, width=16), tmp_path / "m.onnx")
    graph = cost_graph(models.load(tmp_path / "m.onnx"))
    assert max(len(members) for _, members in groups(graph).values()) >= 4
