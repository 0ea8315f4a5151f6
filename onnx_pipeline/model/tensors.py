"""Tensors as they lie in a model file: they hold what type and shape say, and sparse ones become dense."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir

from onnx_pipeline.errors import InputError
from onnx_pipeline.figures import format_bytes
from onnx_pipeline.model.external import nbytes
from onnx_pipeline.model.limits import MAX_RANK, MAX_SPARSE_BYTES

_T = onnx.TensorProto
#: Where numbers lie that are not raw bytes, and how many entries one element takes.
_FIELDS: dict[int, tuple[str, float]] = {
    _T.FLOAT: ("float_data", 1),
    _T.COMPLEX64: ("float_data", 2),
    _T.DOUBLE: ("double_data", 1),
    _T.COMPLEX128: ("double_data", 2),
    _T.INT64: ("int64_data", 1),
    _T.UINT32: ("uint64_data", 1),
    _T.UINT64: ("uint64_data", 1),
    _T.STRING: ("string_data", 1),
}


def check_tensor(path: Path, tensor: onnx.TensorProto) -> None:
    """Refuse a tensor whose data are not as many as its type and shape ask for.

    Raises
    ------
    InputError
        Also for unknown types, negative dimensions and absurd ranks.
    """
    where = f"tensor {tensor.name!r}"
    try:
        kind = ir.DataType(tensor.data_type)
    except ValueError:
        raise InputError(path, f"{where} has the unknown type {tensor.data_type}") from None
    if kind == ir.DataType.UNDEFINED:
        raise InputError(path, f"{where} has no type")
    if len(tensor.dims) > MAX_RANK or any(d < 0 for d in tensor.dims):
        raise InputError(path, f"{where} has an invalid shape: {list(tensor.dims)[:8]}")
    if tensor.data_location == _T.EXTERNAL:
        if kind == ir.DataType.STRING:
            raise InputError(path, f"{where} holds strings, which cannot lie in external data")
        return
    elements = math.prod(tensor.dims)
    if tensor.HasField("raw_data"):
        given, needed = len(tensor.raw_data), nbytes(kind, elements)
        if kind == ir.DataType.STRING:
            raise InputError(path, f"{where} holds strings as raw bytes")
    else:
        field, share = _FIELDS.get(tensor.data_type, ("int32_data", 1))
        if kind != ir.DataType.STRING and kind.bitwidth < 8:
            share = kind.bitwidth / 8
        given, needed = len(getattr(tensor, field)), math.ceil(elements * share)
    if given != needed:
        raise InputError(path, f"{where} of shape {list(tensor.dims)[:8]} holds {given} of {needed} values")


def densify(path: Path, proto: onnx.ModelProto) -> None:
    """Replace sparse initializers and sparse constants by dense ones, which mean the same.

    Raises
    ------
    InputError
        If one is malformed, or all together exceed :data:`~onnx_pipeline.model.limits.MAX_SPARSE_BYTES`.
    """
    room = MAX_SPARSE_BYTES
    for graph in graph_protos(proto):
        for sparse in graph.sparse_initializer:
            dense, room = _dense(path, sparse, room)
            graph.initializer.append(dense)
        graph.ClearField("sparse_initializer")
    for node in (n for holder in (*graph_protos(proto), *proto.functions) for n in _nodes(holder)):
        for attribute in node.attribute:
            if attribute.HasField("sparse_tensor") and node.op_type == "Constant":
                dense, room = _dense(path, attribute.sparse_tensor, room)
                attribute.ClearField("sparse_tensor")
                attribute.name, attribute.type = "value", onnx.AttributeProto.TENSOR
                attribute.t.CopyFrom(dense)
            elif attribute.HasField("sparse_tensor") or attribute.sparse_tensors:
                raise InputError(path, f"{node.op_type} {node.name!r} holds a sparse tensor: not supported")


def _dense(path: Path, sparse: onnx.SparseTensorProto, room: int) -> tuple[onnx.TensorProto, int]:
    where = f"sparse tensor {sparse.values.name!r}"
    for part in (sparse.values, sparse.indices):
        if part.data_location == _T.EXTERNAL:
            raise InputError(path, f"{where} has external data: not supported")
        check_tensor(path, part)
    dims = list(sparse.dims)
    if sparse.values.data_type == _T.STRING or not dims or any(d <= 0 for d in dims):
        raise InputError(path, f"{where} has an invalid type or shape: {dims[:8]}")
    size = nbytes(ir.DataType(sparse.values.data_type), math.prod(dims))
    if size > room:
        raise InputError(
            path,
            f"{where} takes {format_bytes(size)} dense; at most {format_bytes(MAX_SPARSE_BYTES)} for all",
        )
    values = onnx.numpy_helper.to_array(sparse.values).reshape(-1)
    indices = onnx.numpy_helper.to_array(sparse.indices)
    flat = indices if indices.ndim == 1 else _flatten(indices, dims)
    if (
        flat is None
        or sparse.indices.data_type != _T.INT64
        or flat.shape != values.shape
        or (flat.size and not 0 <= int(flat.min()) <= int(flat.max()) < math.prod(dims))
    ):
        raise InputError(path, f"{where} has indices that do not fit its shape {dims[:8]}")
    dense = np.zeros(math.prod(dims), dtype=values.dtype)
    dense[flat] = values
    result = onnx.numpy_helper.from_array(dense.reshape(dims), sparse.values.name)
    result.data_type = sparse.values.data_type
    return result, room - size


def _flatten(indices: Any, dims: list[int]) -> Any:
    if indices.ndim != 2 or indices.shape[1] != len(dims):
        return None
    if indices.size and not ((indices >= 0) & (indices < np.array(dims))).all():
        return None
    return np.ravel_multi_index(tuple(indices.T), dims) if len(indices) else np.zeros(0, np.int64)


def _nodes(holder: Any) -> Iterator[onnx.NodeProto]:
    yield from holder.node


def graph_protos(proto: onnx.ModelProto) -> Iterator[onnx.GraphProto]:
    """Yield every graph of a model, subgraphs included."""
    waiting: list[Any] = [proto.graph, *proto.functions]
    while waiting:
        holder = waiting.pop()
        if isinstance(holder, onnx.GraphProto):
            yield holder
        for node in holder.node:
            for attribute in node.attribute:
                if attribute.HasField("g"):
                    waiting.append(attribute.g)
                waiting += attribute.graphs
