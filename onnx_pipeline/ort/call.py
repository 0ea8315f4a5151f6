"""One call of an onnxruntime session, for every element type that numpy has or has not.

onnxruntime's numpy interface knows neither bfloat16 nor floats of 8 bits nor anything of 4 or 2 bits; tensors
of these types travel as ``OrtValue`` and become ``ml_dtypes`` arrays only at the very end.
"""

from __future__ import annotations

import ctypes
import math
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from typing import Any

import numpy as np
import numpy.typing as npt

#: Element types that numpy lacks, with their numbers in ONNX.
_FOREIGN = {
    "tensor(bfloat16)": 16,
    "tensor(float8e4m3fn)": 17,
    "tensor(float8e4m3fnuz)": 18,
    "tensor(float8e5m2)": 19,
    "tensor(float8e5m2fnuz)": 20,
    "tensor(uint4)": 21,
    "tensor(int4)": 22,
    "tensor(float4e2m1)": 23,
    "tensor(uint2)": 25,
    "tensor(int2)": 26,
}
_SIGNED = (22, 26)
#: Bits of the types that onnxruntime keeps several to a byte; numpy arrays cannot hold them that way.
_PACKED = {21: 4, 22: 4, 23: 4, 25: 2, 26: 2}


class Runner:
    """Calls of one session; what never changes between them is looked up once.

    Parameters
    ----------
    session : onnxruntime.InferenceSession
    outputs : sequence of str, optional
        Outputs to compute, all of them by default.

    Attributes
    ----------
    foreign : dict of str to int
        Inputs of an element type that numpy lacks, and its number in ONNX.
    """

    def __init__(self, session: Any, outputs: Sequence[str] | None = None) -> None:
        import onnxruntime

        self.session = session
        self.outputs = [value.name for value in session.get_outputs()] if outputs is None else list(outputs)
        self.foreign = {a.name: _FOREIGN[a.type] for a in session.get_inputs() if a.type in _FOREIGN}
        self.plain = not self.foreign and not any(a.type in _FOREIGN for a in session.get_outputs())
        self._options = onnxruntime.RunOptions()
        self._options.log_severity_level = 4  # what goes wrong is raised

    def __call__(self, feeds: Mapping[str, Any]) -> list[Any]:
        """Run; results are arrays (lists for sequences) where numpy has the type, else ``OrtValue``.

        Parameters
        ----------
        feeds : mapping of str to array, list or OrtValue
            What another call returned may be fed as it is.
        """
        if self.plain:
            results: list[Any] = self.session.run(self.outputs, feeds, self._options)
            return results
        values = {name: to_ort(value, self.foreign.get(name)) for name, value in feeds.items()}
        found = self.session.run_with_ort_values(self.outputs, values, self._options)
        return [_from_ort(value) for value in found]

    def stop(self) -> None:
        """Make the call in progress, and every later one, fail between two kernels."""
        self._options.terminate = True


def run_session(
    session: Any, outputs: Sequence[str], feeds: Mapping[str, Any], *, seconds: float | None = None
) -> list[Any]:
    """Run a session once; see :class:`Runner`.

    After ``seconds``, if given, onnxruntime ends the run with an exception that says "terminate". Until then,
    infinity included, Ctrl-C ends it, which otherwise waits for the run.
    """
    runner = Runner(session, outputs)
    if seconds is None:
        return runner(dict(feeds))
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(runner, dict(feeds))
        try:
            wait([running], None if math.isinf(seconds) else seconds)
        finally:
            if not running.done():
                runner.stop()
        return running.result()


def is_foreign(number: int) -> bool:
    """Return whether numpy lacks an element type, given as ONNX numbers it."""
    return number in _FOREIGN.values()


