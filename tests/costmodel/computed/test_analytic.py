"""Computed costs: operations and bytes checked by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import onnx
import pytest
from onnx import parser

from onnx_pipeline.costmodel import Device, cost_model
from onnx_pipeline.costmodel.computed.flops import RULES, Operation, moved_bytes
from onnx_pipeline.costmodel.request import CostRequest, NodeCosts
from onnx_pipeline.model.dimensions import bound_dims
from onnx_pipeline.model.roles import executable_nodes
from onnx_pipeline.model.shapes import value_infos
from onnx_pipeline.model.source import load

# One operation and one byte per nanosecond: costs can be read off.
UNIT = Device("unit", peak_flops={"float32": 1e9, "int8": 4e9}, memory_bandwidth=1e18)
BYTES = Device("bytes", peak_flops={"float32": 1e18}, memory_bandwidth=1e9)


def request_for(folder: Path, text: str, device: Device = UNIT, infos: Any = None) -> CostRequest:
    """Make a request for the model of a piece of ONNX text."""
    path = folder / "model.onnx"
    onnx.save(parser.parse_model(text), path)
    source = load(path)
    dims = bound_dims(source, {})
    if infos is None:
        infos = value_infos(source, dims)
    return CostRequest(source, infos, executable_nodes(source), dims, None, device)


def price(folder: Path, inputs: str, statement: str, device: Device = UNIT) -> float:
    """Price one operator; the output's type is left to inference."""
    header = '<ir_version: 10, opset_import: ["": 17, "com.microsoft": 1]>'
    text = f"{header} g ({inputs}) => (float y0) {{ {statement} }}"
    model = parser.parse_model(text)
    model.graph.output[0].type.ClearField("value")
    path = folder / "model.onnx"
    onnx.save(model, path)
    source = load(path)
    infos = value_infos(source, {})
    request = CostRequest(source, infos, executable_nodes(source), {}, None, device)
    (cost,) = cost_model("analytic")(request).work_ns.values()
    return cost


@pytest.mark.parametrize(
    ("inputs", "statement", "flops"),
    [
        # 8 x 3 x 3 weights for each of 16 x 10 x 10 outputs
        (
            "float[1,8,10,10] x, float[16,8,3,3] w",
            "y0 = Conv<pads=[1,1,1,1]>(x, w)",
            2 * 16 * 100 * 8 * 9,
        ),
        # depthwise: one filter of 9 per output
        (
            "float[1,8,10,10] x, float[8,1,3,3] w",
            "y0 = Conv<group=8, pads=[1,1,1,1]>(x, w)",
            2 * 8 * 100 * 9,
        ),
        # each of 8 x 25 inputs spreads over 4 x 2 x 2
        (
            "float[1,8,5,5] x, float[8,4,2,2] w",
            "y0 = ConvTranspose<strides=[2,2]>(x, w)",
            2 * 8 * 25 * 4 * 4,
        ),
        ("float[2,3,4] x, float[4,5] w", "y0 = MatMul(x, w)", 2 * 2 * 3 * 5 * 4),
        ("float[7,3] x, float[7,5] w", "y0 = Gemm<transA=1>(x, w)", 2 * 3 * 5 * 7),
        ("float[2,3] x, float[3,4] w", 'y0 = Einsum<equation="ij,jk->ik">(x, w)', 2 * 2 * 3 * 4),
        ("float[6,7] x", "y0 = Relu(x)", 42),
        ("float[6,7] x", "y0 = ReduceSum(x)", 42),
        ("float[1,2,8,8] x", "y0 = MaxPool<kernel_shape=[2,2], strides=[2,2]>(x)", 2 * 16 * 4),
        ("float[6,7] x", "y0 = Softmax(x)", 12 * 42),
        ("float[6,7] x, float[7] s, float[7] b", "y0 = LayerNormalization(x, s, b)", 8 * 42),
        # 5 steps of batch 2: 4 gates, width 3 in, 6 hidden
        (
            "float[5,2,3] x, float[1,24,3] w, float[1,24,6] r",
            "y0 = LSTM<hidden_size=6>(x, w, r)",
            2 * 10 * 24 * (3 + 6),
        ),
    ],
)
def test_operations(tmp_path: Path, inputs: str, statement: str, flops: int) -> None:
    """Operations of known layers, counted by hand."""
    assert price(tmp_path, inputs, statement) == pytest.approx(flops)


