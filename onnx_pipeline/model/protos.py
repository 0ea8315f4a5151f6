"""A model's file and onnx_ir's model: reading the one, writing the other, and what onnx_ir cannot hold."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import onnx
import onnx_ir as ir

from onnx_pipeline.errors import InputError
from onnx_pipeline.files.kinds import refuse_other
from onnx_pipeline.model.external import tensor_protos
from onnx_pipeline.model.limits import MAX_PROTO_BYTES, check_elements
from onnx_pipeline.model.tensors import check_tensor, graph_protos

#: Key of a value's type among its metadata where onnx_ir has no class for it.
_TYPE = "onnx_pipeline.type"
#: Where onnx_ir keeps the quantization parameters that a graph notes for a value.
_QUANTIZATION = "quant_parameter_tensor_names"


@dataclass(frozen=True, eq=False)
class Message:
    """A model as a message that may be changed.

    Attributes
    ----------
    path : Path
        What errors call it.
    proto : onnx.ModelProto
        Its tensors are checked, its structure is not.
    folder : Path
        What the locations of external data are relative to.
    weights : mapping of str to onnx_ir.TensorProtocol
        Initializers of which the message has only name, type and shape.
    digest : str or None
        SHA-256 of the file; None for a model in memory.
    """

    path: Path
    proto: onnx.ModelProto
    folder: Path
    weights: Mapping[str, ir.TensorProtocol] = field(default_factory=dict)
    digest: str | None = None


def read(path: Path) -> Message:
    """Return the message in a model file.

    Raises
    ------
    InputError
        If the file cannot be read or parsed, or exceeds a limit of :mod:`onnx_pipeline.model.limits`.
    """
    data = _read(path)
    check_elements(path, data)
    proto = onnx.ModelProto()
    try:
        proto.ParseFromString(data)
    except Exception:  # protobuf's DecodeError has no typed home
        raise InputError(path, "this is not an ONNX model, or it is truncated") from None
    for tensor in tensor_protos(proto):
        check_tensor(path, tensor)
    return Message(path, proto, path.parent, digest=hashlib.sha256(data).hexdigest())


def to_ir(proto: onnx.ModelProto) -> ir.Model:
    """Return onnx_ir's model of a message, which loses what onnx_ir cannot hold; see :func:`describe`."""
    maps = _set_maps_aside(proto)
    _forget_negative_dims(proto)
    model = ir.serde.deserialize_model(proto)
    for value in (*model.graph.inputs, *model.graph.outputs):
        if value.name in maps:
            value.meta[_TYPE] = maps[value.name]
    return model


def _read(path: Path) -> bytes:
    refuse_other(path, "model")
    if path.is_dir():
        raise InputError(path, "this is a directory; give the .onnx file inside it")
    try:
        if path.exists() and not path.is_file():
            raise InputError(path, "this is not a regular file; an ONNX model is read from one")
        if path.stat().st_size > MAX_PROTO_BYTES:
            raise InputError(path, "an ONNX file cannot exceed 2 GiB; save its weights as external data")
        data = path.read_bytes()
    except OSError as error:
        raise InputError(path, error.strerror or str(error)) from error
    if not data:
        raise InputError(path, "the file is empty")
    return data


def _set_maps_aside(proto: onnx.ModelProto) -> dict[str | None, onnx.TypeProto]:
    """Clear the types that onnx_ir cannot hold; return those of graph inputs and outputs, by name."""
    maps: dict[str | None, onnx.TypeProto] = {}
    for graph in graph_protos(proto):
        for value in (*graph.input, *graph.output, *graph.value_info):
            if _has_map(value.type):
                if graph is proto.graph:
                    maps[value.name] = onnx.TypeProto.FromString(value.type.SerializeToString())
                value.ClearField("type")
    return maps


