"""Which operators can be sliced, and which may follow a slice before its parts are joined again."""

from __future__ import annotations

from typing import NamedTuple

import onnx_ir as ir

#: Operators of these domains are those that :data:`HEAVY` and the sets of followers name.
DOMAINS = ("", "ai.onnx")


class Heavy(NamedTuple):
    """How an operator is sliced.

    Attributes
    ----------
    weight : int
        The input that is cut, which has to be constant.
    per_slice : tuple of int
        Further inputs that have one element, or one for every index of the output's axis, along their last
        axis (columns) or their only one (channels).
    channels : bool
        Whether axis 1 of the output is divided, channels; otherwise the last axis, columns.
    least : int
        Columns or channels that a slice has at least: with fewer, slices of 1/q take far more than 1/q.
    """

    weight: int
    per_slice: tuple[int, ...]
    channels: bool
    least: int


#: Slices are multiples of this where the whole is long enough: kernels compute so many columns at a time.
GRAIN = 16

#: Columns of a slice at least. A product of 64 or fewer sums in other blocks, where weights are not packed
#: beforehand: the results would differ in the last bits.
COLUMNS = 80
#: Channels of a slice at least: a convolution of 16 takes half as long as one of 64.
CHANNELS = 32

HEAVY: dict[str, Heavy] = {
    "MatMul": Heavy(1, (), False, COLUMNS),
    "Gemm": Heavy(1, (2,), False, COLUMNS),
    "Conv": Heavy(1, (2,), True, CHANNELS),
    # On integers every sum is exact, whatever its order.
    "MatMulInteger": Heavy(1, (3,), False, COLUMNS),
    "ConvInteger": Heavy(1, (3,), True, CHANNELS),
    "QLinearMatMul": Heavy(3, (4, 5), False, COLUMNS),
    "QLinearConv": Heavy(3, (4, 5, 8), True, CHANNELS),
}

#: Functions of one element; further inputs, such as the limits of Clip, have a single one.
UNARY = frozenset(
    {"Abs", "Cast", "Ceil", "Celu", "Clip", "Elu", "Erf"}
    | {"Exp", "Floor", "Gelu", "HardSigmoid", "HardSwish", "Identity", "LeakyRelu"}
    | {"Mish", "Neg", "Reciprocal", "Relu", "Round", "Selu", "Sigmoid"}
    | {"Sign", "Softplus", "Softsign", "Sqrt", "Swish", "Tanh", "ThresholdedRelu"}
)
#: Functions of two elements or more, with broadcasting.
BROADCAST = frozenset({"Add", "Sub", "Mul", "Div", "Pow", "PRelu", "Max", "Min"})
#: Functions of one channel.
POOLS = frozenset({"AveragePool", "GlobalAveragePool", "GlobalMaxPool", "LpPool", "MaxPool"})
#: Before operator set 7, broadcasting was said by these.
_OLD_BROADCAST = ("axis", "broadcast")


def weight_axis(node: ir.Node, rank: int) -> int:
    """Return the axis of a heavy node's weight, of so many dimensions, that makes the output's."""
    if HEAVY[node.op_type].channels:
        return 0
    if node.op_type == "Gemm":
        return 0 if attribute(node, "transB", 0) else 1
    return rank - 1


def attribute(node: ir.Node, name: str, default: int) -> int:
    """Return an integer attribute of a node."""
    return node.attributes[name].as_int() if name in node.attributes else default


def is_elementwise(node: ir.Node) -> bool:
    """Return whether every element of the output depends on one element of each input."""
    if node.op_type in UNARY:
        return node.domain in DOMAINS or (node.domain, node.op_type) == ("com.microsoft", "Gelu")
    plain = not any(name in node.attributes for name in _OLD_BROADCAST)
    return node.domain in DOMAINS and node.op_type in BROADCAST and plain


def is_per_channel(node: ir.Node) -> bool:
    """Return whether a node is a BatchNormalization as inference computes it."""
    return (
        node.op_type == "BatchNormalization"
        and node.domain in DOMAINS
        and len(node.inputs) == 5
        and not any(value.name for value in node.outputs[1:])
        and attribute(node, "training_mode", 0) == 0
        and attribute(node, "spatial", 1) == 1
    )


def is_depthwise(node: ir.Node) -> bool:
    """Return whether a node is a convolution whose channels have nothing to do with each other."""
    weight = node.inputs[1] if node.op_type == "Conv" and node.domain in DOMAINS else None
    return weight is not None and attribute(node, "group", 1) > 1


def is_pool(node: ir.Node) -> bool:
    """Return whether a node is a pooling that makes nothing else."""
    return node.op_type in POOLS and node.domain in DOMAINS and len(node.outputs) == 1


def piece_attributes(node: ir.Node, width: int) -> list[ir.Attr]:
    """Return the attributes of a part of a node that has so many channels."""
    groups = attribute(node, "group", 1)
    return [
        ir.AttrInt64("group", width) if name == "group" and groups > 1 else each
        for name, each in node.attributes.items()
    ]
