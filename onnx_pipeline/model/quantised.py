"""Quantised models: borders carry the small integers, and what onnxruntime fuses stays together.

A quantised operator is written as DequantizeLinear -> operator -> QuantizeLinear. onnxruntime replaces such a
group by one kernel on integers, whose rounding differs from that of its parts: a cut inside would change
numbers and send four times the bytes.
"""

from __future__ import annotations

from collections.abc import Iterator

import onnx_ir as ir

#: Between operator and QuantizeLinear these are fused, too.
_CLAMPS = frozenset({"Relu", "Clip"})
_DOMAINS = ("", "ai.onnx", "com.microsoft")


def is_dequantize(node: ir.Node | None) -> bool:
    """Return whether a node turns integers into floats."""
    return node is not None and node.op_type == "DequantizeLinear" and node.domain in _DOMAINS


def is_quantize(node: ir.Node | None) -> bool:
    """Return whether a node turns floats into integers."""
    return node is not None and node.op_type == "QuantizeLinear" and node.domain in _DOMAINS


def clone_dequantize(graph: ir.Graph) -> None:
    """Give every node that reads a dequantised activation a DequantizeLinear of its own.

    So the integers can cross to each stage that needs them, as onnxruntime does it within a model. Weights
    are left alone: they are copied into each stage anyway.
    """
    taken: set[str] | None = None
    for node in list(graph):
        if not is_dequantize(node) or node.inputs[0] is None or _is_constant(node.inputs[0]):
            continue
        value = node.outputs[0]
        readers = [reader for reader in dict.fromkeys(value.consumers()) if reader.graph is graph]
        nested = len(readers) < len(set(value.consumers()))
        spare = readers if value.is_graph_output() or nested else readers[1:]
        if spare and taken is None:
            taken = _names(graph)
        for reader in spare:
            copy = ir.Node(
                node.domain,
                node.op_type,
                node.inputs,
                list(node.attributes.values()),
                outputs=[_twin(value, taken or set())],
                name=None,
            )
            copy.metadata_props.update(node.metadata_props)
            graph.insert_after(node, copy)
            for index, operand in enumerate(reader.inputs):
                if operand is value:
                    reader.replace_input_with(index, copy.outputs[0])


def fused_with(node: ir.Node) -> Iterator[ir.Node]:
    """Yield nodes that must be in the stage of this QuantizeLinear or DequantizeLinear."""
    if is_dequantize(node):
        yield from (reader for reader in node.outputs[0].consumers() if reader.graph is node.graph)
    if is_quantize(node):
        producer = node.inputs[0].producer() if node.inputs[0] is not None else None
        while producer is not None and producer.graph is node.graph:
            yield producer
            clamp = producer.op_type in _CLAMPS and producer.domain in _DOMAINS
            first = producer.inputs[0] if clamp and producer.inputs else None
            producer = first.producer() if first is not None else None


def _is_constant(value: ir.Value) -> bool:
    """Whether a value is a weight; moving ones are cloned, constants of any depth need not be found out."""
    producer = value.producer()
    return value.is_initializer() or (producer is not None and producer.op_type == "Constant")


def _twin(value: ir.Value, taken: set[str]) -> ir.Value:
    count = 1
    while (name := f"{value.name}_copy{count}") in taken:
        count += 1
    taken.add(name)
    return ir.Value(name=name, type=value.type, shape=value.shape)


def _names(graph: ir.Graph) -> set[str]:
    names = {str(v.name) for v in (*graph.inputs, *graph.initializers.values())}
    for node in graph.all_nodes():
        names.update(str(v.name) for v in node.outputs)
        for attribute in node.attributes.values():
            if attribute.type == ir.AttributeType.GRAPH and not attribute.is_ref():
                names.update(str(v.name) for v in attribute.as_graph().inputs)
    return names
