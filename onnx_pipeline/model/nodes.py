"""What a node reads and holds: its inputs with those its subgraphs capture, its subgraphs, its constant."""

from __future__ import annotations

from collections.abc import Iterator

import onnx_ir as ir


def node_inputs(node: ir.Node) -> tuple[ir.Value, ...]:
    """Return the distinct values that a node reads, those captured by its subgraphs (nested too) included.

    Values that live inside the subgraphs are left out, and so are absent optional inputs.
    """
    found: dict[ir.Value, None] = {v: None for v in node.inputs if v is not None}
    for graph in node_graphs(node):
        for inner in graph.all_nodes():
            found.update((v, None) for v in inner.inputs if v is not None and v.graph is node.graph)
        for sub in (graph, *(g for n in graph.all_nodes() for g in node_graphs(n))):
            found.update((v, None) for v in sub.outputs if v.graph is node.graph)
    return tuple(found)


def node_graphs(node: ir.Node) -> Iterator[ir.Graph]:
    """Yield the subgraphs of a node, not nested ones."""
    for attribute in node.attributes.values():
        if attribute.type == ir.AttributeType.GRAPH and not attribute.is_ref():
            yield attribute.as_graph()
        elif attribute.type == ir.AttributeType.GRAPHS and not attribute.is_ref():
            yield from attribute.as_graphs()


def constant_tensor(node: ir.Node) -> ir.TensorProtocol | None:
    """Return the tensor of a Constant node that holds one."""
    if node.op_type != "Constant" or node.domain not in ("", "ai.onnx") or "value" not in node.attributes:
        return None
    attribute = node.attributes["value"]
    if attribute.is_ref() or attribute.type != ir.AttributeType.TENSOR:
        return None
    return attribute.as_tensor()
