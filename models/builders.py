"""Seeded builders of whole models: small by default for tests, real sizes through parameters.

Everything here is written for this repository; the architectures follow the papers named in the
docstrings, the weights are random. Nothing is downloaded.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto

from models.net import Dim, Net


def mlp(layers: int = 4, width: int = 16, batch: Dim = 1, seed: int = 0) -> onnx.ModelProto:
    """Chain of ``Gemm -> Relu``: 2 * ``layers`` nodes, one input, one output."""
    net = Net("mlp", seed)
    x = net.input("x", [batch, width])
    for i in range(layers):
        x = net.op("Gemm", x, net.weight(width, width), net.weight(width), name=f"fc{i}")
        x = net.op("Relu", x, name=f"relu{i}", out="y" if i == layers - 1 else "")
    net.output("y", [batch, width])
    return net.model()


def cnn(
    blocks: Sequence[int] = (1, 1),
    width: int = 8,
    image: int = 32,
    classes: int = 10,
    *,
    bottleneck: bool = False,
    batch: Dim = "batch",
    seed: int = 0,
) -> onnx.ModelProto:
    """Residual network: Conv, BatchNormalization, Relu, Add, pooling and a Gemm head.

    Parameters
    ----------
    blocks : sequence of int
        Residual blocks per resolution; the width doubles and the resolution halves from one to the next.
    width : int
        Channels of the first resolution.
    image : int
        Height and width of the input, a multiple of ``2 ** (len(blocks) + 1)``.
    bottleneck : bool
        1x1-3x3-1x1 blocks that widen four times, as in the 50-layer network.

    References
    ----------
    He, Zhang, Ren, Sun, *Deep Residual Learning for Image Recognition*, CVPR 2016, table 1.
    """
    net = Net("cnn", seed)

    def conv_bn(x: str, cin: int, cout: int, kernel: int, stride: int, name: str) -> str:
        w = net.weight(cout, cin, kernel, kernel, name=f"{name}.weight")
        x = net.op(
            "Conv", x, w, name=f"{name}.conv", strides=[stride, stride], pads=[kernel // 2] * 4
        )  # fmt: skip
        scale, shift = net.constant(np.ones(cout, np.float32)), net.constant(np.zeros(cout, np.float32))
        mean = net.constant(0.1 * net.rng.standard_normal(cout, dtype=np.float32))
        variance = net.constant(net.rng.uniform(0.5, 1.5, cout).astype(np.float32))
        return net.op("BatchNormalization", x, scale, shift, mean, variance, name=f"{name}.bn")

    x = net.input("image", [batch, 3, image, image])
    x = net.op("Relu", conv_bn(x, 3, width, 7, 2, "stem"), name="stem.relu")
    x = net.op("MaxPool", x, name="stem.pool", kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1])
    cin = width
    for level, count in enumerate(blocks):
        inner = width << level
        cout = 4 * inner if bottleneck else inner
        for index in range(count):
            name = f"layer{level + 1}.{index}"
            stride = 2 if level and not index else 1
            shortcut = x if cin == cout and stride == 1 else conv_bn(x, cin, cout, 1, stride, f"{name}.down")
            kernels = (1, 3, 1) if bottleneck else (3, 3)
            channels = (cin, inner, inner, cout) if bottleneck else (cin, inner, cout)
            for i, kernel in enumerate(kernels):
                step = stride if i == len(kernels) // 2 - (not bottleneck) else 1
                x = conv_bn(x, channels[i], channels[i + 1], kernel, step, f"{name}.{i}")
                if i < len(kernels) - 1:
                    x = net.op("Relu", x, name=f"{name}.{i}.relu")
            x = net.op("Relu", net.op("Add", x, shortcut, name=f"{name}.add"), name=f"{name}.relu")
            cin = cout
    x = net.op("Flatten", net.op("GlobalAveragePool", x, name="pool"), name="flatten")
    head = net.weight(classes, cin, name="head.weight")
    bias = net.constant(np.zeros(classes, np.float32), "head.bias")
    net.output(net.op("Gemm", x, head, bias, name="head", out="logits", transB=1), [batch, classes])
    return net.model()


def resnet50(batch: Dim = 1, seed: int = 0) -> onnx.ModelProto:
    """ResNet-50 (He et al. 2016) at its real size: 25.6 million random weights, 102 MB."""
    return cnn((3, 4, 6, 3), 64, 224, 1000, bottleneck=True, batch=batch, seed=seed)


def transformer_encoder(
    layers: int = 2,
    hidden: int = 32,
    heads: int = 2,
    seq: Dim = 8,
    vocab: int = 64,
    *,
    batch: Dim = 1,
    max_positions: int = 512,
    seed: int = 0,
) -> onnx.ModelProto:
    """BERT-like encoder: embeddings, self-attention with a mask, GELU from Erf, LayerNormalization.

    With a symbolic ``seq`` the positions are sliced by shape arithmetic, as exporters write it.

    References
    ----------
    Devlin et al., *BERT: Pre-training of Deep Bidirectional Transformers*, NAACL 2019, section 3.
    """
    net = Net("transformer_encoder", seed)
    ids = net.input("input_ids", [batch, seq], TensorProto.INT64)
    mask = net.input("attention_mask", [batch, seq], TensorProto.INT64)
    numbers = {i: net.constant(np.array([i], np.int64), f"axis_{i}") for i in (0, 1, 2)}

    def norm(x: str, name: str) -> str:
        scale, shift = net.constant(np.ones(hidden, np.float32)), net.constant(np.zeros(hidden, np.float32))
        return net.op("LayerNormalization", x, scale, shift, name=name, axis=-1, epsilon=1e-5)

    def linear(x: str, cin: int, cout: int, name: str) -> str:
        w = net.weight(cin, cout, name=f"{name}.weight", fan_in=cin)
        bias = net.constant(np.zeros(cout, np.float32), f"{name}.bias")
        return net.op("Add", net.op("MatMul", x, w, name=f"{name}.matmul"), bias, name=f"{name}.add")

    table = net.weight(vocab, hidden, name="embed.tokens", fan_in=1)
    x = net.op("Gather", table, ids, name="embed.gather")
    if isinstance(seq, int):
        positions = net.weight(seq, hidden, name="embed.positions", fan_in=1)
    else:
        whole = net.weight(max_positions, hidden, name="embed.positions", fan_in=1)
        length = net.op("Gather", net.op("Shape", ids, name="embed.shape"), numbers[1], name="embed.length")
        positions = net.op("Slice", whole, numbers[0], length, numbers[0], name="embed.slice")
    x = norm(net.op("Add", x, positions, name="embed.add"), "embed.norm")

    # 0 where the mask is 1, very negative where it is 0; broadcast over heads and queries.
    wide = net.op(
        "Unsqueeze", mask, net.constant(np.array([1, 2], np.int64), "mask_axes"), name="mask.unsqueeze"
    )
    kept = net.op("Cast", wide, name="mask.cast", to=TensorProto.FLOAT)
    dropped = net.op("Sub", net.constant(np.float32(1.0), "one"), kept, name="mask.invert")
    bias = net.op("Mul", dropped, net.constant(np.float32(-1e4), "minus_big"), name="mask.bias")

    split = net.constant(np.array([0, 0, heads, hidden // heads], np.int64), "split_heads")
    merge = net.constant(np.array([0, 0, hidden], np.int64), "merge_heads")
    scale = net.constant(np.float32(1 / math.sqrt(hidden // heads)), "attention_scale")
    root, half = net.constant(np.float32(math.sqrt(2)), "sqrt_2"), net.constant(np.float32(0.5), "half")
    for i in range(layers):
        at = f"layer{i}"
        query, key, value = (
            net.op(
                "Transpose",
                net.op(
                    "Reshape", linear(x, hidden, hidden, f"{at}.{part}"), split, name=f"{at}.{part}.reshape"
                ),
                name=f"{at}.{part}.transpose",
                perm=perm,
            )
            for part, perm in (("query", (0, 2, 1, 3)), ("key", (0, 2, 3, 1)), ("value", (0, 2, 1, 3)))
        )
        scores = net.op("Mul", net.op("MatMul", query, key, name=f"{at}.scores"), scale, name=f"{at}.scale")
        scores = net.op("Add", scores, bias, name=f"{at}.mask")
        weights = net.op("Softmax", scores, name=f"{at}.softmax", axis=-1)
        context = net.op("MatMul", weights, value, name=f"{at}.context")
        context = net.op("Transpose", context, name=f"{at}.context.transpose", perm=(0, 2, 1, 3))
        context = net.op("Reshape", context, merge, name=f"{at}.context.reshape")
        attended = linear(context, hidden, hidden, f"{at}.output")
        x = norm(net.op("Add", attended, x, name=f"{at}.residual1"), f"{at}.norm1")
        inner = linear(x, hidden, 4 * hidden, f"{at}.up")
        erf = net.op("Erf", net.op("Div", inner, root, name=f"{at}.gelu.div"), name=f"{at}.gelu.erf")
        gate = net.op("Mul", net.op("Add", erf, net.constant(np.float32(1.0)), name=f"{at}.gelu.add"), half)
        inner = net.op("Mul", inner, gate, name=f"{at}.gelu.mul")
        x = norm(net.op("Add", linear(inner, 4 * hidden, hidden, f"{at}.down"), x), f"{at}.norm2")
    net.output(net.op("Identity", x, name="last", out="last_hidden_state"), [batch, seq, hidden])
    return net.model()


def bert_base(seq: Dim = 128, batch: Dim = 1, seed: int = 0) -> onnx.ModelProto:
    """BERT-base (Devlin et al. 2019) at its real size: 109 million random weights, 435 MB."""
    return transformer_encoder(12, 768, 12, seq, 30522, batch=batch, seed=seed)


def branching(
    modules: int = 3, width: int = 8, image: int = 16, *, batch: Dim = 1, seed: int = 0
) -> onnx.ModelProto:
    """Inception-like net: four parallel branches per module joined by Concat, and one output per module.

    References
    ----------
    Szegedy et al., *Going Deeper with Convolutions*, CVPR 2015, figure 2.
    """
    net = Net("branching", seed)

    def conv(x: str, cin: int, kernel: int, name: str) -> str:
        w = net.weight(width, cin, kernel, kernel, name=f"{name}.weight")
        return net.op("Relu", net.op("Conv", x, w, name=name, pads=[kernel // 2] * 4), name=f"{name}.relu")

    x, cin = net.input("image", [batch, 3, image, image]), 3
    for m in range(modules):
        pooled = net.op("MaxPool", x, name=f"m{m}.pool", kernel_shape=[3, 3], pads=[1, 1, 1, 1])
        branches = [
            conv(x, cin, 1, f"m{m}.b1"),
            conv(conv(x, cin, 1, f"m{m}.b3.reduce"), width, 3, f"m{m}.b3"),
            conv(conv(x, cin, 1, f"m{m}.b5.reduce"), width, 5, f"m{m}.b5"),
            conv(pooled, cin, 1, f"m{m}.bp"),
        ]
        x, cin = net.op("Concat", *branches, name=f"m{m}.concat", axis=1), 4 * width
        features = net.op("Flatten", net.op("GlobalAveragePool", x, name=f"m{m}.gap"), name=f"m{m}.flatten")
        head = net.weight(cin, 5, name=f"m{m}.head.weight", fan_in=cin)
        net.output(net.op("MatMul", features, head, name=f"m{m}.head", out=f"logits{m}"), [batch, 5])
    return net.model()


def multi_output(width: int = 8, seed: int = 0) -> onnx.ModelProto:
    """Awkward edges, all legal.

    A Split with four outputs of which one is unused; a node with skipped optional inputs; an output
    (``early``) that is also consumed inside; a tensor from the first node used only by the last; a model
    input (``passed``) that is also a model output; an input that nothing reads (``unread``).
    """
    net = Net("multi_output", seed)
    x = net.input("x", [2, 4 * width])
    net.input("passed", [2, width])
    net.input("unread", [3])
    first = net.op("Gemm", x, net.weight(4 * width, 4 * width), name="first")
    parts = [f"part{i}" for i in range(4)]
    net.op("Split", first, name="split", out=parts, axis=1)
    early = net.op("Mul", parts[0], parts[1], name="early_mul", out="early")
    upper = net.constant(np.float32(6.0), "upper")
    clipped = net.op("Clip", net.op("Add", early, "passed", name="join"), "", upper, name="clip")
    mixed = net.op("Gemm", clipped, net.weight(width, width), name="mix")
    for i in range(3):
        mixed = net.op("Tanh", net.op("Add", mixed, parts[2], name=f"add{i}"), name=f"tanh{i}")
    tiled = net.op("Concat", mixed, mixed, mixed, mixed, name="concat", axis=1)
    net.op("Add", tiled, first, name="skip", out="late")
    for name, size in (("early", width), ("late", 4 * width), ("passed", width), ("part2", width)):
        net.output(name, [2, size])
    return net.model()


def shared_weights(layers: int = 4, width: int = 16, seed: int = 0) -> onnx.ModelProto:
    """Layers that all read one weight, and a chain of Constant nodes that every layer's bias comes from."""
    net = Net("shared_weights", seed)
    x = net.input("x", [1, width])
    shared = net.weight(width, width, name="shared")
    value = onnx.numpy_helper.from_array(np.linspace(-1, 1, width, dtype=np.float32))
    bias = net.op("Neg", net.op("Constant", name="base", value=value), name="bias")
    for i in range(layers):
        x = net.op("MatMul", x, shared, name=f"matmul{i}")
        x = net.op("Tanh", net.op("Add", x, bias, name=f"add{i}"), name=f"tanh{i}")
    net.output(net.op("MatMul", x, shared, name="tied", out="y"), [1, width])
    return net.model()