@pytest.mark.parametrize(
    ("inputs", "statement", "flops"),
    [
        ("uint8[3,4] x, uint8[4,5] w", "y0 = MatMulInteger(x, w)", 2 * 3 * 5 * 4),
        ("uint8[1,2,4,4] x, uint8[8,2,1,1] w", "y0 = ConvInteger(x, w)", 2 * 8 * 16 * 2),
        (
            "uint8[1,2,4,4] x, float s, uint8 z, int8[8,2,1,1] w, int8 wz",
            "y0 = QLinearConv(x, s, z, w, s, wz, s, z)",
            2 * 8 * 16 * 2,
        ),
    ],
)
def test_quantised_forms_run_at_the_byte_rate(
    tmp_path: Path, inputs: str, statement: str, flops: int
) -> None:
    """Integer arithmetic counts at the int8 rate, whatever it accumulates in."""
    assert price(tmp_path, inputs, statement) == pytest.approx(flops / 4)


def test_attention() -> None:
    """Scores and weighted values: 4 x |query| x length of the keys, cached ones included."""

    def known(name: str, *shape: int) -> onnx.ValueInfoProto:
        return onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, shape)

    import onnx_ir

    def flops(op: str, domain: str, inputs: list[str]) -> float:
        node = onnx.helper.make_node(op, inputs, ["y"], domain=domain)
        given = [known("q", 2, 10, 64), known("k", 2, 20, 64), known("p", 2, 8, 5, 8), known("w", 64, 192)]
        graph = onnx.helper.make_graph([node], "g", given, [known("y", 2, 10, 64)])
        model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid(domain, 1)])
        return RULES[op](Operation(onnx_ir.from_proto(model).graph[0], {}))

    assert flops("MultiHeadAttention", "com.microsoft", ["q", "k", "k"]) == 4 * 2 * 10 * 64 * 20
    assert flops("Attention", "", ["q", "k", "k", "", "p", "p"]) == 4 * 2 * 10 * 64 * 25
    projected = 2 * 2 * 10 * 64 * 192 + 4 * 2 * 10 * 64 * 10
    assert flops("Attention", "com.microsoft", ["q", "w"]) == projected


@pytest.mark.parametrize(
    ("inputs", "statement", "nbytes"),
    [
        ("float[6,7] x, float[7] b", "y0 = Add(x, b)", 4 * (42 + 7 + 42)),
        ("float[6,7] x", "y0 = Mul(x, x)", 4 * (42 + 42)),
        ("float[1000,7] x, int64[2] i", "y0 = Gather(x, i)", 2 * 4 * 14),
        ("float[6,7] x", "y0 = Transpose(x)", 4 * 84),
        ("float[6,7] x, int64[1] s", "y0 = Flatten(x)", 0),
    ],
)
def test_bytes(tmp_path: Path, inputs: str, statement: str, nbytes: int) -> None:
    """Bytes moved: every operand once, of a table only what is picked, nothing for a view."""
    assert price(tmp_path, inputs, statement, BYTES) == pytest.approx(nbytes)


def test_roofline_and_launch(tmp_path: Path) -> None:
    """The larger of both sides counts, plus the launch."""
    device = Device("d", peak_flops={"float32": 1e9}, memory_bandwidth=1e9, launch_overhead=1e-6)
    assert price(tmp_path, "float[6,7] x", "y0 = Relu(x)", device) == pytest.approx(4 * 84 + 1000)
    assert price(tmp_path, "float[64,64] x", "y0 = MatMul(x, x)", device) == pytest.approx(2 * 64**3 + 1000)


