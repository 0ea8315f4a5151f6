"""One call of an onnxruntime session, for every element type that numpy has or has not.

onnxruntime's numpy interface knows neither bfloat16 nor the 8-bit floats; tensors of these types travel as
``OrtValue`` and become ``ml_dtypes`` arrays only at the very end.
"""

from __future__ import annotations

import ctypes
from collections.abc import Mapping, Sequence
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
}


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


def run_session(session: Any, outputs: Sequence[str], feeds: Mapping[str, Any]) -> list[Any]:
    """Run a session once; see :class:`Runner`."""
    return Runner(session, outputs)(dict(feeds))


def to_numpy(value: Any) -> Any:
    """Return an array for what :class:`Runner` gave; ``ml_dtypes`` arrays for types that numpy lacks."""
    if isinstance(value, (np.ndarray, np.generic, list, dict)) or value is None:
        return value
    import onnx_ir as ir

    dtype = np.dtype(ir.DataType(value.element_type()).numpy())
    return np.frombuffer(bytes(raw_bytes(value)), dtype=dtype).reshape(tuple(value.shape()))


def raw_bytes(value: Any) -> memoryview:
    """Return the memory of an ``OrtValue`` of a type that numpy lacks; valid as long as the value is."""
    count = value.tensor_size_in_bytes()
    return memoryview((ctypes.c_uint8 * count).from_address(value.data_ptr()) if count else b"").cast("B")


def to_ort(value: Any, foreign: int | None) -> Any:
    """Return an ``OrtValue`` that shares the memory of an array; other values as they are.

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
    raw = array.view(np.uint16 if array.dtype.itemsize == 2 else np.uint8)
    return onnxruntime.OrtValue.ortvalue_from_numpy_with_onnx_type(raw, foreign)


def _from_ort(value: Any) -> Any:
    if value.is_tensor() and f"{value.data_type()}" in _FOREIGN:
        return value
    return value.numpy()
