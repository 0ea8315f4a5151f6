"""What the nodes of a model are: executable, parameters of other nodes, or random.

A *parameter node* depends on no model input, with a default value or without (constants, and whatever is
computed from weights alone). It is copied into each stage that needs it.
"""

from __future__ import annotations

from collections.abc import Sequence

import onnx_ir as ir

from onnx_pipeline.model.nodes import constant_tensor, node_graphs, node_inputs
from onnx_pipeline.model.source import SourceModel

#: Operators that give other values at every run: never parameters.
_RANDOM = frozenset(
    {"RandomNormal", "RandomUniform", "RandomNormalLike", "RandomUniformLike", "Bernoulli", "Multinomial"}
)
_TRANSPARENT = frozenset({"Identity", "DequantizeLinear"})


def parameter_nodes(source: SourceModel) -> set[str]:
    """Return the names of the main graph's nodes that depend on no model input and on no random operator."""
    moving = {*source.inputs, *source.overridable}
    names: set[str] = set()
    random_functions = _random_functions(source.ir)
    for node in source.ir.graph:
        if _is_random(node, random_functions) or any(v in moving for v in node_inputs(node)):
            moving.update(node.outputs)
        else:
            names.add(str(node.name))
    return names


def random_nodes(source: SourceModel) -> list[ir.Node]:
    """Return the nodes that give other values at every run."""
    random_functions = _random_functions(source.ir)
    return [node for node in source.ir.graph if _is_random(node, random_functions)]


def executable_nodes(source: SourceModel) -> list[ir.Node]:
    """Return the nodes of the cost graph, in the model's order.

    These are the nodes that an output depends on and that are not parameter nodes.
    """
    parameters = parameter_nodes(source)
    needed = set(source.outputs)
    nodes: list[ir.Node] = []
    for node in reversed(source.ir.graph):
        if any(v in needed for v in node.outputs):
            needed.update(node_inputs(node))
            if node.name not in parameters:
                nodes.append(node)
    return nodes[::-1]


def parameter_values(source: SourceModel, nodes: Sequence[ir.Node]) -> list[tuple[ir.Value, ir.Value]]:
    """Return every parameter that executable nodes read, with the value whose bytes a stage holds for it."""
    own, inputs = set(nodes), set(source.inputs)
    values = dict.fromkeys(value for node in nodes for value in node_inputs(node))
    return [
        (value, parameter_root(value))
        for value in values
        if value not in inputs and value.producer() not in own
    ]


def parameter_root(value: ir.Value) -> ir.Value:
    """Return the value whose bytes a stage holds for parameter ``value``."""
    node = value.producer()
    while node is not None and node.op_type in _TRANSPARENT and node.domain in ("", "ai.onnx"):
        operand = node.inputs[0]
        if operand is None:
            break
        value, node = operand, operand.producer()
    return value


def _is_random(node: ir.Node, random_functions: set[tuple[str, str, str]]) -> bool:
    if node.op_identifier() in random_functions:
        return True
    if node.op_type in _RANDOM and node.domain in ("", "ai.onnx"):
        # A seed makes the first run of a session reproducible, not the following ones.
        return True
    if node.op_type == "Dropout" and node.domain in ("", "ai.onnx") and _may_train(node):
        return True
    return any(_is_random(inner, random_functions) for graph in node_graphs(node) for inner in graph)


def _may_train(node: ir.Node) -> bool:
    """Whether a Dropout may drop: its third input is true, or not known before it runs."""
    mode = node.inputs[2] if len(node.inputs) > 2 else None
    if mode is None:
        return False
    tensor = mode.const_value if mode.is_initializer() and not mode.is_graph_input() else None
    producer = mode.producer()
    if tensor is None and producer is not None:
        tensor = constant_tensor(producer)
    return tensor is None or bool(tensor.numpy().any())


def _random_functions(model: ir.Model) -> set[tuple[str, str, str]]:
    """Identify the local functions that contain a random operator, directly or through other functions."""
    found: set[tuple[str, str, str]] = set()
    before = -1
    while len(found) > before:
        before = len(found)
        for key, function in model.functions.items():
            if any(_is_random(node, found) for node in function):
                found.add(key)
    return found
