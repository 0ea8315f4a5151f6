"""How many operations an ONNX operator does and how many bytes it moves, from its shapes.

A multiply-add counts as two operations. Functions such as ``exp`` count as the handful of multiply-adds that
vectorised libraries spend on them. An operator without an entry in :data:`RULES` has no rule.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import onnx_ir

    from onnx_pipeline.model.shapes import TensorInfo

Shape = tuple[int, ...]


class UnknownShapeError(Exception):
    """A rule needs a shape that is not known."""


@dataclass(frozen=True)
class Operation:
    """One node together with what is known about its values."""

    node: onnx_ir.Node
    infos: Mapping[str, TensorInfo]

    def info(self, value: onnx_ir.Value | None) -> TensorInfo | None:
        """Return type and shape of a value, if known."""
        return None if value is None or value.name is None else self.infos.get(value.name)

    def _shape(self, value: onnx_ir.Value | None) -> Shape:
        info = self.info(value)
        if info is not None and info.shape is not None:
            return info.shape
        if value is not None and value.shape is not None and value.shape.is_static():
            return tuple(value.shape.numpy())
        raise UnknownShapeError(getattr(value, "name", None))

    def input(self, index: int) -> Shape:
        """Return the shape of an input."""
        inputs = self.node.inputs
        return self._shape(inputs[index] if index < len(inputs) else None)

    def output(self, index: int = 0) -> Shape:
        """Return the shape of an output."""
        return self._shape(self.node.outputs[index])

    def has_input(self, index: int) -> bool:
        """Whether an optional input is given."""
        return index < len(self.node.inputs) and self.node.inputs[index] is not None

    def attribute(self, name: str, default: Any = None) -> Any:
        """Return an attribute's value."""
        attribute = self.node.attributes.get(name)
        return default if attribute is None else attribute.value

    def nbytes(self, value: onnx_ir.Value | None) -> int:
        """Bytes of a value; 0 when unknown."""
        info = self.info(value)
        if info is not None:
            return info.nbytes
        if value is None or value.dtype is None or value.shape is None or not value.shape.is_static():
            return 0
        return math.ceil(math.prod(value.shape.numpy()) * value.dtype.itemsize)


Rule = Callable[[Operation], float]


def _per_output(factor: float) -> Rule:
    return lambda op: factor * math.prod(op.output())


def _per_input(factor: float) -> Rule:
    return lambda op: factor * math.prod(op.input(0))


def _conv(weight: int) -> Rule:
    """Every output element sums over one filter: weights are (channels out, channels in / group, *kernel)."""

    def rule(op: Operation) -> float:
        filter_shape = op.input(weight)[1:]
        return 2.0 * math.prod(op.output()) * math.prod(filter_shape)

    return rule


def _conv_transpose(op: Operation) -> float:
    """Every input element is spread by one filter: weights are (channels in, channels out / group, *)."""
    return 2.0 * math.prod(op.input(0)) * math.prod(op.input(1)[1:])


def _matmul(op: Operation) -> float:
    shape = op.input(0)
    inner = shape[-2] if op.attribute("transA", 0) and len(shape) > 1 else shape[-1]
    return 2.0 * math.prod(op.output()) * inner


def _attention(op: Operation) -> float:
    """Scores and weighted values for separate query, key and value: 4 * |query| * key length."""
    query = op.input(0)
    packed = not op.has_input(1)  # query, key and value in one tensor
    length = query[-2] if packed else op.input(1)[-2]
    width = math.prod(query) / (3 if packed else 1)
    return 4.0 * width * (length + _past(op))


def _past(op: Operation) -> int:
    """Length of cached keys, (batch, heads, length, width) in every form of attention."""
    index = {"Attention": 4, "GroupQueryAttention": 3, "MultiHeadAttention": 6}.get(op.node.op_type, -1)
    return op.input(index)[-2] if index >= 0 and op.has_input(index) else 0


def _projected_attention(op: Operation) -> float:
    """Attention of com.microsoft: the projection to query, key and value belongs to the operator."""
    if op.node.domain != "com.microsoft":
        return _attention(op)
    tokens, weights = op.input(0), op.input(1)
    return 2.0 * math.prod(tokens) * weights[-1] + 4.0 * math.prod(op.output()) * tokens[-2]