def native(value: Any, dtype: Any = None) -> Any:
    """Return an array, or a list of arrays, as this machine keeps numbers.

    onnxruntime takes arrays of the other byte order as they lie. Raw bytes, which is how ``.npz`` files hold
    what numpy lacks, are read as ``dtype``, if given and of their size.
    """
    if isinstance(value, list):
        return [native(each, dtype) for each in value]
    if not isinstance(value, np.ndarray):
        return value
    if value.dtype.type is np.void and dtype is not None and value.dtype.itemsize == dtype.itemsize:
        return np.ascontiguousarray(value).view(dtype).reshape(value.shape)
    return value if value.dtype.isnative else value.astype(value.dtype.newbyteorder("="))


def to_numpy(value: Any) -> Any:
    """Return an array for what :class:`Runner` gave; ``ml_dtypes`` arrays for types that numpy lacks."""
    if isinstance(value, (np.ndarray, np.generic, list, dict)) or value is None:
        return value
    import onnx_ir as ir

    dtype = np.dtype(ir.DataType(value.element_type()).numpy())
    return to_bytes(value).view(dtype).reshape(tuple(value.shape()))


def to_bytes(value: Any) -> npt.NDArray[np.uint8]:
    """Return the memory of an ``OrtValue`` of a type that numpy lacks as ``ml_dtypes`` has it, flat: a copy.

    Numbers of less than a byte take one each.
    """
    raw = np.frombuffer(bytes(raw_bytes(value)), np.uint8)
    number = value.element_type()
    if number not in _PACKED:
        return raw
    size, bits = math.prod(value.shape()), _PACKED[number]
    mask = (1 << bits) - 1
    shifted = np.right_shift(raw[:, None], np.arange(0, 8, bits, dtype=np.uint8), dtype=np.uint8)
    parts = (shifted & np.uint8(mask)).reshape(-1)[:size]
    if number in _SIGNED:  # the sign fills the byte
        parts[parts > mask >> 1] |= np.uint8(0xFF & ~mask)
    return parts


def is_packed(value: Any) -> bool:
    """Return whether an ``OrtValue`` holds several numbers in a byte."""
    return value.element_type() in _PACKED


def raw_bytes(value: Any) -> memoryview:
    """Return the memory of an ``OrtValue`` of a type that numpy lacks; valid as long as the value is."""
    count = value.tensor_size_in_bytes()
    return memoryview((ctypes.c_uint8 * count).from_address(value.data_ptr()) if count else b"").cast("B")


def to_ort(value: Any, foreign: int | None) -> Any:
    """Return an ``OrtValue`` that shares the memory of an array; other values as they are.

    Numbers of less than a byte, which take one each in an array, are copied several to a byte.

    Parameters
    ----------
    value : array or OrtValue
    foreign : int, optional
        Number of the element type in ONNX, when numpy lacks it.
    """
    import onnxruntime

    if not isinstance(value, np.ndarray):
        return value
    array: npt.NDArray[Any] = np.ascontiguousarray(value).reshape(value.shape)
    if foreign is None:
        return onnxruntime.OrtValue.ortvalue_from_numpy(array)
    if foreign in _PACKED:
        return _pack(array, foreign)
    raw = array.view(np.uint16 if array.dtype.itemsize == 2 else np.uint8)
    return onnxruntime.OrtValue.ortvalue_from_numpy_with_onnx_type(raw, foreign)


def _pack(array: npt.NDArray[Any], number: int) -> Any:
    import onnxruntime

    made = onnxruntime.OrtValue.ortvalue_from_shape_and_type(list(array.shape), number)
    bits = _PACKED[number]
    parts = array.reshape(-1).view(np.uint8) & (1 << bits) - 1
    parts = np.append(parts, np.zeros(-parts.size % (8 // bits), np.uint8)).reshape(-1, 8 // bits)
    packed = np.bitwise_or.reduce(parts << np.arange(0, 8, bits, dtype=np.uint8), axis=1).tobytes()
    ctypes.memmove(made.data_ptr(), packed, len(packed))
    return made


def _from_ort(value: Any) -> Any:
    if value.is_tensor() and f"{value.data_type()}" in _FOREIGN:
        return value
    return value.numpy()
