"""External data: where a tensor's bytes lie, and whether that is safe."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import onnx
import onnx_ir as ir

from onnx_pipeline.errors import InputError
from onnx_pipeline.model.nodes import node_graphs


def tensor_protos(message: Any) -> Iterator[onnx.TensorProto]:
    """Yield every tensor in a model, graph, function or node, nested ones included."""
    if isinstance(message, onnx.ModelProto):
        yield from tensor_protos(message.graph)
        for function in message.functions:
            yield from tensor_protos(function)
        return
    if isinstance(message, onnx.GraphProto):
        yield from message.initializer
    nodes = [message] if isinstance(message, onnx.NodeProto) else message.node
    for node in nodes:
        for attribute in node.attribute:
            if attribute.HasField("t"):
                yield attribute.t
            yield from attribute.tensors
            if attribute.HasField("g"):
                yield from tensor_protos(attribute.g)
            for graph in attribute.graphs:
                yield from tensor_protos(graph)


def external_entries(tensor: onnx.TensorProto) -> dict[str, str]:
    """Return the external data fields of a tensor, empty for one that holds its own data."""
    if tensor.data_location != onnx.TensorProto.EXTERNAL:
        return {}
    return {entry.key: entry.value for entry in tensor.external_data}


def external_tensors(model: ir.Model) -> Iterator[ir.ExternalTensor]:
    """Yield every tensor of a model whose data lies in a file, nested ones included."""
    graphs: list[ir.Graph | ir.Function] = [model.graph, *model.functions.values()]
    for owner in graphs:
        graph = owner.graph if isinstance(owner, ir.Function) else owner
        subgraphs = [g for node in graph.all_nodes() for g in node_graphs(node)]
        for each in (graph, *subgraphs):
            for value in each.initializers.values():
                if isinstance(value.const_value, ir.ExternalTensor):
                    yield value.const_value
        for node in graph.all_nodes():
            for attribute in node.attributes.values():
                if attribute.type == ir.AttributeType.TENSOR and not attribute.is_ref():
                    tensor = attribute.as_tensor()
                    if isinstance(tensor, ir.ExternalTensor):
                        yield tensor


#: Size and time of last change: a file that keeps both is taken to be the same.
Stamp = tuple[int, int]


def stamp(file: Path | int) -> Stamp:
    """Return the stamp of a path or an open file."""
    found = os.stat(file)
    return found.st_size, found.st_mtime_ns


def resolve_external_data(path: Path, proto: onnx.ModelProto) -> tuple[Path, dict[Path, Stamp]]:
    """Check every external tensor; rewrite its location relative to the returned real folder.

    The stamps of the data files are returned, too.

    A link is followed when it ends in the model's folder, or in the folder where the model file itself
    really lies: caches of model hubs link model and weights into one folder of blobs.
    """
    allowed = {path.parent.resolve(), path.resolve().parent}
    real: dict[str, Path] = {}
    tensors = [t for t in tensor_protos(proto) if t.data_location == onnx.TensorProto.EXTERNAL]
    for tensor in tensors:
        fields = external_entries(tensor)
        location = fields.get("location", "")
        if location not in real:
            real[location] = _data_file(path, tensor.name, location, allowed)
        _check_range(path, tensor, fields, real[location])
    if not tensors:
        return path.parent.resolve(), {}
    base = Path(os.path.commonpath([file.parent for file in real.values()]))
    for tensor in tensors:
        for entry in tensor.external_data:
            if entry.key == "location":
                entry.value = str(real[entry.value].relative_to(base))
    return base, {file: stamp(file) for file in real.values()}


def nbytes(dtype: ir.DataType, elements: int) -> int:
    """Return the bytes of packed elements; strings and undefined types count 16 and 0 bytes an element."""
    if dtype == ir.DataType.STRING:
        return 16 * elements
    if dtype == ir.DataType.UNDEFINED:
        return 0
    return -(-elements * int(dtype.bitwidth) // 8)


def _data_file(path: Path, tensor: str, location: str, allowed: set[Path]) -> Path:
    where = f"external data of tensor {tensor!r}"
    if not location:
        raise InputError(path, f"{where} has no location")
    parts = Path(location.replace("\\", "/"))
    if parts.is_absolute() or Path(location).is_absolute() or ".." in parts.parts or ":" in parts.parts[0]:
        raise InputError(path, f"{where} is at {location!r}, outside the model's folder")
    file = path.parent / location
    try:
        target = file.resolve(strict=True)
    except (OSError, RuntimeError, ValueError):
        raise InputError(path, f"{where} is missing: no file {location!r} in the model's folder") from None
    if not any(target.is_relative_to(folder) for folder in allowed):
        raise InputError(path, f"{where}: the link {location!r} leads outside the model's folder")
    if not target.is_file():
        raise InputError(path, f"{where}: {location!r} is not a regular file")
    return target


def _check_range(path: Path, tensor: onnx.TensorProto, fields: dict[str, str], file: Path) -> None:
    where = f"external data of tensor {tensor.name!r}"
    try:
        offset = int(fields.get("offset", 0))
        count = _num_bytes(tensor)
        length = int(fields.get("length", count))
    except (ValueError, KeyError):
        raise InputError(path, f"{where} has a malformed offset, length, type or shape") from None
    if offset < 0 or length != count:
        raise InputError(path, f"{where} has {length} bytes at {offset}, its type and shape need {count}")
    if offset + length > file.stat().st_size:
        raise InputError(path, f"{where} ends at byte {offset + length}, beyond the end of {file.name!r}")


def _num_bytes(tensor: onnx.TensorProto) -> int:
    elements = 1
    for dim in tensor.dims:
        if dim < 0:
            raise ValueError("negative dimension")
        elements *= dim
    return nbytes(ir.DataType(tensor.data_type), elements)