def with_subgraph(width: int = 8, seed: int = 0) -> onnx.ModelProto:
    """If and Loop whose bodies capture outer tensors and an initializer, one nested in the other.

    ``choose`` (If) captures ``hidden`` and the initializer ``outer_weight``. ``loop`` (Loop) captures
    ``hidden`` and holds an If that captures ``outer_weight``, the loop's own state and the model input ``x``.
    """
    net = Net("with_subgraph", seed)
    x = net.input("x", [1, width])
    net.weight(width, width, name="outer_weight")
    hidden = net.op("Tanh", net.op("MatMul", x, "outer_weight", name="pre"), name="act", out="hidden")
    total = net.op("ReduceSum", hidden, name="total", keepdims=0)
    positive = net.op("Greater", total, net.constant(np.float32(0.0), "zero"), name="positive")

    then, other = Net("then", prefix="then_"), Net("other", prefix="other_")
    then.output(then.op("MatMul", hidden, "outer_weight", out="then_y"), [1, width])
    other.output(other.op("Sub", hidden, x, out="other_y"), [1, width])
    chosen = net.op("If", positive, name="choose", then_branch=then.graph(), else_branch=other.graph())

    even, odd = Net("even", prefix="even_"), Net("odd", prefix="odd_")
    even.output(even.op("MatMul", "state", "outer_weight", out="even_y"), [1, width])
    odd.output(odd.op("Add", "state", x, out="odd_y"), [1, width])
    body = Net("body", prefix="body_")
    body.input("iteration", [], TensorProto.INT64)
    body.input("keep", [], TensorProto.BOOL)
    body.input("state", [1, width])
    remainder = body.op("Mod", "iteration", body.constant(np.int64(2)))
    is_even = body.op("Equal", remainder, body.constant(np.int64(0)))
    stepped = body.op("If", is_even, then_branch=even.graph(), else_branch=odd.graph())
    body.output(body.op("Identity", "keep", out="body_keep"), [], TensorProto.BOOL)
    body.output(body.op("Tanh", body.op("Add", stepped, hidden), out="body_state"), [1, width])
    trips = net.constant(np.int64(3), "trips")
    looped = net.op("Loop", trips, "", chosen, name="loop", body=body.graph())

    y = net.op("Add", net.op("Relu", looped, name="relu"), chosen, name="sum")
    net.output(net.op("MatMul", y, "outer_weight", name="post", out="y"), [1, width])
    return net.model()


