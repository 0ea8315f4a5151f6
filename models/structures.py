"""Small models with one awkward structure each: everything that ONNX allows and splitters trip over.

Most are written in ONNX's textual syntax, which shows the structure better than calls would. Weights are
given or seeded; nothing is downloaded.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from models import builders
from models.net import Net
from onnx_pipeline.ort.session import SessionSettings, open_session

_OPSETS = '"" : {opset}, "local" : 1, "ai.onnx.ml" : 3, "com.microsoft" : 1'

TEXTS: dict[str, str] = {
    "nested_if": """m (float[2,2] x, bool c) => (float[2,2] y) <float[2,2] w = {1,2,3,4}> {
        a = Relu(x)
        b = Add(a, x)
        s = Sigmoid(b)
        y0 = If (c) <
            then_branch = t () => (float[2,2] p) {
                p = If (c) <
                    then_branch = tt () => (float[2,2] q) { q = MatMul(a, w) },
                    else_branch = te () => (float[2,2] r) { r = Add(b, w) }
                >
            },
            else_branch = e () => (float[2,2] z) { z = Sub(s, w) }
        >
        y1 = Mul(y0, w)
        y = Add(y1, a)
    }""",
    "scan": """m (float[3,2] x, float[2] start) => (float[2] last, float[3,2] sums) <float[2] w = {2,3}> {
        a = Relu(x)
        k = Mul(start, w)
        s, all = Scan <num_scan_inputs = 1, body = g (float[2] state, float[2] row)
            => (float[2] next, float[2] seen) {
                t = Mul(row, k)
                next = Add(state, t)
                seen = Identity(next)
            }> (start, a)
        last = Neg(s)
        sums = Abs(all)
    }""",
    "sequence": """m (float[4] x) => (float[8] y) {
        a = Relu(x)
        b = Sigmoid(a)
        s = SequenceConstruct(a, b)
        c = ConcatFromSequence <axis = 0> (s)
        d = Relu(c)
        y = Neg(d)
    }""",
    "sequence_output": """m (float[4] x) => (seq(float[4]) s, float[4] c) {
        a = Relu(x)
        b = Sigmoid(a)
        c = Neg(b)
        s = SequenceConstruct(a, b)
    }""",
    "optional": """m (float[4] x) => (float[4] y) {
        a = Relu(x)
        o = Optional(a)
        h = OptionalHasElement(o)
        g = OptionalGetElement(o)
        k = Cast <to = 1> (h)
        b = Mul(g, k)
        y = Neg(b)
    }""",
    "map": """m (int64[N] x) => (seq(map(int64, float)) z, float[N,2] y) {
        a = Abs(x)
        f = Cast <to = 1> (a)
        axis = Constant <value = int64[1] {1}> ()
        g = Unsqueeze(f, axis)
        c = Concat <axis = 1> (g, g)
        z = ai.onnx.ml.ZipMap <classlabels_int64s = [7, 9]> (c)
        y = Neg(c)
    }""",
    "strings": """m (string[N] x) => (string[N] y, float[N,2] z) {
        a = StringConcat(x, x)
        b = Identity(a)
        y = StringConcat(b, x)
        f = ai.onnx.ml.OneHotEncoder <cats_strings = ["aa", "bb"]> (b)
        z = Relu(f)
    }""",
    "bfloat16": """m (float16[N,4] x) => (bfloat16[N,4] y, float16[N,4] z) {
        a = Relu(x)
        b = Cast <to = 16> (a)
        c = Identity(b)
        y = Identity(c)
        z = Neg(a)
    }""",
    "float8": """m (float[N,4] x) => (float8e4m3fn[N,4] y, float[N,4] z) {
        a = Relu(x)
        b = Cast <to = 17> (a)
        y = Identity(b)
        c = Cast <to = 1> (b)
        z = Neg(c)
    }""",
    "int4": """m (float[5] x) => (int4[5] y, float[5] z) <float s = {0.5}> {
        a = Tanh(x)
        y = Cast <to = 22> (a)
        b = Cast <to = 1> (y)
        z = Mul(b, s)
    }""",
    "zero_size": """m (float[N,0] x, float[2,3] u) => (float[N,3] y, float[2,0] e) <float[0,3] w = {}> {
        a = Relu(x)
        y0 = MatMul(a, w)
        y = Neg(y0)
        none = Constant <value = int64[2] {2, 0}> ()
        v = Relu(u)
        begin = Constant <value = int64[1] {0}> ()
        end = Constant <value = int64[1] {0}> ()
        axis = Constant <value = int64[1] {1}> ()
        s = Slice(v, begin, end, axis)
        e = Reshape <allowzero = 1> (s, none)
    }""",
    "data_dependent": """m (float[N,3] x) => (int64[2,M] y) {
        a = Relu(x)
        n = NonZero(a)
        t = Transpose(n)
        s = Transpose(t)
        y = Abs(s)
    }""",
    "unknown_rank": """m (float[1,1] x, int64[2] shape) => (float y) {
        a = Relu(x)
        b = Reshape(a, shape)
        c = Neg(b)
        d = Abs(c)
        y = ReduceSum <keepdims = 0> (d)
    }""",
    "passed_through": """m (float[2] x, float[3] u)
        => (float[2] y, float[2] x, float[2] w, float[2] v, float[2] a) <float[2] w = {1,2}> {
        v = Add(w, w)
        a = Relu(x)
        b = Add(a, v)
        y = Add(b, w)
    }""",
    "empty_inputs": """m (float[4] x) => (float[4] y) <float one = {1}> {
        a = Relu(x)
        b = Clip(a, , one)
        y = Add(b, x)
    }""",
    "unused": """m (float[4] x, float[2] ignored) => (float[4] y)
        <float[4] w = {1,2,3,4}, float[3] idle = {5,6,7}> {
        a = Relu(x)
        dead = Add(a, w)
        b = Relu(a)
        deader = Relu(dead)
        y = Add(b, x)
    }""",
    "default_input": """m (float[4] x, float[4] w) => (float[4] y) <float[4] w = {1,2,3,4}> {
        a = Add(x, w)
        b = Relu(a)
        y = Mul(b, w)
    }""",
    "contrib_operators": """m (float[2,4] x) => (float[2,4] y)
        <float[4] b = {1,2,3,4}, float[4] g = {1,1,1,1}> {
        a = com.microsoft.BiasGelu(x, b)
        c = com.microsoft.QuickGelu(a)
        d = com.microsoft.SkipLayerNormalization(c, x, g, b)
        e = com.microsoft.FusedMatMul <transB = 1> (d, x)
        y = MatMul(e, d)
    }""",
    "functions": """m (float[4] x) => (float[4] y) {
        a = local.twice(x)
        b = Relu(a)
        y = local.outer(b)
    }
    <domain: "local", opset_import: ["" : 20]> twice (x) => (y) { y = Add(x, x) }
    <domain: "local", opset_import: ["" : 20, "local" : 1]> outer (x) => (y) { y = local.twice(x) }
    <domain: "local", opset_import: ["" : 20]> unused (x) => (y) { y = Neg(x) }
    """,
    "dynamic_quantised": """m (float[2,4] x) => (float[2,3] y)
        <int8[4,3] w = {1,2,3,4,5,6,7,8,9,-1,-2,-3}, float ws = {0.02}> {
        a = Relu(x)
        q, s, z = DynamicQuantizeLinear(a)
        i = MatMulInteger(q, w, z)
        f = Cast <to = 1> (i)
        t = Mul(s, ws)
        m = Mul(f, t)
        y = Relu(m)
    }""",
    "int4_activations": """m (float[2,4] x) => (float[2,4] y) <float s = {0.25}, int4 z = {0}> {
        a = Tanh(x)
        q = QuantizeLinear(a, s, z)
        d = DequantizeLinear(q, s, z)
        b = Neg(d)
        y = Add(b, d)
    }""",
}

RANDOM_TEXTS: dict[str, str] = {
    "random_normal": """m (float[64] x) => (float[64] y) {
        r = RandomNormal <shape = [64], seed = 1.0> ()
        s = Neg(r)
        a = Add(s, x)
        y = Abs(a)
    }""",
    "training_dropout": """m (float[256] x) => (float[256] y) <float ratio = {0.5}, bool train = {1}> {
        a = Abs(x)
        b = Dropout(a, ratio, train)
        c = Neg(b)
        y = Add(c, x)
    }""",
}


def from_text(text: str, opset: int = 20, ir_version: int = 10) -> onnx.ModelProto:
    """Parse the text of a graph and its functions."""
    header = f"<ir_version: {ir_version}, opset_import: [{_OPSETS.format(opset=opset)}]>\n"
    return onnx.parser.parse_model(header + text)


def sparse_initializer() -> onnx.ModelProto:
    """Return a model whose weight is a sparse initializer and whose bias is a sparse Constant."""
    net = Net("sparse")
    x = net.input("x", [2, 4])
    values = numpy_helper.from_array(np.array([1.0, 2.0, -3.0], np.float32), "w")
    indices = numpy_helper.from_array(np.array([0, 5, 14], np.int64), "w_indices")
    bias = helper.make_sparse_tensor(
        numpy_helper.from_array(np.array([7.0], np.float32), ""),
        numpy_helper.from_array(np.array([[3]], np.int64), ""),
        [4],
    )
    b = net.op("Constant", name="bias", sparse_value=bias)
    h = net.op("Relu", net.op("Add", net.op("MatMul", x, "w", name="mul"), b, name="add"), name="relu")
    net.output(net.op("MatMul", h, "w", name="again", out="y"), [2, 4])
    model = net.model(check=False)
    model.graph.sparse_initializer.append(helper.make_sparse_tensor(values, indices, [4, 4]))
    return model


def names_missing_and_doubled() -> onnx.ModelProto:
    """Return a chain whose nodes have no name, the same name, or one that looks like a path."""
    model = builders.mlp(4, 8)
    names = ["", "same", "same", "../../escape", "/etc/passwd", "a b\n\x07", "", "Gemm_0"]
    for node, name in zip(model.graph.node, names, strict=True):
        node.name = name
    return model


def old(opset: int = 7) -> onnx.ModelProto:
    """Return an IR 3 model of an old operator set, its initializers listed as inputs."""
    net = Net("old")
    x = net.input("x", [1, 3, 8, 8])
    weight = net.weight(4, 3, 3, 3)
    x = net.op("Conv", x, weight, kernel_shape=[3, 3], pads=[1] * 4)
    scale = net.constant(np.ones(4, np.float32))
    zero = net.constant(np.zeros(4, np.float32))
    x = net.op("BatchNormalization", x, scale, zero, zero, scale)
    x = net.op("Dropout", net.op("Relu", x), ratio=0.5)
    x = net.op("Reshape", net.op("GlobalAveragePool", x), net.constant(np.array([1, 4], np.int64)))
    net.output(net.op("Softmax", x, out="y"), [1, 4])
    model = net.model(opset=opset, check=False)
    model.ir_version = 3
    for tensor in model.graph.initializer:
        model.graph.input.append(
            helper.make_tensor_value_info(tensor.name, tensor.data_type, list(tensor.dims))
        )
    onnx.checker.check_model(model)
    return model


def wrong_shapes() -> onnx.ModelProto:
    """Return a model whose recorded shapes of inner values are wrong; symbolic names contradict, too."""
    model = builders.mlp(4, 8)
    for node in model.graph.node[:-1]:
        model.graph.value_info.append(
            helper.make_tensor_value_info(node.output[0], TensorProto.FLOAT, ["batch", "batch"])
        )
    return model


def saved_by_onnxruntime(level: str = "extended") -> onnx.ModelProto:
    """Return a small convolution net as onnxruntime saves it after its own optimisations."""
    import onnxruntime

    levels = onnxruntime.GraphOptimizationLevel
    chosen = levels.ORT_ENABLE_EXTENDED if level == "extended" else levels.ORT_ENABLE_ALL
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "m.onnx"
        settings = SessionSettings(saved_model=path, options={"graph_optimization_level": chosen})
        open_session(builders.cnn(batch=1), settings)
        return onnx.load(path)


def quantised_cnn(blocks: int = 2, channels: int = 8, seed: int = 0) -> onnx.ModelProto:
    """Return a residual net in QDQ form: int8 weights per channel, uint8 activations with two readers."""
    net = Net("quantised", seed)
    zero, step = "zero_point", "scale"
    net.weights.append(numpy_helper.from_array(np.array(128, np.uint8), zero))
    net.weights.append(numpy_helper.from_array(np.array(0.05, np.float32), step))

    def requantise(x: str, name: str) -> str:
        q = net.op("QuantizeLinear", x, step, zero, name=f"{name}.q")
        return net.op("DequantizeLinear", q, step, zero, name=f"{name}.dq")

    def conv(x: str, cin: int, name: str) -> str:
        weights = net.rng.integers(-127, 128, (channels, cin, 3, 3)).astype(np.int8)
        w = net.constant(weights, f"{name}.weight")
        scales = net.constant(net.rng.uniform(0.001, 0.003, channels).astype(np.float32), f"{name}.scales")
        zeros = net.constant(np.zeros(channels, np.int8), f"{name}.zeros")
        w = net.op("DequantizeLinear", w, scales, zeros, name=f"{name}.weight.dq", axis=0)
        y = net.op("Relu", net.op("Conv", x, w, name=name, pads=[1] * 4), name=f"{name}.relu")
        return requantise(y, name)

    x = conv(requantise(net.input("x", [1, 3, 8, 8]), "x"), 3, "stem")
    for i in range(blocks):
        inner = conv(conv(x, channels, f"b{i}.0"), channels, f"b{i}.1")
        x = requantise(net.op("Add", inner, x, name=f"b{i}.add"), f"b{i}.add")
    pooled = requantise(net.op("GlobalAveragePool", x, name="pool"), "pool")
    net.output(net.op("Flatten", pooled, name="flatten", out="y"), [1, channels])
    return net.model()


def int4_weights(seed: int = 0) -> onnx.ModelProto:
    """Return two products with one weight of 4 bits an element, dequantised by column."""
    net = Net("int4", seed)
    x = net.input("x", [2, 4])
    packed = net.rng.integers(0, 256, 8).astype(np.uint8).tobytes()
    net.weights.append(helper.make_tensor("w", TensorProto.INT4, [4, 4], packed, raw=True))
    scales = net.constant(np.linspace(0.1, 0.4, 4, dtype=np.float32), "scales")
    w = net.op("DequantizeLinear", "w", scales, name="dequantise", axis=1)
    h = net.op("Relu", net.op("MatMul", x, w, name="first"), name="relu")
    net.output(net.op("MatMul", h, w, name="second", out="y"), [2, 4])
    model = net.model(opset=21, check=False)
    model.ir_version = 10
    onnx.checker.check_model(model)
    return model


def half_precision(layers: int = 4, width: int = 32, seed: int = 0) -> onnx.ModelProto:
    """Return a chain of MatMul, Add and Tanh in float16."""
    net = Net("half", seed)
    x = net.input("x", [1, width], TensorProto.FLOAT16)
    for i in range(layers):
        w = (net.rng.standard_normal((width, width)) / width**0.5).astype(np.float16)
        b = net.constant(np.linspace(-1, 1, width).astype(np.float16), f"b{i}")
        x = net.op("Add", net.op("MatMul", x, net.constant(w, f"w{i}"), name=f"mm{i}"), b, name=f"add{i}")
        x = net.op("Tanh", x, name=f"tanh{i}", out="y" if i == layers - 1 else "")
    net.output("y", [1, width], TensorProto.FLOAT16)
    return net.model()


def with_quantization_annotations() -> onnx.ModelProto:
    """Return a chain whose values note their scales in the graph's ``quantization_annotation``."""
    model = builders.mlp(3, 8)
    for index, node in enumerate(model.graph.node[:-1]):
        scale = numpy_helper.from_array(np.array(0.1 * (index + 1), np.float32), f"scale{index}")
        model.graph.initializer.append(scale)
        note = model.graph.quantization_annotation.add(tensor_name=node.output[0])
        note.quant_parameter_tensor_names.add(key="SCALE_TENSOR", value=scale.name)
    return model


