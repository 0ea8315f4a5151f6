"""Symbolic dimensions of a model's inputs: their names, their values, and the shapes that follow."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import numpy.typing as npt
import onnx_ir as ir

from onnx_pipeline.errors import Advice, InputError, UsageError
from onnx_pipeline.model.expressions import evaluate_expression
from onnx_pipeline.model.source import SourceModel


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
            have = f"only {', '.join(known)}" if known else "their dimensions are fixed"
            raise UsageError(f"the inputs of {source.path.name} have no dimension {name!r}: {have}")
        if value < 0:
            raise UsageError(f"dimension {name!r} must not be negative, got {value}")
        known[name] = int(value)
    return known


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


def input_shape(source: SourceModel, value: ir.Value, dims: Mapping[str, int]) -> tuple[int, ...]:
    """Return the concrete shape of a model input; unnamed unknown dimensions are 1.

    Raises
    ------
    InputError
        If the input has no declared rank.
    """
    if value.shape is None and is_container(value):
        return ()
    if value.shape is None:
        message = f"input {value.name!r} has no shape"
        raise InputError(source.path, message, Advice("give it with {inputs}", inputs=...))
    shape = tuple(d if isinstance(d, int) else _evaluate(d, dims) for d in value.shape.dims)
    if min(shape, default=0) < 0:
        message = f"input {value.name!r} of shape {value.shape} would have the shape {list(shape)}"
        raise InputError(source.path, message, Advice("set {dims}", dims=...))
    return shape


def evaluate(dim: str, dims: Mapping[str, int]) -> int | None:
    """Return the value of a symbolic dimension such as ``past + new``, or None when it is not determined."""
    if dim in dims:
        return dims[dim]
    if not any(c in dim for c in "+-*/("):
        return None
    return evaluate_expression(dim, dims)


def unranked(source: SourceModel) -> list[ir.Value]:
    """Return the inputs whose number of dimensions the model does not say."""
    return [v for v in source.inputs if v.shape is None and isinstance(v.type, ir.TensorType)]


def is_container(value: ir.Value) -> bool:
    """Return whether a value is a sequence or an optional."""
    return isinstance(value.type, (ir.SequenceType, ir.OptionalType))


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


def _evaluate(dim: ir.SymbolicDim, dims: Mapping[str, int]) -> int:
    if dim.value is None:
        return 1
    value = evaluate(dim.value, dims)
    return 1 if value is None else value