def _einsum(op: Operation) -> float:
    """Loop over every index of the equation once."""
    terms = op.attribute("equation", "").replace(" ", "").split("->")[0].split(",")
    sizes: dict[str, int] = {}
    for index, term in enumerate(terms):
        if "." in term:
            raise UnknownShapeError(term)
        sizes.update(zip(term, op.input(index), strict=True))
    return 2.0 * math.prod(sizes.values())


def _recurrent(op: Operation) -> float:
    """Both matrix products of every step; X is (steps, batch, width) or batch first."""
    steps = op.input(0)[0] * op.input(0)[1]
    return 2.0 * steps * (math.prod(op.input(1)) + math.prod(op.input(2)))


def _pool(op: Operation) -> float:
    window = math.prod(int(size) for size in op.attribute("kernel_shape", ()))
    return float(math.prod(op.output()) * window)


def _resize(op: Operation) -> float:
    mode = op.attribute("mode", "nearest")
    taps = {"nearest": 0, "linear": 2, "cubic": 4}.get(str(mode), 2)
    return 2.0 * math.prod(op.output()) * taps**2


def _experts(op: Operation) -> float:
    """Two matrix products per token in each of the k chosen experts; weights are (experts, in, out)."""
    tokens, first, second = op.input(0), op.input(2), op.input(5 if op.node.op_type == "QMoE" else 4)
    rows = math.prod(tokens[:-1])
    widths = max(first[1:]) + max(second[1:])
    return 2.0 * rows * int(op.attribute("k", 1)) * tokens[-1] * widths


def _fourier(op: Operation) -> float:
    """Five operations per point and doubling, the count that is usual for fast transforms."""
    points = op.input(0)
    return 5.0 * math.prod(op.output()) * math.log2(2 + max(points))


def _top_k(op: Operation) -> float:
    return math.prod(op.input(0)) * math.log2(2 + op.output()[int(op.attribute("axis", -1))])


def _words(text: str) -> list[str]:
    return text.split()


def _table() -> dict[str, Rule]:
    rules: dict[str, Rule] = {}
    for factor, names in _PER_OUTPUT.items():
        rules |= dict.fromkeys(_words(names), _per_output(factor))
    for factor, names in _PER_INPUT.items():
        rules |= dict.fromkeys(_words(names), _per_input(factor))
    rules |= dict.fromkeys((*VIEWS, *MOVES, *GATHERS), _per_output(0))
    rules |= dict.fromkeys(_words("Conv ConvInteger DeformConv FusedConv NhwcConv NhwcFusedConv"), _conv(1))
    rules |= {"QLinearConv": _conv(3), "ConvTranspose": _conv_transpose}
    rules |= {"ConvTransposeWithDynamicPads": _conv_transpose, "MoE": _experts, "QMoE": _experts}
    rules |= dict.fromkeys(_words("DFT Rfft Irfft"), _fourier)
    rules |= dict.fromkeys(_words(_MATMULS), _matmul)
    rules |= dict.fromkeys(_words(_ATTENTIONS), _attention)
    rules |= dict.fromkeys(_words("Attention QAttention PackedAttention"), _projected_attention)
    rules |= dict.fromkeys(_words("LSTM GRU RNN DynamicQuantizeLSTM"), _recurrent)
    rules |= dict.fromkeys(_words("MaxPool NhwcMaxPool AveragePool LpPool QLinearAveragePool"), _pool)
    rules |= dict.fromkeys(_words("Resize Upsample"), _resize)
    return rules | {"Einsum": _einsum, "TopK": _top_k}


