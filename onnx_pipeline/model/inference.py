"""ONNX shape inference, without weights and without the shapes recorded in the file."""

from __future__ import annotations

import itertools
from collections.abc import Mapping

import onnx
import onnx_ir as ir

from onnx_pipeline.errors import InputError, PipelineError
from onnx_pipeline.model.nodes import constant_tensor
from onnx_pipeline.model.protos import describe, shell
from onnx_pipeline.model.running import PLAIN, open_model
from onnx_pipeline.model.source import SourceModel

#: Constants up to this size take part in inference (they may be shapes, axes, repeats).
_SMALL_BYTES = 4096

Dims = tuple[int | str | None, ...]


def infer(source: SourceModel, fixed: Mapping[str, tuple[int, ...]]) -> dict[str, onnx.TypeProto]:
    """Return the types that ONNX shape inference finds, by value.

    Parameters
    ----------
    source : SourceModel
    fixed : mapping of str to tuple of int
        Shapes of inputs, instead of those that the file says.

    Raises
    ------
    InputError
        If neither the ONNX checker nor onnxruntime accepts the model.
    """
    proto = skeleton(source, fixed)
    if not fixed:
        _check_valid(source, proto)
    inferred = proto
    for data_prop in (True, False):
        try:
            inferred = onnx.shape_inference.infer_shapes(proto, strict_mode=False, data_prop=data_prop)
            break
        except Exception:  # inference is best effort: a run fills the holes
            continue
    graph = inferred.graph
    return {v.name: v.type for v in itertools.chain(graph.input, graph.value_info, graph.output)}


def tensor_dims(proto: onnx.TypeProto | None) -> Dims | None:
    """Return the dimensions of a tensor type: sizes, names and None; None as a whole if it has no rank."""
    if proto is None or not proto.HasField("tensor_type") or not proto.tensor_type.HasField("shape"):
        return None
    return tuple(
        d.dim_value if d.HasField("dim_value") else (d.dim_param or None) for d in proto.tensor_type.shape.dim
    )


def tensor_dtype(proto: onnx.TypeProto | None) -> ir.DataType:
    """Return the element type of a tensor type; ``UNDEFINED`` for anything else."""
    if proto is None or not proto.HasField("tensor_type"):
        return ir.DataType.UNDEFINED
    try:
        return ir.DataType(proto.tensor_type.elem_type)
    except ValueError:  # a type that this version does not know
        return ir.DataType.UNDEFINED


def _check_valid(source: SourceModel, proto: onnx.ModelProto) -> None:
    """Refuse what neither the ONNX checker nor onnxruntime accepts: it would only give broken stages."""
    checked = onnx.ModelProto()
    checked.CopyFrom(proto)
    for value in checked.graph.output:  # recorded shapes play no part here, but the checker wants one
        if value.type.HasField("tensor_type"):
            value.type.tensor_type.shape.SetInParent()
    try:
        onnx.checker.check_model(checked)
    except Exception as problem:
        if "No Op registered" in str(problem):  # the operators of onnxruntime and of custom libraries
            return
        try:
            open_model(source, PLAIN)
        except PipelineError:
            reason = " ".join(str(problem).split())[:300]
            raise InputError(source.path, f"this is not a valid ONNX model: {reason}") from None


def skeleton(source: SourceModel, fixed: Mapping[str, tuple[int, ...]]) -> onnx.ModelProto:
    """Return the model with large constants turned into inputs and the given input shapes.

    Default values that a caller may override are constants only where shapes are given, and theirs is not.
    """
    graph = source.ir.graph
    proto = shell(source.ir)
    proto.ir_version = max(proto.ir_version, 4)  # initializers need not be inputs
    changing = [v for v in source.overridable if not fixed or v.name in fixed]
    for value in (*source.inputs, *changing):
        info = describe(value)
        if value.name in fixed:
            del info.type.tensor_type.shape.dim[:]
            for size in fixed[str(value.name)]:
                info.type.tensor_type.shape.dim.add(dim_value=size)
        proto.graph.input.append(info)
    fed = {value.name for value in changing}
    for name, value in graph.initializers.items():
        if name not in fed:
            _add_constant(proto.graph, name, value.const_value)
    for node in graph:
        constant = constant_tensor(node)
        if constant is not None and constant.nbytes > _SMALL_BYTES:
            _add_constant(proto.graph, str(node.outputs[0].name), constant)
        else:
            proto.graph.node.append(ir.to_proto(node))
    for value in graph.outputs:
        info = onnx.ValueInfoProto(name=value.name)
        if isinstance(value.type, ir.TensorType):
            info.type.tensor_type.elem_type = value.type.dtype.value
        else:
            info.CopyFrom(describe(value))
        proto.graph.output.append(info)
    return proto


def _stored(tensor: ir.ExternalTensor) -> bytes:
    """Read a tensor's bytes; onnx_ir refuses a file with several hard links, which linked splits make."""
    with open(tensor.path, "rb") as file:
        file.seek(tensor.offset or 0)
        return file.read(tensor.nbytes)


def _add_constant(graph: onnx.GraphProto, name: str, tensor: ir.TensorProtocol | None) -> None:
    if tensor is None:
        return
    if tensor.nbytes <= _SMALL_BYTES:
        proto = onnx.TensorProto()
        proto.CopyFrom(ir.to_proto(tensor))
        if isinstance(tensor, ir.ExternalTensor):
            stored = _stored(tensor)
            proto = onnx.helper.make_tensor(name, tensor.dtype.value, tensor.shape.numpy(), stored, raw=True)
        proto.name = name
        graph.initializer.append(proto)
        return
    graph.input.append(
        onnx.helper.make_tensor_value_info(name, tensor.dtype.value, list(tensor.shape.numpy()))
    )
