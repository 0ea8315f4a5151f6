"""Property: whatever random model, whatever cut, the chained stages are the model."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import onnx
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from models.net import Net
from onnx_pipeline.verification.checks import inspect
from tests.splitting import split

UNARY = (
    *("Relu", "Tanh", "Sigmoid", "Neg", "Abs", "Exp", "Softplus", "Elu", "Selu", "HardSigmoid", "LeakyRelu"),
    *(
        "Erf",
        "Ceil",
        "Floor",
        "Round",
        "Sign",
        "Sin",
        "Cos",
        "Identity",
        "HardSwish",
        "Softsign",
        "Reciprocal",
    ),
    *("Softmax", "LogSoftmax", "LpNormalization", "Hardmax", "Celu", "ThresholdedRelu"),
)
BINARY = ("Add", "Sub", "Mul", "Max", "Min", "Mean", "Sum", "PRelu", "Div")
SHAPED = ("MatMul", "Gemm", "Transpose", "Concat", "Split", "LayerNormalization", "Where", "Clip", "Quantise")
SHAPED += ("Flatten", "Cast", "TopK", "CumSum", "Gather", "ReduceMean", "If")
SIZE = 4


def _branch(op_type: str, x: str, tag: str) -> onnx.GraphProto:
    branch = Net(tag, prefix=f"{tag}_")
    branch.output(branch.op(op_type, x, out=f"{tag}_y"), [SIZE, SIZE])
    return branch.graph()


def _shaped(net: Net, kind: str, x: str, other: str, at: int) -> str:
    """Add one operator that needs weights, attributes or several nodes; every value is 4 x 4."""
    if kind in ("MatMul", "Gemm"):
        return net.op(kind, x, net.weight(SIZE, SIZE), name=f"n{at}")
    if kind == "Concat":
        both = net.op("Concat", x, other, name=f"n{at}c", axis=0)
        return net.op("MatMul", net.weight(SIZE, 2 * SIZE), both, name=f"n{at}")
    if kind == "Split":
        net.op("Split", x, name=f"n{at}s", out=[f"n{at}a", f"n{at}b"], axis=1)
        return net.op("Concat", f"n{at}b", f"n{at}a", name=f"n{at}", axis=1)
    if kind == "LayerNormalization":
        return net.op(kind, x, net.constant(np.ones(SIZE, np.float32)), name=f"n{at}")
    if kind == "Where":
        return net.op(kind, net.op("Greater", x, other, name=f"n{at}g"), x, other, name=f"n{at}")
    if kind == "Clip":
        return net.op(kind, x, "", net.constant(np.array(1.5, np.float32).reshape(())), name=f"n{at}")
    if kind == "Quantise":
        step = net.constant(np.array([0.1] * SIZE, np.float32))
        q = net.op("QuantizeLinear", x, step, name=f"n{at}q", axis=1)
        return net.op("DequantizeLinear", q, step, name=f"n{at}", axis=1)
    if kind == "Cast":
        return net.op(kind, net.op(kind, x, name=f"n{at}i", to=11), name=f"n{at}", to=1)
    if kind == "TopK":
        count = net.constant(np.array([SIZE], np.int64))
        return net.op(kind, x, count, name=f"n{at}", out=[f"n{at}v", f"n{at}i"])
    if kind == "CumSum":
        return net.op(kind, x, net.constant(np.array([1], np.int64)), name=f"n{at}")
    if kind == "Gather":
        return net.op(kind, x, net.constant(np.array([3, 0, 0, 2], np.int64)), name=f"n{at}")
    if kind == "ReduceMean":
        return net.op("Sub", x, net.op(kind, x, name=f"n{at}m", axes=[1]), name=f"n{at}")
    if kind == "If":
        total = net.op("ReduceSum", x, name=f"n{at}t", keepdims=0)
        yes = net.op("Greater", total, net.op("ReduceSum", other, name=f"n{at}u", keepdims=0), name=f"n{at}g")
        then, other_graph = _branch("Neg", x, f"t{at}"), _branch("Abs", other, f"e{at}")
        return net.op(kind, yes, name=f"n{at}", then_branch=then, else_branch=other_graph)
    return net.op(kind, x, name=f"n{at}")


@st.composite
def models(draw: st.DrawFn) -> tuple[onnx.ModelProto, int]:
    """Draw a model of 4 to 14 steps with one or two inputs and a few outputs, and a number of stages."""
    net = Net("random", draw(st.integers(0, 1000)))
    values = [net.input(f"x{i}", [SIZE, SIZE]) for i in range(draw(st.integers(1, 2)))]
    steps = draw(st.integers(4, 14))
    for at in range(steps):
        kind = draw(st.sampled_from((*UNARY, *BINARY, *SHAPED)))
        x, other = draw(st.sampled_from(values)), draw(st.sampled_from(values))
        if kind in UNARY:
            values.append(net.op(kind, x, name=f"n{at}"))
        elif kind in BINARY:
            values.append(net.op(kind, x, other, name=f"n{at}"))
        else:
            values.append(_shaped(net, kind, x, other, at))
    made = [v for v in values if not v.startswith("x")]
    for name in dict.fromkeys([made[-1], *draw(st.lists(st.sampled_from(made), max_size=2))]):
        net.output(name, [SIZE, SIZE])
    return net.model(), draw(st.integers(2, 6))


@settings(max_examples=60, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(models())
def test_random_models(drawn: tuple[onnx.ModelProto, int]) -> None:
    """Bit for bit without the runtime's optimisations, within the tolerance with them."""
    model, stages = drawn
    with tempfile.TemporaryDirectory() as name:
        path = Path(name) / "m.onnx"
        onnx.save(model, path)
        split(path, Path(name) / "out", stages)
        report = inspect(Path(name) / "out", model=path)
        assert report.problems == ()
        equal = all(check.equal for check in report.outputs)
        assert equal or "are bitwise equal" in report.notes[0]
