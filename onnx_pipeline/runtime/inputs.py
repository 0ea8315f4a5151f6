"""What a request must bring, checked before it enters the pipeline."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from onnx_pipeline.errors import InputError
from onnx_pipeline.manifest import Manifest, Port, Shape
from onnx_pipeline.ort.call import native

#: onnxruntime's names of element types where numpy (and ml_dtypes) have others.
_ONNX_NAMES = {
    "float32": "float",
    "float64": "double",
    "float8_e4m3fn": "float8e4m3fn",
    "float8_e4m3fnuz": "float8e4m3fnuz",
    "float8_e5m2": "float8e5m2",
    "float8_e5m2fnuz": "float8e5m2fnuz",
    "float4_e2m1fn": "float4e2m1",
}


#: Inputs of more elements are not made up: a manifest may claim any shape.
MOST_BLANKS = 1 << 27


@dataclass(frozen=True)
class NodeArg:
    """A model input or output, like onnxruntime's: name, type such as ``tensor(float)``, shape."""

    name: str
    type: str
    shape: Shape

    @classmethod
    def of(cls, port: Port) -> NodeArg:
        """Translate an entry of the manifest."""
        kind = _ONNX_NAMES.get(port.dtype, port.dtype)
        return cls(port.name, kind if "(" in kind else f"tensor({kind})", port.shape)


def check_feeds(document: Manifest, feeds: Mapping[str, Any]) -> dict[str, Any]:
    """Return the feeds of a split model as arrays.

    Raises
    ------
    InputError
        On the first input that is missing, unknown, or of a wrong type or shape; it names the input, what
        is expected and what was given.
    """
    required = {port.name: port for port in document.model.inputs}
    ports = required | {port.name: port for port in document.model.defaults}
    for name in feeds:
        if name not in ports:
            raise InputError(None, f"the model has no input {name!r}; it takes {', '.join(ports) or 'none'}")
    arrays: dict[str, Any] = {}
    for name, port in ports.items():
        if name in feeds:
            arrays[name] = _check_feed(port, feeds[name])
        elif name in required:
            raise InputError(None, f"input {name!r} ({_text(port.dtype, port.shape)}) is missing")
    return arrays


def check_outputs(
    document: Manifest, names: Sequence[str] | None, source: str | os.PathLike[str]
) -> list[str]:
    """Return the outputs to compute, all of them for None.

    Raises
    ------
    InputError
        If the model has no such output.
    """
    known = [port.name for port in document.model.outputs]
    wanted = known if names is None else list(names)
    for name in wanted:
        if name not in known:
            raise InputError(source, f"no output {name!r}; there are {', '.join(known)}")
    return wanted


def blank_feeds(
    document: Manifest, dims: Mapping[str, int] | None = None, seed: int | None = None
) -> dict[str, Any]:
    """Return zeros (empty strings) for every input, ones for masks; with a seed random floats.

    Symbolic dimensions are those of the profile, unless given.

    Raises
    ------
    InputError
        If an input is not a tensor or has no rank.
    """
    known = {**document.cost_model.get("dims", {}), **(dims or {})}
    random = None if seed is None else np.random.default_rng(seed)
    feeds: dict[str, Any] = {}
    for port in document.model.inputs:
        if "(" in port.dtype or port.dtype == "unknown" or port.shape is None:
            raise InputError(None, f"input {port.name!r} is {_text(port.dtype, port.shape)}: give its value")
        shape = [d if isinstance(d, int) else known.get(d or "", 1) for d in port.shape]
        if math.prod(shape) > MOST_BLANKS:
            raise InputError(
                None, f"input {port.name!r} is {_text(port.dtype, tuple(shape))}: give its value"
            )
        if port.dtype == "string":
            feeds[port.name] = np.full(shape, "", object)
            continue
        dtype = numpy_type(port.dtype)
        feeds[port.name] = np.full(shape, "mask" in port.name.lower(), dtype)
        if random is not None and dtype.kind in "fV":
            feeds[port.name] = random.standard_normal(shape).astype(dtype)
    return feeds


def numpy_type(dtype: str) -> np.dtype[Any]:
    """Return the numpy type of an element type as the manifest writes it; ml_dtypes has what numpy lacks."""
    try:
        return np.dtype(dtype)
    except TypeError:
        import onnx_ir  # noqa: F401 (brings ml_dtypes, whose types have names from then on)

        return np.dtype(dtype)


def _check_feed(port: Port, value: Any) -> Any:
    if "(" in port.dtype or port.dtype == "unknown":  # a sequence or the like
        return native(value)
    try:
        array = np.asarray(value)
    except ValueError as error:
        raise InputError(None, f"input {port.name!r} is not an array: {error}") from None
    array = native(array, None if port.dtype == "string" else numpy_type(port.dtype))
    given = _element_type(array)
    shape = port.shape
    fits = shape is None or (
        len(shape) == array.ndim
        and all(not isinstance(a, int) or a == b for a, b in zip(shape, array.shape, strict=True))
    )
    if given != port.dtype or not fits:
        message = f"input {port.name!r} must be {_text(port.dtype, shape)}, got {_text(given, array.shape)}"
        raise InputError(None, message)
    return array.astype(object) if array.dtype.kind == "T" else array


def _element_type(array: np.ndarray[Any, Any]) -> str:
    if array.dtype.kind == "O":
        strings = all(isinstance(item, (str, bytes)) for item in array.flat)
        return "string" if strings else "object"
    return "string" if array.dtype.kind in "UST" else array.dtype.name


def _text(dtype: str, shape: Shape) -> str:
    return dtype if shape is None else f"{dtype}[{', '.join('?' if d is None else str(d) for d in shape)}]"
