"""A model with some of its nodes in slices: the same results, from nodes that different stages can hold."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping

import numpy as np
import onnx_ir as ir

from onnx_pipeline.errors import UsageError
from onnx_pipeline.model.nodes import constant_tensor
from onnx_pipeline.model.shapes import TensorInfo
from onnx_pipeline.model.sliced import can_slice, slice_tensor
from onnx_pipeline.model.source import SourceModel
from onnx_pipeline.slices.operators import BROADCAST, DOMAINS, piece_attributes
from onnx_pipeline.slices.slicing import Slicing, cut_name, describe
from onnx_pipeline.slices.which import Member, Sliceable

#: Operators through which a cut of a computed weight is passed on to what it is computed from.
_PASSED = frozenset({"Identity", "Cast", "Transpose", *BROADCAST})
#: Since this operator set, Slice reads its limits from inputs.
_SLICE_INPUTS = 10


def rewrite(
    source: SourceModel,
    infos: Mapping[str, TensorInfo],
    chosen: Iterable[tuple[Sliceable, int]],
) -> list[Slicing]:
    """Replace nodes of ``source.ir`` by slices and a Concat each; weights are not read.

    Parameters
    ----------
    source : SourceModel
        Changed in place.
    infos : mapping of str to TensorInfo
        Of the model as it was.
    chosen : iterable of (Sliceable, int)
        From :func:`onnx_pipeline.slices.which.find`, with the number of parts.

    Raises
    ------
    UsageError
        If a node cannot be divided into so many parts, or a name that the slices need is taken.
    """
    rewriter = _Rewriter(source, infos)
    place = {node: at for at, node in enumerate(source.ir.graph)}
    # In the model's order: parts of computed weights come before every node that shares them.
    ordered = sorted(chosen, key=lambda each: place[each[0].node])
    return [rewriter.divide(sliceable, parts) for sliceable, parts in ordered]


class _Rewriter:
    """Rewrites one model; parts of weights that several nodes read are made once."""

    def __init__(self, source: SourceModel, infos: Mapping[str, TensorInfo]) -> None:
        self.graph, self.infos = source.ir.graph, infos
        self.opset = source.ir.opset_imports.get("", source.ir.opset_imports.get("ai.onnx", 1))
        self.cuts: dict[tuple[ir.Value, int, int, int], ir.Value] = {}
        self.taken = _names(self.graph)

    def divide(self, sliceable: Sliceable, parts: int) -> Slicing:
        """Replace a node and what follows it."""
        slicing = describe(sliceable, parts, self.infos)
        for name in (*itertools.chain(*slicing.pieces, *slicing.values), slicing.joined):
            if name in self.taken:
                raise UsageError(f"the model has something called {name!r} already: rename it")
            self.taken.add(name)
        nodes = [member.node for member in sliceable.members]
        place = nodes[-1]
        joined: list[ir.Value] = []
        for part, (begin, end) in enumerate(itertools.pairwise(slicing.borders)):
            made: dict[ir.Value, ir.Value] = {}
            for number, member in enumerate(sliceable.members):
                inputs = [self._operand(member, i, made, (begin, end), place) for i in _count(member)]
                whole, name = member.node.outputs[0], slicing.pieces[part][number]
                value = _narrowed(whole, slicing.values[part][number], sliceable.axis, end - begin)
                self.graph.insert_before(place, _copy(member.node, inputs, value, name, end - begin))
                made[whole] = value
            joined.append(made[sliceable.result])
        self._join(sliceable, slicing, joined)
        read = [value for node in nodes for value in node.inputs if value is not None]
        self.graph.remove(nodes, safe=True)
        self._forget(read)
        return slicing

    def _operand(
        self,
        member: Member,
        index: int,
        made: Mapping[ir.Value, ir.Value],
        limits: tuple[int, int],
        place: ir.Node,
    ) -> ir.Value | None:
        value = member.node.inputs[index]
        if value is None:
            return None
        if index in member.cuts:
            return self._cut(value, member.cuts[index], *limits, place)
        return made.get(value, value)

    def _join(self, sliceable: Sliceable, slicing: Slicing, parts: list[ir.Value]) -> None:
        """Add the Concat, and let it make what the last member made."""
        old = sliceable.result
        new = ir.Value(
            name=old.name, type=old.type, shape=old.shape, doc_string=old.doc_string, metadata_props={}
        )
        new.metadata_props.update(old.metadata_props)
        new.meta.update(old.meta)
        axis = ir.AttrInt64("axis", sliceable.axis)
        concat = ir.Node("", "Concat", parts, [axis], outputs=[new], name=slicing.joined)
        self.graph.insert_before(sliceable.members[-1].node, concat)
        old.replace_all_uses_with(new, replace_graph_outputs=True)
        old.name = None

    def _cut(self, value: ir.Value, axis: int, begin: int, end: int, place: ir.Node) -> ir.Value:
        """Return a part of a constant, made when it is needed for the first time."""
        key = (value, axis, begin, end)
        if key not in self.cuts:
            self.cuts[key] = self._made(value, axis, begin, end, place)
        return self.cuts[key]

    def _made(self, value: ir.Value, axis: int, begin: int, end: int, place: ir.Node) -> ir.Value:
        name = cut_name(str(value.name), axis, begin, end)
        if name in self.taken:
            raise UsageError(f"the model has something called {name!r} already: rename it")
        self.taken.add(name)
        part = _narrowed(value, name, axis, end - begin)
        producer = value.producer()
        tensor = value.const_value if producer is None else constant_tensor(producer)
        if tensor is not None and can_slice(tensor):
            part.const_value = slice_tensor(tensor, axis, begin, end, name)
            part.shape, part.dtype = part.const_value.shape, tensor.dtype
            self.graph.register_initializer(part)
            return part
        inputs = None if producer is None else self._passed_on(producer, axis, begin, end, place)
        if producer is not None and inputs is not None:
            node = _copy(producer, inputs, part, cut_name(str(producer.name), axis, begin, end))
        else:
            node = self._slice(value, part, axis, begin, end)
        self.graph.insert_before(place, node)
        return part

    def _passed_on(
        self, node: ir.Node, axis: int, begin: int, end: int, place: ir.Node
    ) -> list[ir.Value | None] | None:
        """Return what a node reads to compute a part of a weight, if that are parts of what it reads now."""
        if node.op_type not in _PASSED or node.domain not in DOMAINS or "broadcast" in node.attributes:
            return None
        result = self._shape(node.outputs[0])
        inputs: list[ir.Value | None] = []
        for value in node.inputs:
            own = None if value is None else self._shape(value)
            if value is None or own is None or result is None or len(own) > len(result):
                return None
            at = _source_axis(node, axis, len(own), len(result))
            whole = at < 0 or own[at] == 1
            inputs.append(value if whole else self._cut(value, at, begin, end, place))
        return inputs

    def _slice(self, value: ir.Value, part: ir.Value, axis: int, begin: int, end: int) -> ir.Node:
        """Return a node that cuts a weight, computed in some other way, when a stage is loaded."""
        limits = {"starts": begin, "ends": end, "axes": axis}
        if self.opset < _SLICE_INPUTS:
            lists = [ir.AttrInt64s(key, [number]) for key, number in limits.items()]
            return ir.Node("", "Slice", [value], lists, outputs=[part], name=f"{part.name}/slice")
        inputs = [value]
        for key, number in limits.items():
            tensor = ir.tensor(np.array([number], np.int64), name=f"{part.name}/{key}")
            limit = ir.Value(name=tensor.name, const_value=tensor, shape=ir.Shape([1]))
            limit.dtype = tensor.dtype
            self.graph.register_initializer(limit)
            inputs.append(limit)
        return ir.Node("", "Slice", inputs, outputs=[part], name=f"{part.name}/slice")

    def _shape(self, value: ir.Value) -> tuple[int, ...] | None:
        info = self.infos.get(str(value.name))
        return None if info is None else info.shape

    def _forget(self, values: Iterable[ir.Value]) -> None:
        """Remove constants that nothing reads any more, and what they were computed from."""
        waiting = list(dict.fromkeys(values))
        while waiting:
            value = waiting.pop()
            if value.uses() or value.is_graph_output() or value.is_graph_input():
                continue
            producer = value.producer()
            if producer is None:
                self.graph.initializers.pop(str(value.name), None)
            elif producer.graph is self.graph and not any(v.uses() for v in producer.outputs):
                waiting += [each for each in producer.inputs if each is not None]
                self.graph.remove(producer, safe=True)


def _source_axis(node: ir.Node, axis: int, rank: int, result: int) -> int:
    """Return the axis of an operand that makes an axis of the result; negative where it has none."""
    if node.op_type != "Transpose":
        return axis - (result - rank)
    if "perm" in node.attributes:
        return int(node.attributes["perm"].as_ints()[axis])
    return rank - 1 - axis


def _count(member: Member) -> range:
    return range(len(member.node.inputs))


def _copy(
    node: ir.Node, inputs: list[ir.Value | None], output: ir.Value, name: str, width: int = 1
) -> ir.Node:
    """Return a node that does the same with other operands."""
    # Outputs that are not used, as those of BatchNormalization, are left out.
    made = ir.Node(
        node.domain,
        node.op_type,
        inputs,
        piece_attributes(node, width),
        overload=node.overload,
        outputs=[output],
        name=name,
        doc_string=node.doc_string,
    )
    made.metadata_props.update(node.metadata_props)
    return made


def _narrowed(value: ir.Value, name: str, axis: int, width: int) -> ir.Value:
    """Return a value of the same type with a narrower axis."""
    shape = None
    if value.shape is not None and axis < value.shape.rank():
        dims = list(value.shape.dims)
        dims[axis] = width
        shape = ir.Shape(dims)
    return ir.Value(name=name, type=value.type, shape=shape)


def _names(graph: ir.Graph) -> set[str]:
    names = {str(v.name) for v in (*graph.inputs, *graph.initializers.values())}
    for node in graph.all_nodes():
        names.add(str(node.name))
        names.update(str(v.name) for v in node.outputs)
    return names