def _has_map(kind: onnx.TypeProto) -> bool:
    for holder in ("sequence_type", "optional_type"):
        if kind.HasField(holder):
            return _has_map(getattr(kind, holder).elem_type)
    return bool(kind.HasField("map_type") or kind.HasField("opaque_type"))


def _forget_negative_dims(proto: onnx.ModelProto) -> None:
    """Some exporters write -1 where a dimension is not known."""
    for graph in graph_protos(proto):
        for value in (*graph.input, *graph.output, *graph.value_info):
            for dim in value.type.tensor_type.shape.dim if value.type.HasField("tensor_type") else ():
                if dim.dim_value < 0:
                    dim.ClearField("dim_value")


def describe(value: ir.Value) -> onnx.ValueInfoProto:
    """Return name, type, documentation and metadata of a value; maps included, which onnx_ir cannot write."""
    proto = ir.to_proto(value)
    if _TYPE in value.meta:
        proto.type.CopyFrom(value.meta[_TYPE])
    return proto


def note_quantization(graph: onnx.GraphProto, value: ir.Value) -> Mapping[str, str]:
    """Add the quantization parameters that a model notes for a value, if any; return their tensors."""
    parameters: Mapping[str, str] = value.meta.get(_QUANTIZATION) or {}
    if parameters:
        note = graph.quantization_annotation.add(tensor_name=str(value.name))
        for key, name in sorted(parameters.items()):
            note.quant_parameter_tensor_names.add(key=key, value=name)
    return parameters


def shell(model: ir.Model) -> onnx.ModelProto:
    """Return the model without its graph: versions, operator sets, metadata and all local functions."""
    proto = onnx.ModelProto(
        ir_version=model.ir_version,
        producer_name=model.producer_name or "",
        producer_version=model.producer_version or "",
        domain=model.domain or "",
        model_version=model.model_version or 0,
        doc_string=model.doc_string or "",
    )
    for domain, version in model.opset_imports.items():
        proto.opset_import.add(domain=domain, version=version)
    for key, text in model.metadata_props.items():
        proto.metadata_props.add(key=key, value=text)
    proto.functions.extend(ir.to_proto(function) for function in model.functions.values())
    proto.graph.name = model.graph.name or "graph"
    proto.graph.doc_string = model.graph.doc_string or ""
    for key, text in model.graph.metadata_props.items():
        proto.graph.metadata_props.add(key=key, value=text)
    return proto


def serialize(
    model: ir.Model, path: Path, extra_outputs: Sequence[str] = (), without: Collection[str] = ()
) -> bytes:
    """Return the model as bytes; external weights stay external.

    Parameters
    ----------
    model : onnx_ir.Model
    path : Path
        Named in the error.
    extra_outputs : sequence of str
        Values to expose as additional outputs; onnxruntime infers their types.
    without : collection of str
        Values whose nodes are left out, and outputs among them.

    Raises
    ------
    InputError
        If the model does not fit into one protobuf message.
    """
    try:
        proto = ir.to_proto(model)
        for value, info in zip(model.graph.inputs, proto.graph.input, strict=True):
            info.CopyFrom(describe(value))
        for value, info in zip(model.graph.outputs, proto.graph.output, strict=True):
            info.CopyFrom(describe(value))
        present = {output.name for output in proto.graph.output}
        for name in extra_outputs:
            if name not in present:
                proto.graph.output.add(name=name)
        for index in reversed(range(len(proto.graph.node))):
            if any(name in without for name in proto.graph.node[index].output):
                del proto.graph.node[index]
        for index in reversed(range(len(proto.graph.output))):
            if proto.graph.output[index].name in without:
                del proto.graph.output[index]
        return bytes(proto.SerializeToString())
    except Exception as error:
        raise InputError(path, f"the model cannot be serialised: {root_cause(error)}") from error


def root_cause(error: BaseException) -> str:
    """Return the first line of what an exception was raised from."""
    while error.__cause__ is not None:
        error = error.__cause__
    return (str(error).strip() or type(error).__name__).splitlines()[0]
