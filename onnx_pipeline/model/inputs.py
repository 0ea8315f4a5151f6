"""Inputs for a model: symbolic dimensions, seeded random values, values from a file."""

from __future__ import annotations

import math
import os
import zipfile
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from onnx_pipeline.errors import Advice, InputError, UsageError
from onnx_pipeline.model.external import nbytes
from onnx_pipeline.model.source import SourceModel

#: Operators whose output holds the same numbers as their first input.
_MOVES = frozenset(
    {"Cast", "Concat", "Expand", "Flatten", "Identity", "Pad", "Reshape", "Slice", "Split", "Squeeze", "Tile"}
    | {"Transpose", "Unsqueeze"}
)
#: Random inputs above this size are refused: a wrong dimension is likelier than the wish for them.
MAX_RANDOM_BYTES = 1 << 28
_LOOKUPS = frozenset({"Gather", "GatherElements", "GatherND"})


def bound_dims(source: SourceModel, dims: Mapping[str, int] | None = None) -> dict[str, int]:
    """Return a value for every symbolic dimension of the inputs, 1 unless ``dims`` says otherwise.

    Raises
    ------
    UsageError
        If ``dims`` names a dimension that no input has, or a value is negative.
    """
    known = dict.fromkeys(_symbol_names(source), 1)
    for name, value in (dims or {}).items():
        if name not in known:
            have = "they have " + ", ".join(known) if known else "they have none"
            raise UsageError(f"the inputs of {source.path.name} have no dimension {name!r}; {have}")
        if value < 0:
            raise UsageError(f"dimension {name!r} must not be negative, got {value}")
        known[name] = int(value)
    return known


def input_shape(source: SourceModel, value: ir.Value, dims: Mapping[str, int]) -> tuple[int, ...]:
    """Return the concrete shape of a model input; unnamed unknown dimensions are 1.

    Raises
    ------
    InputError
        If the input has no declared rank.
    """
    if value.shape is None and _container(value):
        return ()
    if value.shape is None:
        message = f"input {value.name!r} has no shape"
        raise InputError(source.path, message, Advice("give it with {inputs}", inputs=...))
    known = set(dims)
    return tuple(d if isinstance(d, int) else _evaluate(d, dims, known) for d in value.shape.dims)


def make_feeds(
    source: SourceModel, dims: Mapping[str, int] | None = None, seed: int = 0
) -> dict[str, npt.NDArray[Any]]:
    """Return seeded random inputs that the model should accept.

    Floats are standard normal. Integers that select rows of a table stay inside the table, other integers
    are 0 or 1, bytes are arbitrary, and whatever is called a mask is all ones (nothing masked).

    Raises
    ------
    InputError
        If an input is not a tensor or has no rank.
    UsageError
        See :func:`bound_dims`.
    """
    bound = bound_dims(source, dims)
    random = np.random.default_rng(seed)
    shapes = {str(v.name): input_shape(source, v, bound) for v in source.inputs}
    for value in source.inputs:
        shape = shapes[str(value.name)]
        size = nbytes(value.dtype or ir.DataType.UNDEFINED, math.prod(shape))
        if size > MAX_RANDOM_BYTES:
            raise InputError(
                source.path,
                f"input {value.name!r} of shape {list(shape)} would take {size:,} bytes: random inputs are "
                f"limited to {MAX_RANDOM_BYTES:,}",
                Advice("set {dims} or give {inputs}", dims=..., inputs=...),
            )
    return {str(v.name): _random(source, v, shapes[str(v.name)], random) for v in source.inputs}


def load_feeds(path: str | os.PathLike[str], source: SourceModel) -> dict[str, npt.NDArray[Any]]:
    """Read inputs from an ``.npz`` file and check them against the model.

    Raises
    ------
    InputError
        If the file cannot be read, or a name, type, rank or dimension does not fit.
    """
    try:
        with np.load(path, allow_pickle=False) as data:
            arrays = {name: np.asarray(data[name]) for name in data.files}
    except (OSError, ValueError, EOFError, AttributeError, TypeError, zipfile.BadZipFile) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else "not an .npz file"
        raise InputError(path, f"cannot read inputs: {reason}") from error
    check_feeds(source, arrays, path)
    return arrays


