"""Type and shape of every value: by inference, then by a run where inference leaves holes."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnx_ir as ir

from onnx_pipeline.errors import InputError
from onnx_pipeline.model.dimensions import bound_dims, dims_of, evaluate, input_shape, unranked
from onnx_pipeline.model.external import nbytes as tensor_bytes
from onnx_pipeline.model.inference import Dims, infer, tensor_dims, tensor_dtype
from onnx_pipeline.model.inputs import make_feeds
from onnx_pipeline.model.limits import MAX_LOOP_SECONDS, MAX_VALUE_BYTES
from onnx_pipeline.model.running import (
    PLAIN,
    CannotRunError,
    failed_nodes,
    open_model,
    run_once,
    values_behind,
)
from onnx_pipeline.model.source import SourceModel


@dataclass(frozen=True)
class TensorInfo:
    """What is known about one value of the main graph.

    Attributes
    ----------
    name : str
    dtype : onnx_ir.DataType
        ``UNDEFINED`` for what is not a dense tensor (sequence, map, optional, sparse) or unknown.
    shape : tuple of int or None
        Concrete shape for the bound dimensions; None when unknown.
    declared : tuple or None
        Shape to write at a stage boundary: integers only where they hold for every input, names of symbolic
        dimensions, None for anything else. None as a whole where other inputs may give another rank.
    """

    name: str
    dtype: ir.DataType
    shape: tuple[int, ...] | None
    declared: Dims | None

    @property
    def nbytes(self) -> int:
        """Bytes of the tensor; 0 when unknown."""
        return 0 if self.shape is None else tensor_bytes(self.dtype, int(np.prod(self.shape, dtype=object)))

    @property
    def can_cross(self) -> bool:
        """Whether a stage boundary can carry the value: a tensor of known type, and known size or rank."""
        known = self.declared is not None or self.shape is not None
        return known and self.dtype != ir.DataType.UNDEFINED


def value_infos(
    source: SourceModel,
    dims: Mapping[str, int] | None = None,
    feeds: Mapping[str, npt.NDArray[Any]] | None = None,
    tell: Callable[[InputError], None] | None = None,
) -> dict[str, TensorInfo]:
    """Return type and shape of every value of the main graph, by name.

    What nothing reads (the unused mask of a Dropout) may stay unknown: no run is made for it.

    Parameters
    ----------
    source : SourceModel
    dims : mapping of str to int
        Values of symbolic dimensions, 1 by default.
    feeds : mapping of str to array
        Inputs whose shapes take precedence over ``dims`` and that serve for the run.
    tell : callable, optional
        Told why a run with random inputs fails, which is no error then: what is behind the node that fails
        stays unknown, so that no stage boundary can carry it.

    Raises
    ------
    InputError
        If the run fails, with the dimensions that disagree where that can be found out.
    """
    bound = bound_dims(source, dims)
    if feeds is not None:
        bound.update(dims_of(source, feeds))
    general = infer(source, {})
    fixed = _input_shapes(source, bound, feeds)
    special = infer(source, fixed) if _is_symbolic(source) else general
    infos: dict[str, TensorInfo] = {}
    for value in _values(source):
        infos[str(value.name)] = _combine(value, general, special, fixed, bound)
    used = {str(v.name) for v in _values(source) if v.uses() or v.is_graph_output()}
    holes = [name for name, info in infos.items() if name in used and _is_hole(info, special)]
    if holes:
        infos.update(_fill(source, infos, holes, bound, feeds, tell))
    if unranked(source):
        infos = {str(v.name): _any_rank(v, infos[str(v.name)], general) for v in _values(source)}
    for info in infos.values():
        if info.nbytes > MAX_VALUE_BYTES:
            raise InputError(
                source.path, f"value {info.name!r} of shape {list(info.shape or ())} is implausibly large"
            )
    return infos


def _any_rank(value: ir.Value, info: TensorInfo, general: Mapping[str, onnx.TypeProto]) -> TensorInfo:
    """Forget a rank that follows from that of inputs whose rank the model does not say."""
    certain = tensor_dims(general.get(info.name)) is not None or _recorded(value) is not None
    return info if certain or value.is_initializer() else replace(info, declared=None)


def _values(source: SourceModel) -> Iterable[ir.Value]:
    graph = source.ir.graph
    seen = dict.fromkeys(itertools.chain(graph.inputs, graph.initializers.values()))
    yield from seen
    for node in graph:
        yield from (v for v in node.outputs if v.name)


def _is_symbolic(source: SourceModel) -> bool:
    unknown = any(v.shape is None or not v.shape.is_static() for v in source.inputs)
    return unknown or bool(source.overridable)


def _input_shapes(
    source: SourceModel, dims: Mapping[str, int], feeds: Mapping[str, npt.NDArray[Any]] | None
) -> dict[str, tuple[int, ...]]:
    if feeds is not None:
        values = (*source.inputs, *source.overridable)
        tensors = {str(v.name) for v in values if isinstance(v.type, ir.TensorType)}
        return {name: tuple(np.shape(array)) for name, array in feeds.items() if name in tensors}
    return {
        str(v.name): input_shape(source, v, dims)
        for v in source.inputs
        if isinstance(v.type, ir.TensorType) and v.shape is not None
    }


def _combine(
    value: ir.Value,
    general: Mapping[str, onnx.TypeProto],
    special: Mapping[str, onnx.TypeProto],
    fixed: Mapping[str, tuple[int, ...]],
    bound: Mapping[str, int],
) -> TensorInfo:
    name = str(value.name)
    tensor = value.const_value
    if value.is_initializer() and tensor is not None:
        constant = tuple(int(d) for d in tensor.shape.numpy())
        if value.is_graph_input():  # a default value: others may have another shape
            return TensorInfo(name, tensor.dtype, fixed.get(name, constant), _recorded(value))
        return TensorInfo(name, tensor.dtype, constant, constant)
    inferred = tensor_dims(special.get(name))
    shape = fixed.get(name)
    if shape is None and inferred is not None and all(isinstance(d, int) for d in inferred):
        shape = tuple(int(d) for d in inferred if d is not None)
    dtype = tensor_dtype(special.get(name))
    return TensorInfo(name, dtype, shape, _declared(value, tensor_dims(general.get(name)), shape, bound))


def _declared(
    value: ir.Value, inferred: Dims | None, shape: tuple[int, ...] | None, bound: Mapping[str, int]
) -> Dims | None:
    """Merge the inferred general shape with the recorded one, which is only trusted for names.

    The model's own inputs and outputs keep what the file says, as far as ``shape`` does not contradict it.
    """
    recorded = _recorded(value)
    if value.is_graph_input():
        return recorded if recorded is not None or shape is None else (None,) * len(shape)
    rank = len(shape) if shape is not None else len(inferred) if inferred is not None else None
    if rank is None:
        return None
    inferred = inferred if inferred is not None and len(inferred) == rank else (None,) * rank
    recorded = recorded if recorded is not None and len(recorded) == rank else (None,) * rank
    merged: list[int | str | None] = []
    for axis in range(rank):
        known, noted = inferred[axis], recorded[axis]
        if isinstance(known, int):
            merged.append(known)
        elif isinstance(noted, str):
            merged.append(noted if _agrees(noted, shape, axis, bound) else None)
        elif isinstance(noted, int) and value.is_graph_output():
            merged.append(noted if shape is None or shape[axis] == noted else None)
        else:
            merged.append(None if known is None or known.startswith("unk__") else known)
    return tuple(merged)


def _recorded(value: ir.Value) -> Dims | None:
    if value.shape is None or not isinstance(value.type, ir.TensorType):
        return None
    return tuple(d if isinstance(d, int) else d.value for d in value.shape.dims)


def _agrees(name: str, shape: tuple[int, ...] | None, axis: int, bound: Mapping[str, int]) -> bool:
    expected = evaluate(name, bound)
    return shape is None or expected is None or expected == shape[axis]


def _is_hole(info: TensorInfo, special: Mapping[str, onnx.TypeProto]) -> bool:
    proto = special.get(info.name)
    if proto is not None and proto.WhichOneof("value") not in (None, "tensor_type"):
        return False  # a sequence, map, optional or sparse tensor: not a hole
    return info.shape is None or info.dtype == ir.DataType.UNDEFINED


def _fill(
    source: SourceModel,
    infos: Mapping[str, TensorInfo],
    holes: Sequence[str],
    bound: Mapping[str, int],
    feeds: Mapping[str, npt.NDArray[Any]] | None,
    tell: Callable[[InputError], None] | None,
) -> dict[str, TensorInfo]:
    """Run the model once with the unknown values as outputs."""
    values = {str(v.name): v for v in _values(source)}
    wanted = [name for name in holes if not values[name].is_graph_input()]
    if not wanted:
        return {}
    try:
        session = open_model(source, PLAIN, wanted)
    except InputError:
        known = {name: _from_record(values[name], bound) for name in wanted}
        if all(info is not None for info in known.values()):
            return {name: info for name, info in known.items() if info is not None}
        raise
    inputs = feeds if feeds is not None else make_feeds(source, bound)
    found = {name: TensorInfo(name, infos[name].dtype, None, None) for name in wanted}
    try:
        results = run_once(source, session, wanted, inputs, MAX_LOOP_SECONDS)
    except CannotRunError as error:
        if tell is None or feeds is not None:
            raise
        tell(error)
        results = _run_before(source, wanted, inputs, error)
    found.update((name, _from_run(values[name], infos[name], results[name], bound)) for name in results)
    return found


def _run_before(
    source: SourceModel,
    wanted: Sequence[str],
    inputs: Mapping[str, npt.NDArray[Any]],
    error: CannotRunError,
) -> dict[str, Any]:
    """Compute the values that do not depend on the node that failed, or on a Loop without end."""
    failed = failed_nodes(source, error) or [n for n in source.ir.graph if n.op_type == "Loop"]
    behind = values_behind(source, failed)
    free = [name for name in wanted if name not in behind]
    if not failed or not free:
        return {}
    try:
        session = open_model(source, PLAIN, free, behind)
        return run_once(source, session, free, inputs, MAX_LOOP_SECONDS)
    except InputError:
        return {}


def _from_record(value: ir.Value, bound: Mapping[str, int]) -> TensorInfo | None:
    recorded = _recorded(value)
    if recorded is None or value.dtype is None:
        return None
    sizes = [d if isinstance(d, int) else evaluate(d or "", bound) for d in recorded]
    shape = tuple(s for s in sizes if s is not None)
    return TensorInfo(str(value.name), value.dtype, shape if len(shape) == len(sizes) else None, recorded)


def _from_run(value: ir.Value, info: TensorInfo, result: Any, bound: Mapping[str, int]) -> TensorInfo:
    if isinstance(result, np.ndarray):
        shape = tuple(int(d) for d in result.shape)
        text = result.dtype.kind in "OUST"
        dtype = ir.DataType.STRING if text else ir.DataType.from_numpy(result.dtype)
    elif hasattr(result, "element_type"):
        shape, dtype = tuple(int(d) for d in result.shape()), ir.DataType(result.element_type())
    else:  # a sequence or a map
        return TensorInfo(info.name, ir.DataType.UNDEFINED, None, None)
    return TensorInfo(info.name, dtype, shape, _declared(value, info.declared, shape, bound))