def test_operator_without_a_rule_is_listed(tmp_path: Path) -> None:
    """It is priced by the bytes it moves, and its type is named."""
    text = """<ir_version: 8, opset_import: ["": 17]>
        g (float[4, 4] x) => (float y) { d = Det(x)
            y = Relu(d) }"""
    costs = cost_model("analytic")(request_for(tmp_path, text, BYTES))
    assert costs.estimated == ("Det",)
    assert list(costs.work_ns.values()) == [4 * (16 + 1), 8]


def test_same_name_in_another_domain_has_no_rule(tmp_path: Path) -> None:
    """A custom operator called like a standard one is not taken for it."""
    text = """<ir_version: 8, opset_import: ["": 17, "mine": 1]>
        g (float[4, 4] x) => (float[4, 4] y) { y = mine.MatMul(x, x) }"""
    model = parser.parse_model(text)
    onnx.save(model, tmp_path / "model.onnx")
    source = load(tmp_path / "model.onnx")
    request = CostRequest(source, {}, executable_nodes(source), {}, None, UNIT)
    assert cost_model("analytic")(request).estimated == ("MatMul",)


def test_unknown_shapes_are_listed(tmp_path: Path) -> None:
    """Without shapes a node still has a cost, and is listed."""
    text = """<ir_version: 8, opset_import: ["": 17]>
        g (float[n, 4] x) => (float[n, 4] y) { y = Relu(x) }"""
    costs = cost_model("analytic")(request_for(tmp_path, text, infos={}))
    assert costs.estimated == ("Relu",)
    assert list(costs.work_ns.values()) == [0]


def test_control_flow_and_functions(tmp_path: Path) -> None:
    """A loop is priced by its body times its constant trip count, a call by its function's body."""
    text = """<ir_version: 8, opset_import: ["": 17, "local": 1]>
        g (float[8, 8] x) => (float[8, 8] y) {
            n = Constant <value = int64 {3}> ()
            t = Constant <value = bool {1}> ()
            b = Loop (n, t, x) <body = body (int64 i, bool ci, float[8, 8] s)
                => (bool co, float[8, 8] so) { co = Identity(ci)
                    so = MatMul(s, x) }>
            y = local.f (b)
        }
        <domain: "local", opset_import: ["": 17]> f (p) => (q) { q = Relu(p) }"""
    costs: NodeCosts = cost_model("analytic")(request_for(tmp_path, text))
    loop, call = costs.work_ns.values()
    assert loop == pytest.approx(3 * 2 * 8**3)
    assert call >= 0
    assert {"Loop", "f"} <= set(costs.estimated)


def test_every_rule_is_for_an_operator_that_exists() -> None:
    """No misspelt names among the rules of standard operators; the rest are onnxruntime's own."""
    standard = {schema.name for schema in onnx.defs.get_all_schemas()}
    import onnxruntime.capi.onnxruntime_pybind11_state as native

    known = standard | {schema.name for schema in native.get_all_operator_schema()}
    elsewhere = {"Upsample", "NhwcFusedConv", "FusedMatMulActivation"}
    assert set(RULES) - known <= elsewhere


def test_zoo_has_rules(zoo_dir: Path) -> None:
    """Every operator of the real models has a rule, and ResNet-50 its 8.2 GFLOP."""
    for name, gflops in (("resnet50_dynbatch", 8.2), ("mobilenetv3_qdq", 0.47), ("t5_small_encdec", 3.1)):
        source = load(zoo_dir / f"{name}.onnx")
        dims = bound_dims(source, {})
        request = CostRequest(source, value_infos(source, dims), executable_nodes(source), dims, None, UNIT)
        costs = cost_model("analytic")(request)
        assert costs.estimated == ()
        assert costs.meta["flops"] / 1e9 == pytest.approx(gflops, rel=0.03)


def test_moved_bytes_of_an_absent_input(tmp_path: Path) -> None:
    """Optional inputs that are left out move nothing."""
    text = """<ir_version: 8, opset_import: ["": 17]>
        g (float[4] x, float m) => (float[4] y) { y = Clip(x, , m) }"""
    request = request_for(tmp_path, text)
    assert moved_bytes(Operation(request.nodes[0], request.infos)) == 4 * (4 + 1 + 4)
