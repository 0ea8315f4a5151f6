"""Inputs for a model: seeded random values, values from a file."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from onnx_pipeline.errors import Advice, InputError
from onnx_pipeline.figures import format_bytes
from onnx_pipeline.files.messages import is_messages, load_messages
from onnx_pipeline.files.npz import unreadable
from onnx_pipeline.model.dimensions import bound_dims, dims_of, input_shape, is_container
from onnx_pipeline.model.external import nbytes
from onnx_pipeline.model.protos import describe
from onnx_pipeline.model.source import SourceModel
from onnx_pipeline.ort.call import native

#: Operators whose output holds the same numbers as their first input.
_MOVES = frozenset(
    {"Cast", "Concat", "Expand", "Flatten", "Identity", "Pad", "Reshape", "Slice", "Split", "Squeeze", "Tile"}
    | {"Transpose", "Unsqueeze"}
)
#: Random inputs above this size are refused: most likely a dimension is wrong.
MAX_RANDOM_BYTES = 1 << 28
_LOOKUPS = frozenset({"Gather", "GatherElements", "GatherND"})


def make_feeds(
    source: SourceModel,
    dims: Mapping[str, int] | None = None,
    seed: int = 0,
    ranks: Mapping[str, int] | None = None,
) -> dict[str, npt.NDArray[Any]]:
    """Return seeded random inputs that the model should accept.

    Floats are standard normal. Integers that select rows of a table stay inside the table, other integers
    are 0 or 1, bytes are arbitrary, and whatever is called a mask is all ones (nothing masked). ``ranks`` has
    the number of dimensions, each of size 1, of inputs for which the model says none.

    Raises
    ------
    InputError
        If an input is not a tensor or has no rank.
    UsageError
        See :func:`bound_dims`.
    """
    bound = bound_dims(source, dims)
    random = np.random.default_rng(seed)
    shapes = {name: (1,) * rank for name, rank in (ranks or {}).items()}
    shapes |= {str(v.name): input_shape(source, v, bound) for v in source.inputs if v.name not in shapes}
    for value in source.inputs:
        shape = shapes[str(value.name)]
        size = nbytes(value.dtype or ir.DataType.UNDEFINED, math.prod(shape))
        if size > MAX_RANDOM_BYTES:
            raise InputError(
                source.path,
                f"input {value.name!r} of shape {list(shape)} would take {format_bytes(size)}: random "
                f"inputs are limited to {format_bytes(MAX_RANDOM_BYTES)}",
                Advice("set {dims} or give {inputs}", dims=..., inputs=...),
            )
    return {str(v.name): _random(source, v, shapes[str(v.name)], random) for v in source.inputs}


def load_feeds(path: str | os.PathLike[str], source: SourceModel) -> dict[str, npt.NDArray[Any]]:
    """Read inputs from an ``.npz`` file, or files of messages, and check them against the model.

    Raises
    ------
    InputError
        If the file cannot be read, or a name, type, rank or dimension does not fit.
    """
    if is_messages(path):
        values = (*source.inputs, *source.overridable)
        return check_feeds(source, load_messages(path, [(str(v.name), _kind(v)) for v in values]), path)
    try:
        with np.load(path, allow_pickle=False) as data:
            arrays = {name: np.asarray(data[name]) for name in data.files}
    except Exception as error:  # whatever a forged header provokes in numpy's parser
        raise InputError(path, f"cannot read inputs: {unreadable(error)}") from error
    return check_feeds(source, arrays, path)


def check_feeds(
    source: SourceModel, feeds: Mapping[str, npt.NDArray[Any]], path: str | os.PathLike[str] | None = None
) -> dict[str, npt.NDArray[Any]]:
    """Return ``feeds`` as this machine keeps numbers if the model takes them; ``path`` is named in errors.

    Raises
    ------
    InputError
        On the first input that is missing, unknown, or of a wrong type, rank or dimension.
    """
    wanted = {str(v.name): v for v in (*source.inputs, *source.overridable)}
    for name in feeds:
        if name not in wanted:
            raise InputError(path, f"the model has no input {name!r}; it takes {', '.join(wanted)}")
    arrays: dict[str, npt.NDArray[Any]] = {}
    for name, value in wanted.items():
        if name not in feeds and value.is_initializer():
            continue
        if name not in feeds:
            raise InputError(path, f"input {name!r} is missing")
        expected = None if value.dtype is None else _numpy_type(value.dtype)
        array = arrays[name] = native(feeds[name], expected)
        if not isinstance(value.type, ir.TensorType):  # a sequence, a map or an optional: onnxruntime checks
            continue
        if not isinstance(array, (np.ndarray, np.generic)):
            raise InputError(path, f"input {name!r} must be an array, got {type(array).__name__}")
        if expected is not None and array.dtype != expected and value.dtype != ir.DataType.STRING:
            raise InputError(path, f"input {name!r} must be {expected}, got {array.dtype}")
        if value.shape is not None and value.shape.rank() != array.ndim:
            raise InputError(path, f"input {name!r} must have shape {value.shape}, got {list(array.shape)}")
    dims_of(source, arrays, path)
    return arrays


def _kind(value: ir.Value) -> str:
    proto = describe(value).type
    return f"{str(proto.WhichOneof('value')).removesuffix('_type')}()"


def _numpy_type(dtype: ir.DataType) -> np.dtype[Any] | None:
    try:
        return np.dtype(dtype.numpy())
    except TypeError:
        return None


def _random(
    source: SourceModel, value: ir.Value, shape: tuple[int, ...], random: np.random.Generator
) -> npt.NDArray[Any]:
    name, dtype = str(value.name), value.dtype
    if is_container(value):
        made: npt.NDArray[Any] = _random_container(source, value, shape, random)
        return made
    if dtype is None or not isinstance(value.type, ir.TensorType):
        raise InputError(
            source.path, f"input {name!r} is not a dense tensor; random values cannot be made for it"
        )
    if dtype == ir.DataType.STRING:
        return random.choice(np.array(["a", "b", "c"], dtype=object), size=shape)
    kind = _numpy_type(dtype)
    if kind is None:
        raise InputError(source.path, f"input {name!r} has type {dtype}; random values cannot be made for it")
    if "mask" in name.lower():
        return np.ones(shape, dtype=kind)
    if dtype == ir.DataType.BOOL:
        return random.integers(0, 2, size=shape).astype(kind)
    if dtype in (ir.DataType.COMPLEX64, ir.DataType.COMPLEX128):
        return (random.standard_normal(shape) + 1j * random.standard_normal(shape)).astype(kind)
    if dtype.is_floating_point():
        return random.standard_normal(shape).astype(kind)
    limit = _table_rows(value)
    if limit is None:
        limit = 128 if dtype in (ir.DataType.UINT8, ir.DataType.INT8) else 2
        if not shape:  # a lone integer is a count, a length or a size: 0 would make everything empty
            return np.ones(shape, dtype=kind)
    top = min(limit, _largest(dtype) + 1)
    return random.integers(0, max(top, 1), size=shape).astype(kind)


def _random_container(
    source: SourceModel, value: ir.Value, shape: tuple[int, ...], random: np.random.Generator
) -> Any:
    """Return a sequence of one element, or what an optional may hold."""
    kind = value.type
    if not isinstance(kind, (ir.SequenceType, ir.OptionalType)) or isinstance(kind.elem_type, ir.DataType):
        raise InputError(
            source.path, f"input {value.name!r} has a type for which random values cannot be made"
        )
    inside = ir.Value(name=value.name, type=kind.elem_type, shape=value.shape)
    element = _random(source, inside, shape, random)
    return [element] if isinstance(kind, ir.SequenceType) else element


def _largest(dtype: ir.DataType) -> int:
    signed = dtype.is_signed()
    return int((1 << (dtype.bitwidth - (1 if signed else 0))) - 1)


def _table_rows(value: ir.Value) -> int | None:
    """Return the size of the smallest table axis that the input's numbers select from, if any."""
    rows: list[int] = []
    seen = {value}
    waiting = [value]
    while waiting:
        for node, index in waiting.pop().uses():
            if node.op_type in _LOOKUPS and index == 1:
                rows += _axis_size(node)
            elif node.op_type in _MOVES and (index == 0 or node.op_type == "Concat"):
                fresh = [v for v in node.outputs if v not in seen]
                seen.update(fresh)
                waiting += fresh
    return min(rows, default=None)


def _axis_size(node: ir.Node) -> list[int]:
    table = node.inputs[0]
    axis = node.attributes["axis"].as_int() if "axis" in node.attributes else 0
    if table is None or table.shape is None or not -table.shape.rank() <= axis < table.shape.rank():
        return []
    size = table.shape[axis]
    return [size] if isinstance(size, int) else []