_PER_OUTPUT: dict[float, str] = {
    1: """Abs Add And BitShift BitwiseAnd BitwiseNot BitwiseOr BitwiseXor Ceil Clip Equal Floor Greater
        GreaterOrEqual IsInf IsNaN LeakyRelu Less LessOrEqual Max Min Mul Neg Not Or PRelu Relu Round Sign Sub
        ThresholdedRelu Where Xor Range""",
    2: "BatchNormalization BiasAdd BiasDropout DequantizeLinear HardSigmoid Hardmax Mean Sum Shrink "
    "QLinearLeakyRelu",
    3: "HardSwish QuantizeLinear DynamicQuantizeLinear",
    4: "Div Mod Reciprocal Sqrt QLinearAdd QLinearMul QLinearConcat QLinearWhere RotaryEmbedding",
    8: """GroupNormalization InstanceNormalization LayerNormalization LpNormalization
        MeanVarianceNormalization RMSNormalization SimplifiedLayerNormalization SkipLayerNormalization
        SkipSimplifiedLayerNormalization EmbedLayerNormalization GroupNorm SkipGroupNorm""",
    12: """Celu Elu Erf Exp Log LogSoftmax Mish Selu Sigmoid Softmax Softplus Softsign Swish QuickGelu Tanh
        BiasSoftmax QLinearSigmoid QLinearSoftmax""",
    16: """Acos Acosh Asin Asinh Atan Atanh BiasGelu BiasSplitGelu Cos Cosh FastGelu Gelu LRN Pow Sin Sinh
        Tan GridSample RandomNormalLike RandomUniformLike RandomNormal RandomUniform Bernoulli""",
}
_PER_INPUT: dict[float, str] = {
    1: """ArgMax ArgMin CumSum GlobalAveragePool GlobalMaxPool QLinearGlobalAveragePool QLinearReduceMean
        ReduceMax ReduceMean ReduceMin ReduceProd ReduceSum ReduceL1 NonZero""",
    2: "GlobalLpPool ReduceL2 ReduceSumSquare",
    14: "ReduceLogSum ReduceLogSumExp",
}
_MATMULS = """MatMul Gemm MatMulInteger MatMulIntegerToFloat DynamicQuantizeMatMul QLinearMatMul QGemm
    FusedMatMul FusedGemm FusedMatMulActivation GemmFastGelu GemmFloat8 MatMulNBits MatMulBnb4 MatMulFpQ4
    TransposeMatMul"""
_ATTENTIONS = """MultiHeadAttention GroupQueryAttention DecoderMaskedMultiHeadAttention SparseAttention
    PackedMultiHeadAttention"""
#: Operators that run on bytes when everything they read has just been dequantised.
QUANTISABLE = frozenset(_words("Conv ConvTranspose MatMul Gemm"))
#: Nothing is computed or moved: the runtime passes the buffer on.
VIEWS = frozenset(_words("Dropout Flatten Identity Optional Reshape Shape Size Squeeze Unsqueeze"))
#: Every byte in is read and every byte out is written, nothing is computed.
MOVES = frozenset(
    _words("""Cast CastLike CenterCropPad Concat Constant ConstantOfShape DepthToSpace Expand EyeLike OneHot
    Pad ReverseSequence SpaceToDepth Split Tile Transpose Trilu""")
)
#: Only what is picked is read.
GATHERS = frozenset(
    _words("""Compress Gather GatherElements GatherND ScatterElements ScatterND Slice GatherBlockQuantized""")
)
#: Arithmetic on bytes whatever the output's type.
QUANTISED = frozenset(
    _words("""ConvInteger DynamicQuantizeMatMul MatMulInteger MatMulIntegerToFloat QAttention QGemm
    QLinearConv QLinearMatMul""")
)
RULES: Mapping[str, Rule] = _table()


def operations(node: onnx_ir.Node, infos: Mapping[str, TensorInfo]) -> float:
    """Operations of a node; 0 without a rule or the shapes that it needs."""
    rule = RULES.get(node.op_type)
    try:
        return 0.0 if rule is None else rule(Operation(node, infos))
    except (UnknownShapeError, IndexError, ValueError):
        return 0.0


def moved_bytes(op: Operation) -> int:
    """Bytes read and written; a value read twice by one node counts once."""
    written = sum(op.nbytes(value) for value in op.node.outputs)
    if op.node.op_type in VIEWS:
        return 0
    if op.node.op_type in GATHERS:
        return 2 * written
    return written + sum(op.nbytes(value) for value in dict.fromkeys(op.node.inputs))
