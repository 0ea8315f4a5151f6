"""One call of an onnxruntime session, for every element type that numpy has or has not.

onnxruntime's numpy interface knows neither bfloat16 nor floats of 8 bits nor anything of 4 bits; tensors of
these types travel as ``OrtValue`` and become ``ml_dtypes`` arrays only at the very end.
"""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

_FOREIGN = {
    f"tensor({text})": dtype
    for text, dtype in {
        "bfloat16": ir.DataType.BFLOAT16,
        "float8e4m3fn": ir.DataType.FLOAT8E4M3FN,
        "float8e4m3fnuz": ir.DataType.FLOAT8E4M3FNUZ,
        "float8e5m2": ir.DataType.FLOAT8E5M2,
        "float8e5m2fnuz": ir.DataType.FLOAT8E5M2FNUZ,
        "int4": ir.DataType.INT4,
        "uint4": ir.DataType.UINT4,
        "float4e2m1": ir.DataType.FLOAT4E2M1,
    }.items()
}


def run_session(
    session: Any, outputs: Sequence[str], feeds: Mapping[str, Any], *, seconds: float | None = None
) -> list[Any]:
    """Run a session.

    Parameters
    ----------
    session : onnxruntime.InferenceSession
    outputs : sequence of str
    feeds : mapping of str to array, list or OrtValue
        Results of :func:`run_session` may be fed back as they are.
    seconds : float, optional
        End the run after that long; onnxruntime then raises an exception that says "terminate".

    Returns
    -------
    list
        Arrays (lists for sequences) where numpy has the type, ``OrtValue`` otherwise.
    """
    foreign = {a.name: _FOREIGN[a.type] for a in session.get_inputs() if a.type in _FOREIGN}
    if not foreign and not any(a.type in _FOREIGN for a in session.get_outputs()):
        with _ending_after(seconds) as options:
            results: list[Any] = session.run(list(outputs), dict(feeds), options)
        return results
    values = {name: _to_ort(value, foreign.get(name)) for name, value in feeds.items()}
    with _ending_after(seconds) as options:
        return [_from_ort(value) for value in session.run_with_ort_values(list(outputs), values, options)]


@contextmanager
def _ending_after(seconds: float | None) -> Iterator[Any]:
    """Yield run options that end a run in time; None without a limit."""
    if seconds is None:
        yield None
        return
    import onnxruntime

    options = onnxruntime.RunOptions()
    timer = threading.Timer(seconds, setattr, (options, "terminate", True))
    timer.daemon = True
    timer.start()
    try:
        yield options
    finally:
        timer.cancel()


def to_numpy(value: Any) -> Any:
    """Return an array for what :func:`run_session` gave; ``ml_dtypes`` arrays for types that numpy lacks."""
    if isinstance(value, (np.ndarray, np.generic, list, dict)) or value is None:
        return value
    kind = ir.DataType(value.element_type())
    dtype = np.dtype(kind.numpy())
    shape = tuple(value.shape())
    size = int(np.prod(shape, dtype=np.int64))
    count = -(-size * int(kind.bitwidth) // 8)
    raw = bytes((ctypes.c_uint8 * count).from_address(value.data_ptr())) if count else b""
    if kind.bitwidth == 4:
        packed = np.frombuffer(raw, dtype=np.uint8)
        nibbles = np.stack([packed & 15, packed >> 4], axis=-1).reshape(-1)[:size]
        return _widen(nibbles, kind).view(dtype).reshape(shape)
    return np.frombuffer(raw, dtype=dtype).reshape(shape)


def _widen(nibbles: npt.NDArray[np.uint8], kind: ir.DataType) -> npt.NDArray[np.uint8]:
    """Extend the sign of 4-bit integers to the byte that ``ml_dtypes`` keeps them in."""
    if kind != ir.DataType.INT4:
        return nibbles
    return np.where(nibbles > 7, nibbles | np.uint8(0xF0), nibbles).astype(np.uint8)


def _to_ort(value: Any, foreign: ir.DataType | None) -> Any:
    import onnxruntime

    if not isinstance(value, np.ndarray):
        return value
    if foreign is None:
        return onnxruntime.OrtValue.ortvalue_from_numpy(np.ascontiguousarray(value))
    if foreign.bitwidth == 4:
        return _pack(value, foreign)
    raw = np.ascontiguousarray(value).view(np.uint16 if value.dtype.itemsize == 2 else np.uint8)
    return onnxruntime.OrtValue.ortvalue_from_numpy_with_onnx_type(raw, foreign.value)


def _pack(value: npt.NDArray[Any], kind: ir.DataType) -> Any:
    """Return 4-bit numbers two to a byte; numpy arrays cannot hold them that way."""
    import onnxruntime

    made = onnxruntime.OrtValue.ortvalue_from_shape_and_type(list(value.shape), kind.value)
    nibbles = np.ascontiguousarray(value).reshape(-1).view(np.uint8) & 15
    nibbles = np.append(nibbles, np.zeros(nibbles.size % 2, np.uint8))
    packed = (nibbles[::2] | nibbles[1::2] << 4).tobytes()
    ctypes.memmove(made.data_ptr(), packed, len(packed))
    return made


def _from_ort(value: Any) -> Any:
    if value.is_tensor() and f"{value.data_type()}" in _FOREIGN:
        return value
    return value.numpy()
