"""One call of an onnxruntime session, for every element type that numpy has or has not.

onnxruntime's numpy interface knows neither bfloat16 nor the 8-bit floats; tensors of these types travel as
``OrtValue`` and become ``ml_dtypes`` arrays only at the very end.
"""

from __future__ import annotations

import ctypes
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx_ir as ir

_FOREIGN = {
    f"tensor({text})": dtype
    for text, dtype in {
        "bfloat16": ir.DataType.BFLOAT16,
        "float8e4m3fn": ir.DataType.FLOAT8E4M3FN,
        "float8e4m3fnuz": ir.DataType.FLOAT8E4M3FNUZ,
        "float8e5m2": ir.DataType.FLOAT8E5M2,
        "float8e5m2fnuz": ir.DataType.FLOAT8E5M2FNUZ,
    }.items()
}


def run_session(session: Any, outputs: Sequence[str], feeds: Mapping[str, Any]) -> list[Any]:
    """Run a session.

    Parameters
    ----------
    session : onnxruntime.InferenceSession
    outputs : sequence of str
    feeds : mapping of str to array, list or OrtValue
        Results of :func:`run_session` may be fed back as they are.

    Returns
    -------
    list
        Arrays (lists for sequences) where numpy has the type, ``OrtValue`` otherwise.
    """
    foreign = {a.name: _FOREIGN[a.type] for a in session.get_inputs() if a.type in _FOREIGN}
    if not foreign and not any(a.type in _FOREIGN for a in session.get_outputs()):
        results: list[Any] = session.run(list(outputs), dict(feeds))
        return results
    values = {name: _to_ort(value, foreign.get(name)) for name, value in feeds.items()}
    return [_from_ort(value) for value in session.run_with_ort_values(list(outputs), values)]


def to_numpy(value: Any) -> Any:
    """Return an array for what :func:`run_session` gave; ``ml_dtypes`` arrays for types that numpy lacks."""
    if isinstance(value, (np.ndarray, np.generic, list, dict)) or value is None:
        return value
    dtype = np.dtype(ir.DataType(value.element_type()).numpy())
    shape = tuple(value.shape())
    count = int(np.prod(shape, dtype=np.int64)) * dtype.itemsize
    buffer = (ctypes.c_uint8 * count).from_address(value.data_ptr()) if count else b""
    return np.frombuffer(bytes(buffer), dtype=dtype).reshape(shape)


def _to_ort(value: Any, foreign: ir.DataType | None) -> Any:
    import onnxruntime

    if not isinstance(value, np.ndarray):
        return value
    if foreign is None:
        return onnxruntime.OrtValue.ortvalue_from_numpy(np.ascontiguousarray(value))
    raw = np.ascontiguousarray(value).view(np.uint16 if value.dtype.itemsize == 2 else np.uint8)
    return onnxruntime.OrtValue.ortvalue_from_numpy_with_onnx_type(raw, foreign.value)


def _from_ort(value: Any) -> Any:
    if value.is_tensor() and f"{value.data_type()}" in _FOREIGN:
        return value
    return value.numpy()
