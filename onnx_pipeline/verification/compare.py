"""Comparing what the stages give with what the whole model gives."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_ir as ir

from onnx_pipeline.model.source import SourceModel

#: Allowed |difference| / max |expected|. A cut changes which kernels the runtime fuses, hence the order of
#: roundings; in a quantised model one rounding may move a value by a whole step.
TOLERANCE = 1e-4
TOLERANCE_HALF = 1e-2
TOLERANCE_QUANTISED = 5e-2
#: How many standard errors two means of random outputs may be apart: one false alarm in millions.
_SIGMAS = 8.0
_QUANTISED = ("QuantizeLinear", "DequantizeLinear", "QLinear", "MatMulInteger", "ConvInteger", "MatMulNBits")


@dataclass(frozen=True)
class OutputCheck:
    """How one model output compares.

    Attributes
    ----------
    name : str
    equal : bool
        Bitwise, NaN equal to NaN.
    max_abs : float
        Largest absolute difference.
    max_rel : float
        The same over the largest absolute expected value.
    tolerance : float
        What ``max_rel`` may be.
    ok : bool
    """

    name: str
    equal: bool
    max_abs: float
    max_rel: float
    tolerance: float
    ok: bool


def tolerance(source: SourceModel) -> float:
    """Return the relative difference that a split of this model may show."""
    operators = {node.op_type for node in source.ir.graph.all_nodes()}
    operators |= {node.op_type for function in source.ir.functions.values() for node in function.all_nodes()}
    if any(mark in name for name in operators for mark in _QUANTISED):
        return TOLERANCE_QUANTISED
    half = {ir.DataType.FLOAT16, ir.DataType.BFLOAT16}
    values = [*source.ir.graph.inputs, *source.ir.graph.initializers.values(), *source.outputs]
    return TOLERANCE_HALF if any(v.dtype in half for v in values) else TOLERANCE


def compare_output(name: str, actual: Any, expected: Any, limit: float) -> OutputCheck:
    """Compare one output: a tensor, or a sequence or map of tensors."""
    pairs = list(_leaves(actual, expected))
    if any(not _alike(a, e) for a, e in pairs):
        return OutputCheck(name, False, math.inf, math.inf, limit, False)
    equal = all(_same(a, e) for a, e in pairs)
    if equal:
        return OutputCheck(name, True, 0.0, 0.0, limit, True)
    differences = [_difference(a, e) for a, e in pairs]
    max_abs = max(absolute for absolute, _ in differences)
    max_rel = max(relative for _, relative in differences)
    return OutputCheck(name, False, max_abs, max_rel, limit, max_rel <= limit)


def _leaves(actual: Any, expected: Any) -> Iterator[tuple[Any, Any]]:
    if isinstance(expected, dict) and isinstance(actual, dict) and actual.keys() == expected.keys():
        for key in expected:
            yield from _leaves(actual[key], expected[key])
    elif isinstance(expected, list) and isinstance(actual, list) and len(actual) == len(expected):
        for a, e in zip(actual, expected, strict=True):
            yield from _leaves(a, e)
    else:
        yield actual, expected


def _alike(actual: Any, expected: Any) -> bool:
    """Return whether two leaves have the same type and shape."""
    if isinstance(expected, (list, dict)) or expected is None:
        return expected is None and actual is None  # containers only get here when they differ
    a, e = np.asarray(actual), np.asarray(expected)
    return a.dtype == e.dtype and a.shape == e.shape


def _same(actual: Any, expected: Any) -> bool:
    if not _alike(actual, expected):
        return False
    if expected is None:
        return True
    a, e = np.asarray(actual), np.asarray(expected)
    if a.dtype.kind in "OUSTbiu":
        return bool(np.array_equal(a, e))
    return bool(np.all((a == e) | (np.isnan(a) & np.isnan(e))))


def _difference(actual: Any, expected: Any) -> tuple[float, float]:
    """Return the largest absolute difference, and the same over the largest expected value."""
    if _same(actual, expected):
        return 0.0, 0.0
    a, e = np.asarray(actual), np.asarray(expected)
    if a.dtype.kind in "OUSTbiu":
        return math.inf, math.inf  # indices, labels and flags have no tolerance
    wide = np.complex128 if a.dtype.kind == "c" else np.float64
    a, e = a.astype(wide), e.astype(wide)
    agree = (a == e) | (np.isnan(a) & np.isnan(e))
    if not np.all(np.isfinite(a[~agree]) & np.isfinite(e[~agree])):
        return math.inf, math.inf
    absolute = float(np.max(np.abs(a[~agree] - e[~agree])))
    finite = np.abs(e[np.isfinite(e)])
    largest = float(finite.max()) if finite.size else 0.0
    return absolute, absolute / largest if largest else math.inf


def same_form(names: Sequence[str], actual: Sequence[Any], expected: Sequence[Any]) -> Iterator[str]:
    """Yield one line per output whose type or shape differs, whatever its values."""
    for name, a, e in zip(names, actual, expected, strict=True):
        if not all(_alike(x, y) for x, y in _leaves(a, e)):
            yield f"output {name!r} differs in type or shape"


def same_distribution(
    names: Sequence[str], actual: Sequence[Sequence[Any]], expected: Sequence[Sequence[Any]]
) -> Iterator[str]:
    """Yield one line per output whose mean or scatter over runs is not that of the expected runs.

    Parameters
    ----------
    names : sequence of str
    actual, expected : sequence of sequence
        Runs x outputs.
    """
    for index, name in enumerate(names):
        both = [[_moments(run[index]) for run in runs] for runs in (actual, expected)]
        for what, a, e in zip(("mean", "scatter"), *(np.array(m).T for m in both), strict=True):
            error = math.sqrt(a.var(ddof=1) / len(a) + e.var(ddof=1) / len(e))
            size = max(abs(float(e.mean())), abs(float(a.mean())), 1e-12)
            if abs(float(a.mean() - e.mean())) > _SIGMAS * error + TOLERANCE_HALF * 1e-2 * size:
                yield f"output {name!r}: its {what} over runs is {a.mean():.4g}, not {e.mean():.4g}"


def _moments(value: Any) -> tuple[float, float]:
    """Return mean and standard deviation of the finite numbers in an output."""
    leaves = [np.asarray(leaf).reshape(-1) for leaf, _ in _leaves(value, value)]
    numbers = [leaf.astype(np.float64) for leaf in leaves if leaf.dtype.kind not in "OUSTc"]
    flat = np.concatenate([n[np.isfinite(n)] for n in numbers]) if numbers else np.zeros(0)
    return (float(flat.mean()), float(flat.std())) if flat.size else (0.0, 0.0)
