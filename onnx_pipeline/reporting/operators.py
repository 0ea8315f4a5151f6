"""Operators and shapes, read from the stage files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from onnx_pipeline.graph.costgraph import CostGraph


def read_stages(
    folder: Path, stages: Sequence[dict[str, Any]]
) -> tuple[dict[str, str], dict[str, str], list[str]]:
    """Return operators by node, types with shapes by tensor, and a note on each file that cannot be read."""
    import onnx

    operators: dict[str, str] = {}
    types: dict[str, str] = {}
    notes: list[str] = []
    for stage in stages:
        try:
            graph = onnx.load(folder / stage["file"], load_external_data=False).graph
        except Exception as error:  # protobuf's DecodeError has no typed home
            reason = error.strerror if isinstance(error, OSError) else "not an ONNX model"
            notes.append(f"{stage['file']} cannot be read: {reason}; its operators and shapes are not shown")
            continue
        operators.update((node.name, node.op_type) for node in graph.node)
        for value in (*graph.value_info, *graph.input, *graph.output):
            types[value.name] = _text(value)
        for port in (*stage["inputs"], *stage["outputs"]):
            types[port["name"]] = type_and_shape(port["dtype"], port["shape"])
    return operators, types, notes


def types_of(graph: CostGraph) -> dict[str, str]:
    """Return types with shapes by tensor, as far as a cost graph knows them."""
    known = graph.net_types or ()
    return {
        name: type_and_shape(dtype, shape)
        for name, (dtype, shape) in zip(graph.net_names, known, strict=False)
        if dtype is not None
    }


def type_and_shape(dtype: str, shape: Sequence[int | str | None] | None) -> str:
    """Return a tensor's type as ``float32[1, 3, N, ?]``, one without a shape by its type alone."""
    if shape is None:
        return dtype
    return f"{dtype}[{', '.join('?' if d is None else str(d) for d in shape)}]"


def _text(value: Any) -> str:
    tensor = value.type.tensor_type
    shape = None
    if value.type.HasField("tensor_type") and tensor.HasField("shape"):
        shape = [d.dim_value if d.HasField("dim_value") else d.dim_param or None for d in tensor.shape.dim]
    return type_and_shape(_element(tensor.elem_type), shape)


def _element(number: int) -> str:
    """Return numpy's name of an element type; of tensors only, other values rarely cross borders."""
    import onnx

    try:
        name = onnx.helper.tensor_dtype_to_np_dtype(number).name
    except KeyError:
        return "unknown type"
    return "string" if name == "object" else name
