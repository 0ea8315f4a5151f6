"""Readable names of types: those of numpy where it has one."""

from __future__ import annotations

import numpy as np
import onnx
import onnx_ir as ir


def dtype_text(dtype: ir.DataType) -> str:
    """Return the numpy-style name of an element type: ``float32``, ``int64``, ``bfloat16``, ``string``."""
    if dtype == ir.DataType.STRING:
        return "string"
    try:
        return np.dtype(dtype.numpy()).name
    except TypeError:  # a type that numpy has no name for
        return dtype.name.lower()


def type_text(kind: onnx.TypeProto) -> str:
    """Return a readable name of a type: ``float32``, ``sequence(map(int64,float32))``."""
    which = kind.WhichOneof("value")
    if which is None:
        return "unknown"
    inside = getattr(kind, which)
    if which == "tensor_type":
        return _element_text(inside.elem_type)
    label = which.removesuffix("_type")
    if which == "sparse_tensor_type":
        return f"{label}({_element_text(inside.elem_type)})"
    if which == "map_type":
        return f"{label}({_element_text(inside.key_type)},{type_text(inside.value_type)})"
    return f"{label}({type_text(inside.elem_type)})" if which != "opaque_type" else label


def _element_text(number: int) -> str:
    try:
        return dtype_text(ir.DataType(number))
    except ValueError:
        return "unknown"
