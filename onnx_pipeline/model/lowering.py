"""Model and costs -> CostGraph: what is a node, what is a tensor, what is a parameter.

Parameter nodes (:mod:`onnx_pipeline.model.roles`) do not become nodes of the cost graph. Its parameter groups
are the values that cross from initializers and parameter nodes to executable nodes, with the bytes of the
value itself: that is what a stage holds once the runtime has folded the chain that makes it. ``Identity``
adds nothing to what it copies, and ``DequantizeLinear`` counts as its quantised operand. A profile knows
better where the provider converts or rearranges weights.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import onnx_ir as ir

from onnx_pipeline.errors import InputError
from onnx_pipeline.figures import format_count
from onnx_pipeline.graph.builder import GraphBuilder
from onnx_pipeline.graph.costgraph import HOST, CostGraph, TensorType
from onnx_pipeline.model.nodes import node_inputs
from onnx_pipeline.model.quantised import fused_with
from onnx_pipeline.model.roles import executable_nodes, parameter_values
from onnx_pipeline.model.shapes import TensorInfo
from onnx_pipeline.model.source import SourceModel
from onnx_pipeline.model.typenames import dtype_text

if TYPE_CHECKING:
    from onnx_pipeline.costmodel.request import NodeCosts

#: Why a model of constants is not split; random generators are executable and need no input.
NOTHING = (
    "no output depends on an input, so there is nothing to split: onnxruntime computes constants once, when "
    "it loads the model, and no request would keep a stage busy; one file is the best that can be"
)


def lower(source: SourceModel, infos: Mapping[str, TensorInfo], costs: NodeCosts) -> CostGraph:
    """Build the cost graph of a model.

    Parameters
    ----------
    source : SourceModel
    infos : mapping of str to TensorInfo
        From :func:`onnx_pipeline.model.shapes.value_infos`.
    costs : NodeCosts
        Nanoseconds for every executable node, and what a cut adds to the tensors that cross it.

    Raises
    ------
    InputError
        If nothing is executable or a node has no cost.
    """
    nodes = executable_nodes(source)
    if not nodes:
        raise InputError(source.path, NOTHING)
    missing = [str(node.name) for node in nodes if node.name not in costs.work_ns]
    if missing:
        shown = ", ".join(missing[:10]) + (f" and {len(missing) - 10} more" if len(missing) > 10 else "")
        raise InputError(source.path, f"no cost for {format_count(len(missing), 'node')}: {shown}")
    index = {node: i for i, node in enumerate(nodes)}
    readers: dict[ir.Value, list[int]] = {}
    for node, i in index.items():
        for value in node_inputs(node):
            readers.setdefault(value, []).append(i)
    colours = _colocation(nodes, index, readers, infos)
    meta = {"cost_model": costs.kind, **costs.meta}
    if costs.spread:
        meta["node_spread"] = {name: round(spread, 4) for name, spread in costs.spread.items()}
    builder = GraphBuilder(source.ir.graph.name or source.path.stem, str(source.path), meta)
    for node, colour in zip(nodes, colours, strict=True):
        name = str(node.name)
        builder.add_node(name, costs.work_ns[name], colocation=colour, operator=node.op_type)
    _add_nets(builder, source, nodes, readers, infos, costs.border_ns)
    groups: dict[ir.Value, list[int]] = {}
    for value, root in parameter_values(source, nodes):
        groups.setdefault(root, []).extend(readers[value])
    for root, users in groups.items():
        name = str(root.name)
        size = infos[name].nbytes if name in infos else 0
        builder.add_group(name, costs.parameter_bytes.get(name, size), users)
    return builder.build()


def _add_nets(
    builder: GraphBuilder,
    source: SourceModel,
    nodes: list[ir.Node],
    readers: Mapping[ir.Value, list[int]],
    infos: Mapping[str, TensorInfo],
    border_ns: Mapping[str, float],
) -> None:
    results = set(source.outputs)
    for value in source.inputs:
        if value in readers:
            name = str(value.name)
            info = infos[name]
            builder.add_net(name, HOST, readers[value], nbytes=info.nbytes, kind=_kind(info))
    for i, node in enumerate(nodes):
        for value in node.outputs:
            if value in readers or value in results:
                name = str(value.name)
                builder.add_net(
                    name,
                    i,
                    readers.get(value, []),
                    nbytes=infos[name].nbytes,
                    to_host=value in results,
                    extra=border_ns.get(name, 0),
                    kind=_kind(infos[name]),
                )


def _kind(info: TensorInfo) -> TensorType:
    known = info.dtype != ir.DataType.UNDEFINED
    return dtype_text(info.dtype) if known else None, info.shape


def _colocation(
    nodes: list[ir.Node],
    index: Mapping[ir.Node, int],
    readers: Mapping[ir.Value, list[int]],
    infos: Mapping[str, TensorInfo],
) -> list[int]:
    """Number the groups of nodes that no stage boundary may separate; -1 for free nodes.

    A boundary carries tensors of known type and size only, so whatever else passes between nodes (sequences,
    maps, optionals, tensors that no run shows) keeps producer and consumers together. So do quantised groups.
    """
    parent = list(range(len(nodes)))

    def find(i: int) -> int:
        while parent[i] != i:
            parent[i] = parent[parent[i]]
            i = parent[i]
        return i

    tied: set[int] = set()
    for node, i in index.items():
        for partner in fused_with(node):
            if partner in index:
                tied.update((i, index[partner]))
                parent[find(index[partner])] = find(i)
        for value in node.outputs:
            if value in readers and not infos[str(value.name)].can_cross:
                tied.update((i, *readers[value]))
                for j in readers[value]:
                    parent[find(j)] = find(i)
    numbers: dict[int, int] = {}
    return [numbers.setdefault(find(i), len(numbers)) if i in tied else -1 for i in range(len(nodes))]
