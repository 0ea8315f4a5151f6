"""Small models with nodes that can be sliced, each with something of its own."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx
from onnx import TensorProto

from models.net import Net


def mlp() -> onnx.ModelProto:
    """Columns with bias and activations, one of them in two steps; a weight that two products share."""
    net = Net("mlp", 1)
    x = net.input("x", [4, 96])
    first = net.weight(96, 200, name="first.weight", fan_in=96)
    bias = net.constant(net.rng.standard_normal(200).astype(np.float32), "first.bias")
    h = net.op("Add", net.op("MatMul", x, first, name="first"), bias, name="first.add")
    h = net.op("Mul", h, net.op("Sigmoid", h, name="gate"), name="silu")
    y = net.op("MatMul", net.op("Neg", x, name="neg"), first, name="again")
    both = net.op("Concat", h, y, name="both", axis=1)
    back = net.weight(400, 176, name="back.weight", fan_in=400)
    net.output(net.op("MatMul", both, back, name="back", out="y"), [4, 176])
    return net.model()


def gemms() -> onnx.ModelProto:
    """Gemm with and without transposed weights, with alpha and beta, and bias in three shapes."""
    net = Net("gemms", 2)
    x = net.input("x", [3, 64])
    for number, (transposed, shape) in enumerate([(0, (176,)), (1, (1, 176)), (1, (3, 1)), (0, (3, 176))]):
        dims = (176, 64) if transposed else (64, 176)
        weight = net.weight(*dims, name=f"w{number}", fan_in=64)
        bias = net.constant(net.rng.standard_normal(shape).astype(np.float32), f"b{number}")
        name = f"gemm{number}"
        y = net.op("Gemm", x, weight, bias, name=name, transB=transposed, alpha=0.5, beta=2.0)
        net.output(net.op("Relu", y, name=f"relu{number}", out=f"y{number}"), [3, 176])
    return net.model()


def convnet() -> onnx.ModelProto:
    """Channels with BatchNormalization and limits, a branch that ends the slices, a depthwise one."""
    net = Net("convnet", 3)
    x = net.input("image", [1, 3, 12, 12])
    x = net.op("Conv", x, net.weight(64, 3, 3, 3, name="stem.weight"), name="stem", pads=[1] * 4)
    stats = [
        net.constant(np.abs(net.rng.standard_normal(64)).astype(np.float32) + 0.5, f"norm{i}")
        for i in range(4)
    ]
    x = net.op("BatchNormalization", x, *stats, name="norm")
    low, high = net.constant(np.float32(0.0)), net.constant(np.float32(6.0))
    x = net.op("Clip", x, low, high, name="relu6")
    y = net.op("Conv", x, net.weight(64, 1, 3, 3, name="deep.weight"), name="deep", group=64, pads=[1] * 4)
    bias = net.constant(net.rng.standard_normal(96).astype(np.float32), "wide.bias")
    y = net.op("Conv", y, net.weight(96, 64, 1, 1, name="wide.weight"), bias, name="wide")
    slope = net.constant(np.abs(net.rng.standard_normal((96, 1, 1))).astype(np.float32), "slope")
    z = net.op("PRelu", y, slope, name="prelu")
    net.output(net.op("GlobalAveragePool", y, name="early", out="early"), [1, 96, 1, 1])
    net.output(net.op("GlobalMaxPool", z, name="late", out="late"), [1, 96, 1, 1])
    return net.model()


def computed() -> onnx.ModelProto:
    """Weights that the model computes: transposed, scaled, reshaped, in a Constant node."""
    net = Net("computed", 4)
    x = net.input("x", [2, 5, 32])
    turned = net.op(
        "Transpose", net.weight(160, 32, name="turned.weight", fan_in=32), name="turn", perm=[1, 0]
    )
    x = net.op("MatMul", x, turned, name="turned")
    scale = net.constant(net.rng.standard_normal((1, 192)).astype(np.float32), "scale")
    scaled = net.op("Mul", net.weight(160, 192, name="scaled.weight", fan_in=160), scale, name="scale.mul")
    rows = net.constant(net.rng.standard_normal((160, 1)).astype(np.float32), "rows")
    scaled = net.op("Mul", scaled, rows, name="rows.mul")
    x = net.op("MatMul", x, net.op("Identity", scaled, name="same"), name="scaled")
    shape = net.constant(np.array([192, 192]), "shape")
    flat = net.constant((net.rng.standard_normal(192 * 192) / 16).astype(np.float32), "flat")
    x = net.op("MatMul", x, net.op("Reshape", flat, shape, name="reshape"), name="reshaped")
    values = onnx.numpy_helper.from_array((net.rng.standard_normal((192, 192)) / 16).astype(np.float32))
    constant = net.op("Constant", name="held", value=values)
    net.output(net.op("MatMul", x, constant, name="constant", out="y"), [2, 5, 192])
    return net.model()


def integers() -> onnx.ModelProto:
    """Products of integers, with zero points for each column and for all, and what turns them into floats."""
    net = Net("integers", 5)
    rng = net.rng
    x = net.input("x", [4, 48], TensorProto.UINT8)
    weight = net.constant(rng.integers(-100, 100, (48, 176), dtype=np.int8), "weight")
    zero, zeros = net.constant(np.uint8(7)), net.constant(rng.integers(-5, 5, 176, dtype=np.int8), "zeros")
    y = net.op("MatMulInteger", x, weight, zero, zeros, name="product")
    scale = net.input("scale", [1])
    scales = net.constant(rng.random(176, dtype=np.float32), "scales")
    y = net.op("Mul", net.op("Cast", y, name="cast", to=TensorProto.FLOAT), scale, name="dynamic")
    net.output(net.op("Mul", y, scales, name="columns", out="y"), [4, 176])
    image = net.input("image", [1, 4, 6, 6], TensorProto.UINT8)
    filters = net.constant(rng.integers(-100, 100, (64, 4, 3, 3), dtype=np.int8), "filters")
    single = net.constant(np.uint8(3))
    net.output(
        net.op("ConvInteger", image, filters, single, name="filter", out="z"),
        [1, 64, 4, 4],
        TensorProto.INT32,
    )
    one, spread = net.constant(np.float32(0.02)), net.constant(rng.random(64, dtype=np.float32) / 50 + 0.001)
    none = net.constant(np.zeros(64, np.int8))
    offset = net.constant(rng.integers(-1000, 1000, 64, dtype=np.int32), "offset")
    name = "quantised"
    q = net.op("QLinearConv", image, one, single, filters, spread, none, one, single, offset, name=name)
    net.output(net.op("Identity", q, name="copy", out="q"), [1, 64, 4, 4], TensorProto.UINT8)
    each = net.constant(rng.random(176, dtype=np.float32) / 50 + 0.001)
    flat = net.constant(np.zeros(176, np.int8))
    net.output(
        net.op("QLinearMatMul", x, one, single, weight, each, flat, one, single, name="linear", out="r"),
        [4, 176],
        TensorProto.UINT8,
    )
    return net.model()


MODELS: dict[str, Callable[[], onnx.ModelProto]] = {
    "mlp": mlp,
    "gemms": gemms,
    "convnet": convnet,
    "computed": computed,
    "integers": integers,
}
