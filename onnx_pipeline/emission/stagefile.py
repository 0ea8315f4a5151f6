"""One stage as a file: its nodes, weights, functions and borders; and the whole model, annotated."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import onnx
import onnx_ir as ir

from onnx_pipeline.emission.boundary import StagePlan
from onnx_pipeline.emission.weights import WeightStore
from onnx_pipeline.model.external import tensor_protos
from onnx_pipeline.model.nodes import constant_tensor, node_graphs
from onnx_pipeline.model.protos import describe, note_quantization, shell
from onnx_pipeline.model.shapes import TensorInfo
from onnx_pipeline.model.source import SourceModel


def write_stage(
    source: SourceModel, infos: Mapping[str, TensorInfo], plan: StagePlan, store: WeightStore, path: Path
) -> tuple[str, int]:
    """Write one stage and its weights; return the SHA-256 of the model file and its number of nodes."""
    proto = shell(source.ir)
    _keep_functions(proto, source.ir, plan.nodes)
    graph = proto.graph
    graph.name = f"{graph.name}_stage_{plan.index}"
    graph.input.extend(_boundary(v, infos) for v in (*plan.inputs, *plan.defaults))
    graph.output.extend(_boundary(v, infos) for v in plan.outputs)
    _add_body(proto, plan.nodes, plan.initializers, store)
    _annotate_quantization(proto.graph, source, plan, store)
    store.close()
    if proto.ir_version < 4:  # initializers had to be inputs
        present = {v.name for v in graph.input}
        graph.input.extend(
            onnx.helper.make_tensor_value_info(t.name, t.data_type, list(t.dims))
            for t in graph.initializer
            if t.name not in present
        )
    ends = {*plan.inputs, *plan.outputs}
    for node in plan.nodes:
        for value in node.outputs:
            info = infos.get(str(value.name))
            if value not in ends and info is not None and info.can_cross:
                graph.value_info.append(tensor_value_info(info))
    return save(proto, path), len(graph.node)


def _add_body(
    proto: onnx.ModelProto, nodes: Sequence[ir.Node], initializers: Sequence[ir.Value], store: WeightStore
) -> None:
    """Add nodes, initializers and functions; large weights go to ``store``."""
    constants = {node: tensor for node in nodes if (tensor := constant_tensor(node)) is not None}
    tensors = [v.const_value for v in initializers if v.const_value is not None]
    store.begin([*tensors, *constants.values()])
    for value in initializers:
        if value.const_value is not None:
            proto.graph.initializer.append(store.add(str(value.name), value.const_value))
    for node in nodes:
        constant = constants.get(node)
        if constant is not None and store.takes(constant):
            # Only initializers may keep their data outside.
            proto.graph.initializer.append(store.add(str(node.outputs[0].name), constant))
        else:
            proto.graph.node.append(ir.to_proto(node))
    # What is left are tensors inside subgraphs and functions.
    for tensor in [t for n in proto.graph.node for t in tensor_protos(n)]:
        store.relocate(tensor)
    for function in proto.functions:
        for tensor in tensor_protos(function):
            store.relocate(tensor)


def _annotate_quantization(
    graph: onnx.GraphProto, source: SourceModel, plan: StagePlan, store: WeightStore
) -> None:
    """Copy the quantization annotations of a stage's values, and the scales that they name."""
    values: Iterable[ir.Value] = dict.fromkeys(
        [*plan.inputs, *plan.initializers, *(v for node in plan.nodes for v in node.outputs)]
    )
    present = {t.name for t in graph.initializer} | {v.name for v in graph.input}
    present |= {name for node in graph.node for name in node.output}
    for value in values:
        for name in note_quantization(graph, value).values():
            tensor = source.ir.graph.initializers.get(name)
            if name not in present and tensor is not None and tensor.const_value is not None:
                graph.initializer.append(store.add(name, tensor.const_value))
                present.add(name)


def _boundary(value: ir.Value, infos: Mapping[str, TensorInfo]) -> onnx.ValueInfoProto:
    """Describe a stage input or output; the model's own keep their documentation and metadata."""
    info = infos.get(str(value.name))
    own = value.is_graph_input() or value.is_graph_output()
    if info is None or not info.can_cross:
        return describe(value)
    typed = tensor_value_info(info)
    if not own:
        return typed
    proto = ir.to_proto(value)
    if not value.is_graph_input() or value.shape is None:
        proto.type.CopyFrom(typed.type)
    return proto


def tensor_value_info(info: TensorInfo) -> onnx.ValueInfoProto:
    """Return the typed description of a tensor; unknown dimensions stay empty."""
    return onnx.helper.make_tensor_value_info(info.name, info.dtype.value, info.declared)


def _keep_functions(proto: onnx.ModelProto, model: ir.Model, nodes: Sequence[ir.Node]) -> None:
    """Drop the local functions that nothing here calls, directly or through another function."""
    called: set[tuple[str, str, str]] = set()
    waiting = list(nodes)
    while waiting:
        node = waiting.pop()
        waiting += [inner for graph in node_graphs(node) for inner in graph]
        key = node.op_identifier()
        if key in model.functions and key not in called:
            called.add(key)
            waiting += list(model.functions[key])
    kept = [f for f in proto.functions if (f.domain, f.name, f.overload) in called]
    del proto.functions[:]
    proto.functions.extend(kept)


def save(proto: onnx.ModelProto, path: Path) -> str:
    """Write a model file; return its SHA-256."""
    data = proto.SerializeToString()
    path.write_bytes(data)
    return hashlib.sha256(data).hexdigest()