def check_feeds(
    source: SourceModel, feeds: Mapping[str, npt.NDArray[Any]], path: str | os.PathLike[str] | None = None
) -> None:
    """Check that ``feeds`` are what the model takes; ``path`` is named in errors.

    Raises
    ------
    InputError
        On the first input that is missing, unknown, or of a wrong type, rank or dimension.
    """
    wanted = {str(v.name): v for v in source.inputs}
    for name in feeds:
        if name not in wanted:
            raise InputError(path, f"the model has no input {name!r}; it takes {', '.join(wanted)}")
    for name, value in wanted.items():
        if name not in feeds:
            raise InputError(path, f"input {name!r} is missing")
        array = feeds[name]
        if not isinstance(value.type, ir.TensorType):  # a sequence, a map or an optional: onnxruntime checks
            continue
        expected = None if value.dtype is None else _numpy_type(value.dtype)
        if expected is not None and array.dtype != expected and value.dtype != ir.DataType.STRING:
            raise InputError(path, f"input {name!r} must be {expected}, got {array.dtype}")
        if value.shape is not None and value.shape.rank() != array.ndim:
            raise InputError(path, f"input {name!r} must have shape {value.shape}, got {list(array.shape)}")
    dims_of(source, feeds, path)


def dims_of(
    source: SourceModel, feeds: Mapping[str, npt.NDArray[Any]], path: str | os.PathLike[str] | None = None
) -> dict[str, int]:
    """Return the value that ``feeds`` give to every symbolic dimension that they determine.

    Raises
    ------
    InputError
        If a fixed dimension differs or two inputs disagree about a symbolic one.
    """
    found: dict[str, tuple[int, str]] = {}
    for value in source.inputs:
        name = str(value.name)
        if not isinstance(value.type, ir.TensorType):
            continue
        for dim, actual in zip(value.shape.dims if value.shape else (), feeds[name].shape, strict=False):
            if isinstance(dim, int):
                if dim != actual:
                    raise InputError(
                        path, f"input {name!r} must have shape {value.shape}, got {list(feeds[name].shape)}"
                    )
            elif dim.value is not None:
                seen, other = found.setdefault(dim.value, (actual, name))
                if seen != actual:
                    raise InputError(
                        path, f"dimension {dim.value!r} is {seen} in input {other!r}, {actual} in {name!r}"
                    )
    known = _symbol_names(source)
    return {name: size for name, (size, _) in found.items() if name in known}


def evaluate(dim: str, dims: Mapping[str, int]) -> int | None:
    """Return the value of a symbolic dimension such as ``past + new``, or None when it is not determined."""
    if dim in dims:
        return dims[dim]
    if not any(c in dim for c in "+-*/("):
        return None
    try:
        value = ir.SymbolicDim(dim).evaluate(dict(dims))
    except Exception:  # not an expression
        return None
    return value if isinstance(value, int) else None


def _symbol_names(source: SourceModel) -> list[str]:
    """Names of independent dimensions, in order of appearance.

    An expression of other dimensions (``past + new``) is not independent; a name that only looks like one
    (``batch-size``) is.
    """
    names: dict[str, None] = {}
    for value in source.inputs:
        for dim in value.shape.dims if value.shape is not None else ():
            if not isinstance(dim, int) and dim.value is not None:
                names[dim.value] = None
    plain = {name for name in names if not any(c in name for c in "+-*/(")}
    return [name for name in names if name in plain or not _is_expression_of(name, plain)]


def _is_expression_of(name: str, plain: set[str]) -> bool:
    return evaluate(name, dict.fromkeys(plain, 1)) is not None


def _evaluate(dim: ir.SymbolicDim, dims: Mapping[str, int], known: set[str]) -> int:
    if dim.value is None:
        return 1
    value = evaluate(dim.value, dims)
    return 1 if value is None else value


def _numpy_type(dtype: ir.DataType) -> np.dtype[Any] | None:
    try:
        return np.dtype(dtype.numpy())
    except TypeError:
        return None


def _random(
    source: SourceModel, value: ir.Value, shape: tuple[int, ...], random: np.random.Generator
) -> npt.NDArray[Any]:
    name, dtype = str(value.name), value.dtype
    if _container(value):
        made: npt.NDArray[Any] = _random_container(source, value, shape, random)
        return made
    if dtype is None or not isinstance(value.type, ir.TensorType):
        raise InputError(source.path, f"input {name!r} is not a dense tensor; no values can be made for it")
    if dtype == ir.DataType.STRING:
        return random.choice(np.array(["a", "b", "c"], dtype=object), size=shape)
    kind = _numpy_type(dtype)
    if kind is None:
        raise InputError(source.path, f"input {name!r} has type {dtype}; no values can be made for it")
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


def _container(value: ir.Value) -> bool:
    return isinstance(value.type, (ir.SequenceType, ir.OptionalType))


def _random_container(
    source: SourceModel, value: ir.Value, shape: tuple[int, ...], random: np.random.Generator
) -> Any:
    """Return a sequence of one element, or what an optional may hold."""
    kind = value.type
    if not isinstance(kind, (ir.SequenceType, ir.OptionalType)) or isinstance(kind.elem_type, ir.DataType):
        raise InputError(source.path, f"input {value.name!r} has a type that no values can be made for")
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
