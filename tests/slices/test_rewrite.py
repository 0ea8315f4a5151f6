"""Models in slices give the same numbers, bit for bit, and are the models that they were otherwise."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnx_ir as ir
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import onnx_pipeline as op
from models.net import Net
from onnx_pipeline.errors import UsageError
from onnx_pipeline.model.inputs import make_feeds
from onnx_pipeline.model.running import open_model
from onnx_pipeline.model.shapes import value_infos
from onnx_pipeline.model.source import SourceModel, load
from onnx_pipeline.ort.session import SessionSettings
from onnx_pipeline.slices.which import Sliceable, find
from tests.slices.nets import MODELS
from tests.splitting import save

#: Real models whose results are the same bits with all optimisations, too; in the others onnxruntime fuses
#: a residual sum with the node that the Concat now parts from it.
SAME_OPTIMISED = ("convnext_tiny", "t5_small_encdec", "vit_base_static")
ZOO = (*SAME_OPTIMISED, "efficientnet_b0", "resnet50_dynbatch")


def every_node(model: Any, most: int = 3) -> dict[str, int]:
    """Return parts for every node that can be sliced."""
    source = load(model)
    found = find(source, value_infos(source))
    chosen = [each for each in found.values() if isinstance(each, Sliceable)]
    return {str(each.node.name): min(each.most, 2 + at % (most - 1)) for at, each in enumerate(chosen)}


def run(source: SourceModel, *, optimise: bool, seed: int = 0) -> list[npt.NDArray[Any]]:
    """Run a model with random inputs."""
    settings = SessionSettings(threads=1, optimise=optimise)
    results: list[npt.NDArray[Any]] = open_model(source, settings).run(None, make_feeds(source, seed=seed))
    return results


def same(model: Any, sliced: ir.Model, *, optimise: bool) -> bool:
    """Whether two models give the same bits."""
    pairs = zip(run(load(model), optimise=optimise), run(load(sliced), optimise=optimise), strict=True)
    return all(a.dtype == b.dtype and a.tobytes() == b.tobytes() for a, b in pairs)


@pytest.mark.parametrize("optimise", [False, True])
@pytest.mark.parametrize("name", sorted(MODELS))
def test_the_same_bits(name: str, optimise: bool) -> None:
    """All small models, every node in slices, with optimisations and without."""
    model = MODELS[name]()
    parts = every_node(model)
    sliced = op.slice_model(model, parts)
    onnx.checker.check_model(ir.to_proto(sliced), full_check=True)
    operators = [node.op_type for node in sliced.graph]
    assert operators.count("Concat") == len(parts) + [n.op_type for n in model.graph.node].count("Concat")
    assert same(model, sliced, optimise=optimise)


@pytest.mark.parametrize("name", ZOO)
def test_the_same_bits_of_real_models(name: str, zoo_dir: Path) -> None:
    """Every heavy node of real models in slices: bitwise without optimisations."""
    path = zoo_dir / f"{name}.onnx"
    parts = every_node(path)
    sliced = op.slice_model(path, parts)
    assert len(parts) >= 18
    assert same(path, sliced, optimise=False)
    assert name not in SAME_OPTIMISED or same(path, sliced, optimise=True)


@settings(max_examples=25, deadline=None)
@given(
    rows=st.integers(1, 5),
    inner=st.integers(1, 300),
    columns=st.integers(2, 400),
    parts=st.integers(2, 6),
    transposed=st.booleans(),
    gemm=st.booleans(),
)
def test_any_shape(rows: int, inner: int, columns: int, parts: int, transposed: bool, gemm: bool) -> None:
    """Products of any shape that can be sliced give the same bits; others are refused with the reason."""
    net = Net("any", inner)
    x = net.input("x", [rows, inner])
    transposed = transposed and gemm
    weight = net.weight(*((columns, inner) if transposed else (inner, columns)), name="w")
    bias = net.constant(net.rng.standard_normal(columns).astype(np.float32), "b")
    if gemm:
        y = net.op("Gemm", x, weight, bias, name="n", transB=int(transposed))
    else:
        y = net.op("Add", net.op("MatMul", x, weight, name="n"), bias, name="bias")
    net.output(net.op("Relu", y, name="relu", out="y"), [rows, columns])
    model = net.model()
    if columns < 160 or columns < parts:
        with pytest.raises(UsageError, match=r"cannot be sliced|can be sliced in 2 to"):
            op.slice_model(model, {"n": parts})
        return
    assert same(model, op.slice_model(model, {"n": parts}), optimise=False)


def test_names_and_types() -> None:
    """Names derive from the node's; versions, results and their types stay; new values have shapes."""
    model = MODELS["mlp"]()
    sliced = op.slice_model(model, {"first": 2})
    names = [str(node.name) for node in sliced.graph]
    assert names[:4] == ["first/slice_0", "first.add/slice_0", "gate/slice_0", "silu/slice_0"]
    assert names[8] == "first/concat"
    nodes = {str(node.name): node for node in sliced.graph}
    assert [str(v.name) for v in nodes["first/concat"].inputs] == [f"silu_out/slice_{i}" for i in range(2)]
    assert str(nodes["first/concat"].outputs[0].name) == "silu_out"
    assert (sliced.ir_version, sliced.opset_imports[""]) == (model.ir_version, model.opset_import[0].version)
    weights = {name: list(v.shape.numpy()) for name, v in sliced.graph.initializers.items() if v.shape}
    assert weights["first.weight[:, 0:96]"] == [96, 96]
    assert weights["first.weight[:, 96:200]"] == [96, 104]
    assert weights["first.weight"] == [96, 200]  # "again" reads all of it
    assert "first.bias" not in weights
    again = op.slice_model(sliced, {"first/slice_1": 1, "back": 2})
    assert same(model, again, optimise=True)