def with_function(layers: int = 3, width: int = 8, seed: int = 0) -> onnx.ModelProto:
    """Calls of a model-local function with an attribute, which itself calls a second; a third is unused."""
    domain = "onnx_pipeline.test"

    def function(
        name: str, inputs: list[str], nodes: list[onnx.NodeProto], attributes: Sequence[str] = ()
    ) -> onnx.FunctionProto:
        imports = [onnx.helper.make_opsetid("", 17), onnx.helper.make_opsetid(domain, 1)]
        return onnx.helper.make_function(
            domain, name, inputs, ["out"], nodes, imports, attributes=list(attributes)
        )  # fmt: skip

    make = onnx.helper.make_node
    leaky = make("LeakyRelu", ["mixed"], ["active"])
    leaky.attribute.append(
        onnx.AttributeProto(name="alpha", type=onnx.AttributeProto.FLOAT, ref_attr_name="slope")
    )
    functions = [
        function("Swish", ["a"], [make("Sigmoid", ["a"], ["s"]), make("Mul", ["a", "s"], ["out"])]),
        function(
            "Layer",
            ["a", "w"],
            [make("MatMul", ["a", "w"], ["mixed"]), leaky, make("Swish", ["active"], ["out"], domain=domain)],
            ["slope"],
        ),
        function("Unused", ["a"], [make("Neg", ["a"], ["out"])]),
    ]
    net = Net("with_function", seed)
    x = net.input("x", [1, width])
    for i in range(layers):
        x = net.op("Layer", x, net.weight(width, width), name=f"layer{i}", domain=domain, slope=0.1 * (i + 1))
        x = net.op("Tanh", x, name=f"tanh{i}", out="y" if i == layers - 1 else "")
    net.output("y", [1, width])
    return net.model(functions, [domain])


def with_external_data(directory: Path, layers: int = 4, width: int = 64, seed: int = 0) -> Path:
    """Save :func:`mlp` with its weights in one external file beside it; return the model's path."""
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / "model.onnx"
    onnx.save_model(
        mlp(layers, width, seed=seed),
        path,
        save_as_external_data=True,
        location="weights.bin",
        size_threshold=0,
    )
    return path


#: Every builder at its small default size, by name: milliseconds to build and to run.
SMALL: dict[str, Callable[[], onnx.ModelProto]] = {
    builder.__name__: builder
    for builder in (
        mlp,
        cnn,
        transformer_encoder,
        branching,
        multi_output,
        shared_weights,
        with_subgraph,
        with_function,
    )
}