def decoder_with_past(layers: int = 2, hidden: int = 16, heads: int = 2, seed: int = 0) -> onnx.ModelProto:
    """Return a decoder that reads and returns keys and values of earlier tokens, lengths symbolic."""
    net = Net("decoder", seed)
    size = hidden // heads
    ids = net.input("input_ids", ["batch", "new"], TensorProto.INT64)
    x = net.op("Gather", net.weight(32, hidden, name="embed", fan_in=1), ids, name="gather")
    split = net.constant(np.array([0, 0, heads, size], np.int64), "split")
    merge = net.constant(np.array([0, 0, hidden], np.int64), "merge")
    scale = net.constant(np.float32(size**-0.5), "scale")
    for i in range(layers):
        past = [net.input(f"past.{i}.{kind}", ["batch", heads, "past", size]) for kind in ("key", "value")]
        parts = []
        for kind in ("query", "key", "value"):
            part = net.op("MatMul", x, net.weight(hidden, hidden), name=f"{i}.{kind}")
            part = net.op("Reshape", part, split, name=f"{i}.{kind}.split")
            parts.append(net.op("Transpose", part, name=f"{i}.{kind}.heads", perm=[0, 2, 1, 3]))
        query = parts[0]
        key, value = (
            net.op("Concat", old_part, part, name=f"{i}.{kind}.cat", out=f"present.{i}.{kind}", axis=2)
            for kind, old_part, part in zip(("key", "value"), past, parts[1:], strict=True)
        )
        turned = net.op("Transpose", key, name=f"{i}.turn", perm=[0, 1, 3, 2])
        scores = net.op("Mul", net.op("MatMul", query, turned, name=f"{i}.scores"), scale)
        mixed = net.op("MatMul", net.op("Softmax", scores, axis=-1), value, name=f"{i}.mix")
        mixed = net.op("Reshape", net.op("Transpose", mixed, perm=[0, 2, 1, 3]), merge)
        x = net.op("Add", x, net.op("MatMul", mixed, net.weight(hidden, hidden)), name=f"{i}.residual")
        up = net.op("Relu", net.op("MatMul", x, net.weight(hidden, 4 * hidden)))
        x = net.op("Add", x, net.op("MatMul", up, net.weight(4 * hidden, hidden)), name=f"{i}.out")
        for kind in ("key", "value"):
            net.output(f"present.{i}.{kind}", ["batch", heads, "total", size])
    head = net.weight(hidden, 32, name="head", fan_in=hidden)
    net.output(net.op("MatMul", x, head, name="logits", out="logits"), ["batch", "new", 32])
    return net.model()


