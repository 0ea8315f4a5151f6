"""Models in memory, as a message or as onnx_ir's model, for the loader: the data of weights is not copied."""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import onnx
import onnx_ir as ir

from onnx_pipeline.errors import InputError, UsageError
from onnx_pipeline.model.external import external_entries, external_tensors, tensor_protos
from onnx_pipeline.model.limits import MAX_PROTO_BYTES, check_elements
from onnx_pipeline.model.protos import Message, describe, note_quantization, shell
from onnx_pipeline.model.sliced import SlicedTensor
from onnx_pipeline.model.tensors import check_tensor

#: What is left of a graph's name in the name of a file.
_UNFIT = re.compile(r"[^\w.-]+")


def name_of(model: Any) -> Path:
    """Return the name of the file that a model in memory could be in: that of its graph.

    Raises
    ------
    UsageError
        If it is no model.
    """
    if not isinstance(model, onnx.ModelProto | ir.Model):
        kind = f"{type(model).__module__}.{type(model).__qualname__}"
        raise UsageError(f"model must be a path, an onnx.ModelProto or an onnx_ir.Model, got {kind}")
    stem = _UNFIT.sub("_", model.graph.name or "")[:100].strip("._")
    return Path(f"{stem or 'model'}.onnx")


def read(model: onnx.ModelProto | ir.Model, path: Path) -> Message:
    """Return a model in memory as a message that may be changed; its weights stay where they are.

    Raises
    ------
    InputError
        If weights are malformed, lie in unknown files, or exceed what one message holds.
    """
    message = _of_proto(path, model) if isinstance(model, onnx.ModelProto) else _of_ir(path, model)
    size = sum(tensor.nbytes for tensor in message.weights.values() if not _in_file(tensor))
    if size > MAX_PROTO_BYTES:
        raise InputError(
            path,
            f"its weights take {size / (1 << 30):.1f} GiB of memory, and one ONNX message holds 2 GiB",
            "save it with onnx_ir.save(model, file, external_data=...) and give the file",
        )
    check_elements(path, message.proto.SerializeToString())
    return message


def _in_file(tensor: ir.TensorProtocol) -> bool:
    return isinstance(tensor, SlicedTensor) and tensor.file is not None


def _of_proto(path: Path, model: onnx.ModelProto) -> Message:
    for tensor in tensor_protos(model):
        check_tensor(path, tensor)
        fields = external_entries(tensor)
        if fields:
            raise InputError(
                path,
                f"tensor {tensor.name!r} lies in a file {fields.get('location', '')!r} of unknown folder",
                "give the path of the model, or load it with onnx_ir.load",
            )
    proto = onnx.ModelProto()
    _copy(model, proto, without={"graph"})
    if model.HasField("graph"):
        proto.graph.SetInParent()
        _copy(model.graph, proto.graph, without={"initializer"})
        proto.graph.initializer.extend(_stub(t.name, t.data_type, t.dims) for t in model.graph.initializer)
    weights = {tensor.name: ir.from_proto(tensor) for tensor in model.graph.initializer}
    return Message(path, proto, Path.cwd(), weights)


def _copy(message: Any, to: Any, without: Collection[str]) -> None:
    """Copy the fields of a message, but for some."""
    for field, value in message.ListFields():
        if field.name in without:
            continue
        if hasattr(value, "MergeFrom"):  # a message, or a list
            getattr(to, field.name).MergeFrom(value)
        else:
            setattr(to, field.name, value)


def _stub(name: str, dtype: int, dims: Sequence[int]) -> onnx.TensorProto:
    return onnx.TensorProto(name=name, data_type=dtype, dims=dims)


def _of_ir(path: Path, model: ir.Model) -> Message:
    proto = shell(model)
    graph, weights = proto.graph, dict[str, ir.TensorProtocol]()
    graph.input.extend(map(describe, model.graph.inputs))
    graph.output.extend(map(describe, model.graph.outputs))
    graph.node.extend(map(ir.to_proto, model.graph))
    for name, value in model.graph.initializers.items():
        tensor = value.const_value
        if isinstance(tensor, ir.ExternalTensor):
            graph.initializer.append(ir.to_proto(tensor))
            graph.initializer[-1].name = name
        elif tensor is not None:
            if isinstance(tensor, ir.serde.TensorProtoTensor):
                check_tensor(path, tensor.raw)
            graph.initializer.append(_stub(name, tensor.dtype.value, tensor.shape.numpy()))
            weights[name] = tensor
    _add_types(graph, model.graph)
    nested = [tensor for part in (*graph.node, *proto.functions) for tensor in tensor_protos(part)]
    for each in nested:
        check_tensor(path, each)
    files = _files_of(path, model)
    return Message(path, proto, _gather([*graph.initializer, *nested], files), weights)


def _add_types(graph: onnx.GraphProto, model: ir.Graph) -> None:
    """Add what is known of the values between nodes, and quantization annotations."""
    outputs = [value for node in model for value in node.outputs]
    for value in dict.fromkeys([*model.inputs, *model.initializers.values(), *outputs]):
        note_quantization(graph, value)
        inside = not (value.is_graph_input() or value.is_graph_output())
        if inside and value.name and value.type is not None:
            graph.value_info.append(describe(value))


def _files_of(path: Path, model: ir.Model) -> dict[str, Path]:
    """Return the file of external data by the location that its tensors state.

    Raises
    ------
    InputError
        If two files share a location, in different folders; ``path`` is the model that it names.
    """
    files: dict[str, Path] = {}
    for tensor in external_tensors(model):
        location, file = os.fspath(tensor.location), Path(tensor.path).resolve()
        if files.setdefault(location, file) != file:
            raise InputError(path, f"the data files {files[location]} and {file} have the same location")
    return files


def _gather(tensors: Sequence[onnx.TensorProto], files: Mapping[str, Path]) -> Path:
    """Make the locations of tensors relative to one folder, and return it."""
    if not files:
        return Path.cwd()
    folder = Path(os.path.commonpath([file.parent for file in files.values()]))
    for tensor in tensors:
        for entry in tensor.external_data:
            if entry.key == "location":
                entry.value = files[entry.value].relative_to(folder).as_posix()
    return folder
