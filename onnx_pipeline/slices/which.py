"""Which nodes of a model can be sliced, into how many parts, and what follows the slices.

MatMul, Gemm and Conv with constant weights, and their quantised forms, are divided by output columns or
channels. Neighbours that need only their columns or channels follow (bias, activation, BatchNormalization,
pooling, depthwise convolution), so that the parts are joined after them: onnxruntime fuses them with the
node, and a stage sends what comes out of all of it.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import onnx_ir as ir

from onnx_pipeline.errors import UsageError, did_you_mean
from onnx_pipeline.model.quantised import fused_with, is_dequantize, is_quantize
from onnx_pipeline.model.roles import executable_nodes, parameter_nodes
from onnx_pipeline.model.shapes import TensorInfo
from onnx_pipeline.model.sliced import can_slice
from onnx_pipeline.model.source import SourceModel
from onnx_pipeline.slices.operators import (
    DOMAINS,
    GRAIN,
    HEAVY,
    attribute,
    is_depthwise,
    is_elementwise,
    is_per_channel,
    is_pool,
    weight_axis,
)

#: Nodes that are sliced together.
_MOST_MEMBERS = 16


@dataclass(frozen=True, eq=False)
class Member:
    """A node that is sliced: the heavy one, or one that follows it.

    Attributes
    ----------
    node : onnx_ir.Node
    cuts : mapping of int to int
        Inputs that are constant and cut, with the axis; others are sliced values or read as a whole.
    """

    node: ir.Node
    cuts: Mapping[int, int]


@dataclass(frozen=True, eq=False)
class Sliceable:
    """A heavy node, with what follows its slices before they are joined.

    Attributes
    ----------
    members : tuple of Member
        The heavy node first, in the model's order.
    axis : int
        Axis of the output that is divided.
    size : int
        Columns or channels.
    least : int
        Of those, what a slice has at least.
    """

    members: tuple[Member, ...]
    axis: int
    size: int
    least: int

    @property
    def node(self) -> ir.Node:
        """The heavy node."""
        return self.members[0].node

    @property
    def result(self) -> ir.Value:
        """What is joined: the only value that anything else reads."""
        return self.members[-1].node.outputs[0]

    @property
    def most(self) -> int:
        """Into how many parts at most."""
        return max(1, self.size // self.least)

    def borders(self, parts: int) -> tuple[int, ...]:
        """Return where parts begin and end, as nearly equal as multiples of 16 columns are.

        Raises
        ------
        UsageError
            If there are less than 2 parts, or more than columns or channels.
        """
        name = self.node.name
        if not 2 <= parts <= self.size:
            raise UsageError(
                f"{self.node.op_type} {name!r} can be sliced in 2 to {self.size:,}, not in {parts:,}"
            )
        grain = GRAIN if self.size >= parts * GRAIN else 1
        units = -(-self.size // grain)
        return (*(part * units // parts * grain for part in range(parts)), self.size)


def find(source: SourceModel, infos: Mapping[str, TensorInfo]) -> dict[str, Sliceable | str]:
    """Return how each MatMul, Gemm and Conv of the main graph can be sliced, or why it cannot, by name.

    Parameters
    ----------
    source : SourceModel
    infos : mapping of str to TensorInfo
        From :func:`onnx_pipeline.model.shapes.value_infos`.
    """
    finder = _Finder(source, infos)
    return {str(node.name): finder.examine(node) for node in finder.nodes if _is_heavy(node)}


def sliceable(source: SourceModel, infos: Mapping[str, TensorInfo], name: str) -> Sliceable:
    """Return how the node of that name can be sliced.

    Raises
    ------
    UsageError
        If there is no such node or it cannot be sliced; the message says why.
    """
    nodes = {str(node.name): node for node in source.ir.graph}
    if name not in nodes:
        raise UsageError(f"{source.path.name} has no node {name!r}", did_you_mean(name, nodes))
    node = nodes[name]
    found = _Finder(source, infos).examine(node)
    if isinstance(found, str):
        raise UsageError(f"{node.op_type} {name!r} cannot be sliced: {found}")
    return found


def _is_heavy(node: ir.Node) -> bool:
    return node.op_type in HEAVY and node.domain in DOMAINS


class _Finder:
    """Looks at nodes of one model."""

    def __init__(self, source: SourceModel, infos: Mapping[str, TensorInfo]) -> None:
        self.source, self.infos = source, infos
        self.nodes = executable_nodes(source)

    @cached_property
    def _place(self) -> dict[ir.Node, int]:
        return {node: at for at, node in enumerate(self.nodes)}

    @cached_property
    def _parameters(self) -> set[str]:
        return parameter_nodes(self.source)

    @cached_property
    def _tied(self) -> set[ir.Node]:
        """Nodes that are one kernel on integers with their (De)QuantizeLinear."""
        return {each for node in self.nodes for partner in fused_with(node) for each in (node, partner)}

    def examine(self, node: ir.Node) -> Sliceable | str:
        """Return how a node can be sliced, or why it cannot."""
        if not _is_heavy(node):
            return f"only {', '.join(HEAVY)} are"
        if node not in self._place:
            constant = str(node.name) in self._parameters
            return "it is computed once, when the model is loaded" if constant else "no output needs it"
        if node in self._tied:
            return "onnxruntime computes it on integers, in one kernel with its QuantizeLinear"
        kind, weight = HEAVY[node.op_type], node.inputs[HEAVY[node.op_type].weight]
        shape = self._shape(node.outputs[0])
        reason = self._unfit(weight)
        if weight is None or reason is not None:
            return reason or "it has no weight"
        if shape is None or len(shape) < (2 if kind.channels else 1):
            return "the shape of its output is not known"
        if attribute(node, "group", 1) != 1:
            return "its groups read different channels"
        axis = 1 if kind.channels else len(shape) - 1
        rank = len(self._shape(weight) or ())
        cuts = {kind.weight: weight_axis(node, rank)}
        for index in kind.per_slice:
            operand = node.inputs[index] if index < len(node.inputs) else None
            cut = None if operand is None else self._cut(operand, axis, shape, per_slice=True)
            if isinstance(cut, str):
                return cut
            if cut is not None:
                cuts[index] = cut
        size = shape[axis]
        if size < 2 * kind.least:
            what = "channels" if kind.channels else "columns"
            return f"it has {size} {what}, and a slice keeps at least {kind.least}"
        members = self._followed(Member(node, cuts), axis, shape)
        return Sliceable(members, axis, size, kind.least)

    def _shape(self, value: ir.Value) -> tuple[int, ...] | None:
        info = self.infos.get(str(value.name))
        return None if info is None or not info.can_cross else info.shape

    def _constant(self, value: ir.Value) -> bool:
        """Whether a value is the same at every run, and no caller can replace it."""
        producer = value.producer()
        if producer is None:
            return value.is_initializer() and not value.is_graph_input()
        return producer.graph is self.source.ir.graph and str(producer.name) in self._parameters

    def _unfit(self, weight: ir.Value | None) -> str | None:
        """Return why a weight cannot be cut, if so."""
        if weight is None or not self._constant(weight):
            name = "" if weight is None else f" {weight.name!r}"
            own = weight is not None and weight.is_graph_input()
            return f"its weight{name} is {'a model input' if own else 'not constant'}"
        shape = self._shape(weight)
        if shape is None or len(shape) < 2:
            return f"its weight {weight.name!r} has fewer than two dimensions"
        if (self.source.ir.ir_version or 0) < 4:
            return "before IR version 4, weights are model inputs"
        if is_dequantize(weight.producer()):
            return "onnxruntime may compute it on integers, because its weight is dequantised"
        if weight.const_value is not None and not can_slice(weight.const_value):
            return f"elements of its weight {weight.name!r} share bytes"
        return None

    def _cut(
        self, operand: ir.Value, axis: int, shape: tuple[int, ...], *, per_slice: bool = False
    ) -> int | str | None:
        """Return the axis of an operand to cut, None where slices read it as a whole, or why neither will do.

        ``per_slice`` operands of one dimension have an element for every slice of any axis.
        """
        own = self._shape(operand)
        if own is None:
            return f"the shape of {operand.name!r} is not known"
        if math.prod(own) == 1:
            return None if len(own) <= len(shape) else f"{operand.name!r} adds a dimension"
        if per_slice and len(own) == 1:
            at = 0
        elif len(own) > len(shape):
            return f"{operand.name!r} adds a dimension"
        else:
            at = axis - (len(shape) - len(own))
        if at < 0 or own[at] == 1:
            return None
        if not self._constant(operand):
            return f"{operand.name!r} is not constant"
        return at if own[at] == shape[axis] else f"{operand.name!r} has another size"

    def _followed(self, start: Member, axis: int, shape: tuple[int, ...]) -> tuple[Member, ...]:
        """Return the heavy node with as many followers as leave a single value to join.

        Candidates come in the model's order. Between them several values may be read outside: x of
        ``x * sigmoid(x)`` until the product has followed. No cycle can arise: everything that follows leads
        to the joined value, so nothing that one of them reads depends on it.
        """
        members, inside = [start], {start.node}
        values = {start.node.outputs[0]}
        waiting: list[int] = []
        kept = 1

        def consider(value: ir.Value) -> None:
            for reader in value.consumers():
                if reader in self._place and self._place[reader] not in waiting and reader not in inside:
                    heapq.heappush(waiting, self._place[reader])

        consider(start.node.outputs[0])
        while waiting and len(members) < _MOST_MEMBERS:
            node = self.nodes[heapq.heappop(waiting)]
            member = self._follower(node, values, axis, shape)
            if member is None:
                continue
            members.append(member)
            inside.add(node)
            values.add(node.outputs[0])
            consider(node.outputs[0])
            if sum(_leaves(value, inside) for value in values) == 1:
                kept = len(members)
        return tuple(members[:kept])

    def _follower(
        self, node: ir.Node, sliced: set[ir.Value], axis: int, shape: tuple[int, ...]
    ) -> Member | None:
        """Return a node as a member if slices of its operands are all that slices of its output need."""
        outputs = [value for value in node.outputs if value.name]
        made = self._shape(outputs[0]) if len(outputs) == 1 else None
        if node in self._tied or made is None or len(made) != len(shape) or made[axis] != shape[axis]:
            return None
        if any(is_quantize(reader) for reader in outputs[0].consumers()):
            return None
        channels = axis == 1 and (is_per_channel(node) or is_pool(node) or self._depthwise(node, shape[1]))
        if not channels and not is_elementwise(node):
            return None
        cuts: dict[int, int] = {}
        for index, operand in enumerate(node.inputs):
            if operand is None or (operand in sliced and not (channels and index)):
                continue
            if channels and (index == 0 or operand in sliced or not self._constant(operand)):
                return None
            if channels:
                cuts[index] = 0
                continue
            cut = self._cut(operand, axis, shape)
            if isinstance(cut, str):
                return None
            if cut is not None:
                cuts[index] = cut
        return Member(node, cuts)

    def _depthwise(self, node: ir.Node, channels: int) -> bool:
        """Whether a node is a convolution with a filter of its own for each of so many channels."""
        weight = self._shape(node.inputs[1]) if is_depthwise(node) and node.inputs[1] is not None else None
        groups = attribute(node, "group", 1)
        return weight is not None and groups == channels and weight[:2] == (channels, 1)


def _leaves(value: ir.Value, inside: set[ir.Node]) -> bool:
    """Whether a value is read by other nodes than these, or by the caller."""
    return value.is_graph_output() or any(reader not in inside for reader in value.consumers())