def mixture_of_experts(experts: int = 4, hidden: int = 8, tokens: int = 6, seed: int = 0) -> onnx.ModelProto:
    """Return a router with TopK and experts that work on the tokens sent to them, shapes data-dependent."""
    net = Net("experts", seed)
    x = net.input("x", [tokens, hidden])
    gate = net.op("Softmax", net.op("MatMul", x, net.weight(hidden, experts), name="router"), axis=-1)
    one = net.constant(np.array([1], np.int64), "one")
    net.op("TopK", gate, one, name="top", out=["weight", "chosen"], axis=-1)
    total = net.op("Mul", x, net.constant(np.float32(0), "nothing"), name="empty")
    flat = net.op("Squeeze", "chosen", one, name="flat")
    for e in range(experts):
        mine = net.op("Equal", flat, net.constant(np.int64(e)), name=f"e{e}.mine")
        rows = net.op("Transpose", net.op("NonZero", mine, name=f"e{e}.rows"), name=f"e{e}.index")
        picked = net.op("GatherND", x, rows, name=f"e{e}.pick")
        up = net.op("Relu", net.op("MatMul", picked, net.weight(hidden, 2 * hidden), name=f"e{e}.up"))
        down = net.op("MatMul", up, net.weight(2 * hidden, hidden), name=f"e{e}.down")
        scaled = net.op("Mul", down, net.op("GatherND", "weight", rows), name=f"e{e}.scale")
        total = net.op("ScatterND", total, rows, scaled, name=f"e{e}.put")
    net.output(net.op("Add", total, x, name="residual", out="y"), [tokens, hidden])
    return net.model()


