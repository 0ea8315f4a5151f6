"""Architectures at their real sizes, with random weights, for measurements.

Smaller sizes through the parameters make the same topologies quick enough for tests. Batch normalisation
is folded into the convolutions, as exporters of inference models do it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
import onnx
from onnx import TensorProto

from models.builders import bert_base, resnet50
from models.net import Net


def _conv(
    net: Net, x: str, cin: int, cout: int, kernel: int, name: str, *, stride: int = 1, groups: int = 1
) -> str:
    weight = net.weight(cout, cin // groups, kernel, kernel, name=f"{name}.weight")
    bias = net.constant(np.zeros(cout, np.float32), f"{name}.bias")
    pads = [(kernel - stride + 1) // 2 if kernel == stride else kernel // 2] * 4
    return net.op("Conv", x, weight, bias, name=name, strides=[stride] * 2, pads=pads, group=groups)


def _linear(net: Net, x: str, cin: int, cout: int, name: str) -> str:
    weight = net.weight(cin, cout, name=f"{name}.weight", fan_in=cin)
    bias = net.constant(np.zeros(cout, np.float32), f"{name}.bias")
    return net.op("Add", net.op("MatMul", x, weight, name=f"{name}.matmul"), bias, name=f"{name}.add")


def _norm(net: Net, x: str, width: int, name: str) -> str:
    scale = net.constant(np.ones(width, np.float32), f"{name}.scale")
    shift = net.constant(np.zeros(width, np.float32), f"{name}.shift")
    return net.op("LayerNormalization", x, scale, shift, name=name, axis=-1, epsilon=1e-5)


def _gelu(net: Net, x: str, name: str) -> str:
    root, one, half = (net.constant(np.float32(v)) for v in (math.sqrt(2), 1.0, 0.5))
    erf = net.op("Erf", net.op("Div", x, root, name=f"{name}.div"), name=f"{name}.erf")
    gate = net.op("Mul", x, net.op("Add", erf, one, name=f"{name}.add"), name=f"{name}.gate")
    return net.op("Mul", gate, half, name=f"{name}.half")


def _head(net: Net, x: str, width: int, classes: int) -> onnx.ModelProto:
    x = net.op("Flatten", net.op("GlobalAveragePool", x, name="pool"), name="flatten")
    weight = net.weight(classes, width, name="head.weight")
    bias = net.constant(np.zeros(classes, np.float32), "head.bias")
    net.output(net.op("Gemm", x, weight, bias, name="head", out="logits", transB=1), [1, classes])
    return net.model()


# kernel, expansion, channels out, squeeze-and-excitation, hard-swish, stride
_MOBILE_BLOCKS = (
    (3, 16, 16, False, False, 1),
    (3, 64, 24, False, False, 2),
    (3, 72, 24, False, False, 1),
    (5, 72, 40, True, False, 2),
    (5, 120, 40, True, False, 1),
    (5, 120, 40, True, False, 1),
    (3, 240, 80, False, True, 2),
    (3, 200, 80, False, True, 1),
    (3, 184, 80, False, True, 1),
    (3, 184, 80, False, True, 1),
    (3, 480, 112, True, True, 1),
    (3, 672, 112, True, True, 1),
    (5, 672, 160, True, True, 2),
    (5, 960, 160, True, True, 1),
    (5, 960, 160, True, True, 1),
)


def mobilenetv3(image: int = 224, seed: int = 0) -> onnx.ModelProto:
    """MobileNetV3-Large: inverted residuals, squeeze-and-excitation, hard-swish.

    References
    ----------
    Howard et al., *Searching for MobileNetV3*, ICCV 2019, table 1.
    """
    net = Net("mobilenetv3", seed)

    def act(x: str, hard: bool, name: str) -> str:
        return net.op("HardSwish" if hard else "Relu", x, name=name)

    x = net.input("image", [1, 3, image, image])
    x, cin = act(_conv(net, x, 3, 16, 3, "stem", stride=2), True, "stem.act"), 16
    for i, (kernel, wide, cout, squeeze, hard, stride) in enumerate(_MOBILE_BLOCKS):
        at, shortcut = f"block{i}", x
        if wide != cin:
            x = act(_conv(net, x, cin, wide, 1, f"{at}.expand"), hard, f"{at}.expand.act")
        x = act(
            _conv(net, x, wide, wide, kernel, f"{at}.depth", stride=stride, groups=wide),
            hard,
            f"{at}.depth.act",
        )
        if squeeze:
            inner = max(8, wide // 32 * 8)
            s = net.op("GlobalAveragePool", x, name=f"{at}.squeeze")
            s = net.op("Relu", _conv(net, s, wide, inner, 1, f"{at}.squeeze.down"), name=f"{at}.squeeze.relu")
            s = net.op(
                "HardSigmoid",
                _conv(net, s, inner, wide, 1, f"{at}.squeeze.up"),
                name=f"{at}.gate",
                alpha=1 / 6,
            )
            x = net.op("Mul", x, s, name=f"{at}.scale")
        x = _conv(net, x, wide, cout, 1, f"{at}.project")
        if stride == 1 and cin == cout:
            x = net.op("Add", x, shortcut, name=f"{at}.add")
        cin = cout
    x = act(_conv(net, x, cin, 960, 1, "last"), True, "last.act")
    x = net.op("GlobalAveragePool", x, name="last.pool")
    x = act(_conv(net, x, 960, 1280, 1, "wide"), True, "wide.act")
    return _head(net, x, 1280, 1000)


def convnext(
    depths: Sequence[int] = (3, 3, 9, 3), width: int = 96, image: int = 224, seed: int = 0
) -> onnx.ModelProto:
    """ConvNeXt-T: 7x7 depthwise convolutions, LayerNormalization and pointwise products in channels-last.

    References
    ----------
    Liu et al., *A ConvNet for the 2020s*, CVPR 2022, section 2.
    """
    net = Net("convnext", seed)

    def norm(x: str, channels: int, name: str) -> str:
        x = net.op("Transpose", x, name=f"{name}.last", perm=(0, 2, 3, 1))
        x = _norm(net, x, channels, f"{name}.norm")
        return net.op("Transpose", x, name=f"{name}.first", perm=(0, 3, 1, 2))

    x = net.input("image", [1, 3, image, image])
    weight = net.weight(width, 3, 4, 4, name="stem.weight")
    x = norm(net.op("Conv", x, weight, name="stem", strides=[4, 4]), width, "stem.norm")
    channels = width
    for level, depth in enumerate(depths):
        if level:
            x = norm(x, channels, f"down{level}")
            weight = net.weight(2 * channels, channels, 2, 2, name=f"down{level}.weight")
            x = net.op("Conv", x, weight, name=f"down{level}", strides=[2, 2])
            channels *= 2
        for i in range(depth):
            at, shortcut = f"level{level}.{i}", x
            x = _conv(net, x, channels, channels, 7, f"{at}.depth", groups=channels)
            x = net.op("Transpose", x, name=f"{at}.last", perm=(0, 2, 3, 1))
            x = _linear(net, _norm(net, x, channels, f"{at}.norm"), channels, 4 * channels, f"{at}.up")
            x = _linear(net, _gelu(net, x, f"{at}.gelu"), 4 * channels, channels, f"{at}.down")
            scale = net.constant(np.full(channels, 1e-2, np.float32), f"{at}.scale.weight")
            x = net.op("Mul", x, scale, name=f"{at}.scale")
            x = net.op("Transpose", x, name=f"{at}.first", perm=(0, 3, 1, 2))
            x = net.op("Add", x, shortcut, name=f"{at}.add")
    return _head(net, x, channels, 1000)


def densenet(
    blocks: Sequence[int] = (6, 12, 24, 16), growth: int = 32, image: int = 224, seed: int = 0
) -> onnx.ModelProto:
    """DenseNet-121: every layer reads the concatenation of all layers before it in its block.

    References
    ----------
    Huang et al., *Densely Connected Convolutional Networks*, CVPR 2017, table 1.
    """
    net = Net("densenet", seed)

    def bn_relu(x: str, channels: int, name: str) -> str:
        one, zero = np.ones(channels, np.float32), np.zeros(channels, np.float32)
        values = [net.constant(v) for v in (one, zero, zero, one)]
        return net.op(
            "Relu", net.op("BatchNormalization", x, *values, name=f"{name}.bn"), name=f"{name}.relu"
        )

    x = net.input("image", [1, 3, image, image])
    x = net.op("Relu", _conv(net, x, 3, 2 * growth, 7, "stem", stride=2), name="stem.relu")
    x = net.op("MaxPool", x, name="stem.pool", kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1])
    channels = 2 * growth
    for b, layers in enumerate(blocks):
        for i in range(layers):
            at = f"block{b}.{i}"
            y = _conv(net, bn_relu(x, channels, f"{at}.pre"), channels, 4 * growth, 1, f"{at}.reduce")
            y = _conv(net, net.op("Relu", y, name=f"{at}.mid"), 4 * growth, growth, 3, f"{at}.grow")
            x = net.op("Concat", x, y, name=f"{at}.concat", axis=1)
            channels += growth
        if b < len(blocks) - 1:
            x = bn_relu(x, channels, f"shrink{b}")
            x = _conv(net, x, channels, channels // 2, 1, f"shrink{b}.conv")
            x = net.op("AveragePool", x, name=f"shrink{b}.pool", kernel_shape=[2, 2], strides=[2, 2])
            channels //= 2
    return _head(net, bn_relu(x, channels, "last"), channels, 1000)


def _attention(net: Net, x: str, width: int, heads: int, at: str, *, causal: str = "") -> str:
    """Multi-head attention from one joint projection; ``causal`` names an additive mask."""
    joint = _linear(net, x, width, 3 * width, f"{at}.qkv")
    parts = [f"{at}.q", f"{at}.k", f"{at}.v"]
    sizes = net.constant(np.array([width] * 3, np.int64))
    net.op("Split", joint, sizes, name=f"{at}.split", out=parts, axis=2)
    shape = net.constant(np.array([0, 0, heads, width // heads], np.int64))
    query, key, value = (
        net.op("Transpose", net.op("Reshape", p, shape, name=f"{p}.heads"), name=f"{p}.t", perm=perm)
        for p, perm in zip(parts, ((0, 2, 1, 3), (0, 2, 3, 1), (0, 2, 1, 3)), strict=True)
    )
    scale = net.constant(np.float32(1 / math.sqrt(width // heads)))
    scores = net.op("Mul", net.op("MatMul", query, key, name=f"{at}.scores"), scale, name=f"{at}.scale")
    if causal:
        scores = net.op("Add", scores, causal, name=f"{at}.mask")
    mixed = net.op(
        "MatMul", net.op("Softmax", scores, name=f"{at}.softmax", axis=-1), value, name=f"{at}.mix"
    )
    mixed = net.op("Transpose", mixed, name=f"{at}.merge", perm=(0, 2, 1, 3))
    merged = net.constant(np.array([0, 0, width], np.int64))
    return _linear(net, net.op("Reshape", mixed, merged, name=f"{at}.joined"), width, width, f"{at}.out")


def _block(net: Net, x: str, width: int, heads: int, at: str, causal: str = "") -> str:
    """One pre-norm transformer block."""
    y = _attention(net, _norm(net, x, width, f"{at}.norm1"), width, heads, f"{at}.attn", causal=causal)
    x = net.op("Add", x, y, name=f"{at}.res1")
    y = _linear(net, _norm(net, x, width, f"{at}.norm2"), width, 4 * width, f"{at}.up")
    y = _linear(net, _gelu(net, y, f"{at}.gelu"), 4 * width, width, f"{at}.down")
    return net.op("Add", x, y, name=f"{at}.res2")


def gpt2(
    layers: int = 12,
    width: int = 768,
    heads: int = 12,
    seq: int = 128,
    vocab: int = 50257,
    seed: int = 0,
) -> onnx.ModelProto:
    """GPT-2 (small): pre-norm decoder with a causal mask and logits by the tied embedding.

    References
    ----------
    Radford et al., *Language Models are Unsupervised Multitask Learners*, 2019, section 2.3.
    """
    net = Net("gpt2", seed)
    ids = net.input("input_ids", [1, seq], TensorProto.INT64)
    table = net.weight(vocab, width, name="embed.tokens", fan_in=width)
    places = net.weight(seq, width, name="embed.positions", fan_in=width)
    x = net.op("Add", net.op("Gather", table, ids, name="embed"), places, name="embed.add")
    mask = net.constant(np.triu(np.full((seq, seq), -1e4, np.float32), 1), "causal")
    for i in range(layers):
        x = _block(net, x, width, heads, f"layer{i}", mask)
    x = _norm(net, x, width, "last.norm")
    turned = net.op("Transpose", table, name="head.transpose", perm=(1, 0))
    net.output(net.op("MatMul", x, turned, name="head", out="logits"), [1, seq, vocab])
    return net.model()


def vit_base(
    layers: int = 12, width: int = 768, heads: int = 12, image: int = 224, patch: int = 16, seed: int = 0
) -> onnx.ModelProto:
    """ViT-B/16.

    References
    ----------
    Dosovitskiy et al., *An Image is Worth 16x16 Words*, ICLR 2021, table 1.
    """
    net = Net("vit", seed)
    tokens = (image // patch) ** 2
    x = net.input("image", [1, 3, image, image])
    weight = net.weight(width, 3, patch, patch, name="patch.weight")
    x = net.op("Conv", x, weight, name="patch", strides=[patch] * 2)
    x = net.op("Reshape", x, net.constant(np.array([0, width, tokens], np.int64)), name="patch.flat")
    x = net.op("Transpose", x, name="patch.tokens", perm=(0, 2, 1))
    first = net.weight(1, 1, width, name="class.token")
    x = net.op("Concat", first, x, name="class", axis=1)
    x = net.op("Add", x, net.weight(tokens + 1, width, name="positions"), name="positions.add")
    for i in range(layers):
        x = _block(net, x, width, heads, f"layer{i}")
    x = net.op("Gather", _norm(net, x, width, "last.norm"), net.constant(np.int64(0)), name="first", axis=1)
    net.output(net.op("Identity", _linear(net, x, width, 1000, "head"), name="end", out="logits"), [1, 1000])
    return net.model()


def unet(
    width: int = 64, levels: int = 4, image: int = 128, classes: int = 2, seed: int = 0
) -> onnx.ModelProto:
    """U-Net: a contracting and an expanding path with long skip connections.

    References
    ----------
    Ronneberger, Fischer, Brox, *U-Net*, MICCAI 2015, figure 1.
    """
    net = Net("unet", seed)

    def double(x: str, cin: int, cout: int, at: str) -> str:
        x = net.op("Relu", _conv(net, x, cin, cout, 3, f"{at}.0"), name=f"{at}.0.relu")
        return net.op("Relu", _conv(net, x, cout, cout, 3, f"{at}.1"), name=f"{at}.1.relu")

    x, cin, skips = net.input("image", [1, 3, image, image]), 3, []
    for level in range(levels):
        x = double(x, cin, width << level, f"down{level}")
        cin = width << level
        skips.append(x)
        x = net.op("MaxPool", x, name=f"pool{level}", kernel_shape=[2, 2], strides=[2, 2])
    x = double(x, cin, 2 * cin, "middle")
    cin *= 2
    for level in reversed(range(levels)):
        weight = net.weight(cin, cin // 2, 2, 2, name=f"up{level}.weight", fan_in=cin)
        x = net.op("ConvTranspose", x, weight, name=f"up{level}", strides=[2, 2], kernel_shape=[2, 2])
        x = net.op("Concat", skips[level], x, name=f"up{level}.concat", axis=1)
        x = double(x, cin, cin // 2, f"up{level}.double")
        cin //= 2
    x = _conv(net, x, cin, classes, 1, "head")
    net.output(net.op("Identity", x, name="end", out="mask"), [1, classes, image, image])
    return net.model()


def qdq(
    blocks: Sequence[int] = (2, 2, 2, 2), width: int = 64, image: int = 224, seed: int = 0
) -> onnx.ModelProto:
    """ResNet-18 quantised to 8 bits as QuantizeLinear / DequantizeLinear pairs around every convolution.

    References
    ----------
    He et al. 2016 for the architecture; the QDQ form is that of onnxruntime's static quantisation.
    """
    net = Net("qdq", seed)
    scale = net.constant(np.float32(0.05), "scale")
    zero = net.constant(np.uint8(128), "zero")

    def fake(x: str, name: str) -> str:
        coded = net.op("QuantizeLinear", x, scale, zero, name=f"{name}.q")
        return net.op("DequantizeLinear", coded, scale, zero, name=f"{name}.dq")

    def conv(x: str, cin: int, cout: int, kernel: int, name: str, stride: int = 1) -> str:
        values = net.rng.integers(-127, 128, (cout, cin, kernel, kernel), dtype=np.int8)
        step = net.constant(np.full(cout, 0.01 / math.sqrt(cin * kernel * kernel), np.float32))
        zeros = net.constant(np.zeros(cout, np.int8))
        coded = net.constant(values, f"{name}.weight")
        weight = net.op("DequantizeLinear", coded, step, zeros, name=f"{name}.weight.dq", axis=0)
        return net.op(
            "Conv", x, weight, name=name, strides=[stride] * 2, pads=[kernel // 2] * 4
        )  # fmt: skip

    def relu(x: str, name: str) -> str:
        return fake(net.op("Relu", x, name=f"{name}.relu"), name)

    x = fake(net.input("image", [1, 3, image, image]), "input")
    x = relu(conv(x, 3, width, 7, "stem", 2), "stem")
    x = net.op("MaxPool", x, name="stem.pool", kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1])
    x, cin = fake(x, "stem.pooled"), width
    for level, count in enumerate(blocks):
        cout = width << level
        for i in range(count):
            at, stride = f"layer{level}.{i}", 2 if level and not i else 1
            y = relu(conv(x, cin, cout, 3, f"{at}.0", stride), f"{at}.0")
            y = fake(conv(y, cout, cout, 3, f"{at}.1"), f"{at}.1")
            short = x if cin == cout else fake(conv(x, cin, cout, 1, f"{at}.down", stride), f"{at}.down")
            x = relu(net.op("Add", y, short, name=f"{at}.add"), f"{at}")
            cin = cout
    return _head(net, x, cin, 1000)


#: What the fidelity benchmark measures, by name.
REAL: dict[str, Callable[[], onnx.ModelProto]] = {
    "resnet50": resnet50,
    "mobilenetv3": mobilenetv3,
    "convnext": convnext,
    "densenet121": densenet,
    "bert-base": bert_base,
    "gpt2": gpt2,
    "vit-base": vit_base,
    "unet": unet,
    "resnet18-qdq": qdq,
}