def test_the_model_given_stays(tmp_path: Path) -> None:
    """A message and a model in memory are as they were."""
    model = MODELS["mlp"]()
    before, held = model.SerializeToString(), ir.from_proto(model)
    nodes = [node.name for node in held.graph]
    op.slice_model(model, {"first": 2})
    op.slice_model(held, {"first": 2})
    assert model.SerializeToString() == before
    assert [node.name for node in held.graph] == nodes
    assert "first.weight" in held.graph.initializers


def test_what_is_left_alone(tmp_path: Path) -> None:
    """Default values, moving weights, subgraphs and functions: refused with the reason, or not looked at."""
    given = ", ".join(["0.5"] * (128 * 256))
    text = f"""m (float[2,128] x, float[128,256] given, bool flag)
        => (float[2,256] y, float[2,256] z, float[2,256] u) <float[128,256] given = {{{given}}}> {{
        top = ReduceMax <keepdims = 0> (x)
        moving = Mul(given, top)
        y = MatMul(x, moving)
        z = MatMul(x, given)
        u = If (flag) <then_branch = a () => (float[2,256] p) {{p = MatMul(x, given)}},
                       else_branch = b () => (float[2,256] q) {{q = MatMul(x, given)}}>
    }}"""
    path = save(tmp_path, text)
    source = load(path)
    found = find(source, value_infos(source))
    reasons = sorted(each for each in found.values() if isinstance(each, str))
    assert reasons == ["its weight 'given' is a model input", "its weight 'moving' is not constant"]
    with pytest.raises(UsageError, match="is a model input"):
        op.slice_model(path, {str(source.ir.graph[3].name): 2})


def test_refusals() -> None:
    """One line that names node and reason."""
    model = MODELS["convnet"]()
    for parts, reason in [
        ({"stam": 2}, "has no node 'stam'"),
        ({"deep": 2}, "Conv 'deep' cannot be sliced: its groups read different channels"),
        ({"norm": 2}, "BatchNormalization 'norm' cannot be sliced: only MatMul, Gemm, Conv"),
        ({"stem": 65}, "Conv 'stem' can be sliced in 2 to 64, not in 65"),
        ({"stem": 0}, "give a whole number, 1 or more"),
        ({"stem": True}, "give a whole number, 1 or more"),
    ]:
        with pytest.raises(UsageError) as caught:
            op.slice_model(model, parts)
        assert reason in str(caught.value)
        assert "\n" not in str(caught.value)


def test_integer_groups_stay_together(zoo_dir: Path) -> None:
    """What onnxruntime computes as one kernel on integers is not sliced."""
    source = load(zoo_dir / "mobilenetv3_qdq.onnx")
    found = find(source, value_infos(source))
    assert found
    assert all(isinstance(each, str) and "in one kernel" in each for each in found.values())


def test_a_follower_ends_where_a_second_value_is_read() -> None:
    """The activation is not sliced where something else reads what comes before it."""
    source = load(MODELS["convnet"]())
    found = find(source, value_infos(source))
    stem, wide = found["stem"], found["wide"]
    assert isinstance(stem, Sliceable)
    assert isinstance(wide, Sliceable)
    assert [m.node.name for m in stem.members] == ["stem", "norm", "relu6", "deep"]
    assert [m.node.name for m in wide.members] == ["wide"]
    sliced = op.slice_model(MODELS["convnet"](), {"stem": 2})
    groups = [n.attributes["group"].as_int() for n in sliced.graph if str(n.name).startswith("deep")]
    assert groups == [32, 32]
    assert (stem.most, wide.most) == (2, 3)
    assert wide.borders(2) == (0, 48, 96)
    assert wide.borders(5) == (0, 16, 32, 48, 64, 96)


def test_parts_of_computed_weights_come_first(tmp_path: Path) -> None:
    """Two nodes share parts of a computed weight; whichever is named first, the order holds."""
    net = Net("tied", 9)
    x = net.input("x", [2, 64])
    weight = net.weight(176, 64, name="w", fan_in=64)
    turned = net.op("Transpose", weight, name="turn", perm=[1, 0])
    first = net.op("MatMul", x, turned, name="first")
    second = net.op("MatMul", net.op("Neg", x, name="neg"), turned, name="second")
    net.output(net.op("Add", first, second, name="sum", out="y"), [2, 176])
    model = net.model()
    sliced = op.slice_model(model, {"second": 2, "first": 2})
    onnx.checker.check_model(ir.to_proto(sliced))
    assert [str(node.name) for node in sliced.graph].count("turn[:, 0:80]") == 1
    assert same(model, sliced, optimise=True)