def detector(boxes: int = 12, classes: int = 3, seed: int = 0) -> onnx.ModelProto:
    """Return a detection head: scores and boxes, NonMaxSuppression, and a gather of what is left."""
    net = Net("detector", seed)
    x = net.input("x", [1, boxes, 8])
    corner = net.op("Sigmoid", net.op("MatMul", x, net.weight(8, 2), name="corner"))
    size = net.op("Sigmoid", net.op("MatMul", x, net.weight(8, 2), name="size"))
    where = net.op("Concat", corner, net.op("Add", corner, size), name="boxes", axis=2)
    scores = net.op("Sigmoid", net.op("MatMul", x, net.weight(8, classes), name="scores"))
    scores = net.op("Transpose", scores, name="by_class", perm=[0, 2, 1])
    limits = [net.constant(v) for v in (np.array([3], np.int64), np.array([0.5], np.float32))]
    kept = net.op("NonMaxSuppression", where, scores, *limits, net.constant(np.array([0.3], np.float32)))
    column = net.op("Gather", kept, net.constant(np.int64(2)), name="column", axis=1)
    net.output(net.op("Gather", where, column, name="left", out="kept_boxes", axis=1), [1, "kept", 4])
    net.output(net.op("Identity", kept, name="which", out="kept"), ["kept", 3], TensorProto.INT64)
    return net.model()


#: Every model by name, cheap to build; their outputs are the same at every run.
SMALL: dict[str, Callable[[], onnx.ModelProto]] = {
    **{name: partial(from_text, text, 21 if "int4" in name else 20) for name, text in TEXTS.items()},
    **{
        builder.__name__: builder
        for builder in (
            sparse_initializer,
            names_missing_and_doubled,
            old,
            wrong_shapes,
            saved_by_onnxruntime,
            quantised_cnn,
            int4_weights,
            half_precision,
            with_quantization_annotations,
            decoder_with_past,
            mixture_of_experts,
            detector,
        )
    },
}
#: Models that draw random numbers.
RANDOM: dict[str, Callable[[], onnx.ModelProto]] = {
    name: partial(from_text, text) for name, text in RANDOM_TEXTS.items()
}
