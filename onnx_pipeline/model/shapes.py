"""Type and shape of every value: by inference, then by a run where inference leaves holes."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnx_ir as ir

from onnx_pipeline.errors import InputError, PipelineError
from onnx_pipeline.model import source as models
from onnx_pipeline.model.external import nbytes as tensor_bytes
from onnx_pipeline.model.inputs import bound_dims, dims_of, evaluate, input_shape, make_feeds
from onnx_pipeline.model.limits import MAX_LOOP_SECONDS, MAX_VALUE_BYTES
from onnx_pipeline.model.source import SourceModel
from onnx_pipeline.ort.call import run_session
from onnx_pipeline.stop import Deadline

#: Constants up to this size take part in inference (they may be shapes, axes, repeats).
_SMALL_BYTES = 4096

Dims = tuple[int | str | None, ...]


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
        dimensions, None for anything else.
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
        """Whether a stage boundary can carry the value: a tensor of known type and rank."""
        return self.dtype != ir.DataType.UNDEFINED and self.declared is not None


def value_infos(
    source: SourceModel,
    dims: Mapping[str, int] | None = None,
    feeds: Mapping[str, npt.NDArray[Any]] | None = None,
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

    Raises
    ------
    InputError
        If the run fails, with the dimensions that disagree where that can be found out.
    """
    bound = bound_dims(source, dims)
    if feeds is not None:
        bound.update(dims_of(source, feeds))
    general = _infer(source, {})
    fixed = _input_shapes(source, bound, feeds)
    special = _infer(source, fixed) if _is_symbolic(source) else general
    infos: dict[str, TensorInfo] = {}
    for value in _values(source):
        infos[str(value.name)] = _combine(value, general, special, fixed, bound)
    used = {str(v.name) for v in _values(source) if v.uses() or v.is_graph_output()}
    holes = [name for name, info in infos.items() if name in used and _is_hole(info, special)]
    if holes:
        infos.update(_fill(source, infos, holes, bound, feeds))
    for info in infos.values():
        if info.nbytes > MAX_VALUE_BYTES:
            raise InputError(
                source.path, f"value {info.name!r} of shape {list(info.shape or ())} is absurdly large"
            )
    return infos


def explain_failure(source: SourceModel, dims: Mapping[str, int] | None, error: Exception) -> InputError:
    """Turn onnxruntime's refusal to run the model into one line that says which dimension to set.

    Other values of one or two symbolic dimensions are tried for a few seconds.
    """
    bound = bound_dims(source, dims)
    reason = _one_line(error)
    if not bound:
        return InputError(source.path, f"onnxruntime cannot run the model: {reason}; try --inputs FILE.npz")
    now = ", ".join(f"{name}={value}" for name, value in bound.items())
    message = f"onnxruntime cannot run the model with {now}"
    better = _working_dims(source, bound)
    if better is None:
        return InputError(source.path, f"{message}; set dimensions that agree with --dim NAME=INT ({reason})")
    inputs = [
        f"{v.name} is {v.shape}"
        for v in source.inputs
        if v.shape is not None and any(str(d) in better for d in v.shape.dims)
    ]
    options = " ".join(f"--dim {name}={value}" for name, value in better.items())
    return InputError(
        source.path, f"{message}: the inputs disagree; it runs with {options} ({', '.join(inputs[:3])})"
    )


def _values(source: SourceModel) -> Iterable[ir.Value]:
    graph = source.ir.graph
    seen = dict.fromkeys(itertools.chain(graph.inputs, graph.initializers.values()))
    yield from seen
    for node in graph:
        yield from (v for v in node.outputs if v.name)


def _is_symbolic(source: SourceModel) -> bool:
    return any(v.shape is None or not v.shape.is_static() for v in source.inputs)


def _input_shapes(
    source: SourceModel, dims: Mapping[str, int], feeds: Mapping[str, npt.NDArray[Any]] | None
) -> dict[str, tuple[int, ...]]:
    if feeds is not None:
        tensors = {str(v.name) for v in source.inputs if isinstance(v.type, ir.TensorType)}
        return {name: tuple(np.shape(array)) for name, array in feeds.items() if name in tensors}
    return {
        str(v.name): input_shape(source, v, dims)
        for v in source.inputs
        if isinstance(v.type, ir.TensorType) and v.shape is not None
    }


def _infer(source: SourceModel, fixed: Mapping[str, tuple[int, ...]]) -> dict[str, onnx.TypeProto]:
    """Run ONNX shape inference without weights and without the shapes recorded in the file."""
    proto = _skeleton(source, fixed)
    if not fixed:
        _check_valid(source, proto)
    inferred = proto
    for data_prop in (True, False):
        try:
            inferred = onnx.shape_inference.infer_shapes(proto, strict_mode=False, data_prop=data_prop)
            break
        except Exception:  # inference is best effort: a run fills the holes
            continue
    graph = inferred.graph
    return {v.name: v.type for v in itertools.chain(graph.input, graph.value_info, graph.output)}


def _check_valid(source: SourceModel, skeleton: onnx.ModelProto) -> None:
    """Refuse what neither the ONNX checker nor onnxruntime accepts: it would only give broken stages."""
    checked = onnx.ModelProto()
    checked.CopyFrom(skeleton)
    for value in checked.graph.output:  # recorded shapes play no part here, but the checker wants one
        if value.type.HasField("tensor_type"):
            value.type.tensor_type.shape.SetInParent()
    try:
        onnx.checker.check_model(checked)
    except Exception as problem:
        if "No Op registered" in str(problem):  # the operators of onnxruntime and of custom libraries
            return
        try:
            _session(source)
        except Exception:
            reason = " ".join(str(problem).split())[:300]
            raise InputError(source.path, f"this is no valid ONNX model: {reason}") from None


def _skeleton(source: SourceModel, fixed: Mapping[str, tuple[int, ...]]) -> onnx.ModelProto:
    """Return the model with large constants turned into inputs and the given input shapes."""
    graph = source.ir.graph
    proto = models.shell(source)
    proto.ir_version = max(proto.ir_version, 4)  # initializers need not be inputs
    for value in source.inputs:
        info = models.describe(value)
        if value.name in fixed:
            del info.type.tensor_type.shape.dim[:]
            for size in fixed[str(value.name)]:
                info.type.tensor_type.shape.dim.add(dim_value=size)
        proto.graph.input.append(info)
    for name, value in graph.initializers.items():
        _add_constant(proto.graph, name, value.const_value)
    for node in graph:
        constant = models.constant_tensor(node)
        if constant is not None and constant.nbytes > _SMALL_BYTES:
            _add_constant(proto.graph, str(node.outputs[0].name), constant)
        else:
            proto.graph.node.append(ir.to_proto(node))
    for value in graph.outputs:
        info = onnx.ValueInfoProto(name=value.name)
        if isinstance(value.type, ir.TensorType):
            info.type.tensor_type.elem_type = value.type.dtype.value
        else:
            info.CopyFrom(models.describe(value))
        proto.graph.output.append(info)
    return proto


def _add_constant(graph: onnx.GraphProto, name: str, tensor: ir.TensorProtocol | None) -> None:
    if tensor is None:
        return
    if tensor.nbytes <= _SMALL_BYTES:
        proto = onnx.TensorProto()
        proto.CopyFrom(ir.to_proto(tensor))
        if proto.data_location == onnx.TensorProto.EXTERNAL:
            proto = onnx.helper.make_tensor(
                name, tensor.dtype.value, tensor.shape.numpy(), tensor.tobytes(), raw=True
            )
        proto.name = name
        graph.initializer.append(proto)
        return
    graph.input.append(
        onnx.helper.make_tensor_value_info(name, tensor.dtype.value, list(tensor.shape.numpy()))
    )


def _dims(proto: onnx.TypeProto | None) -> Dims | None:
    if proto is None or not proto.HasField("tensor_type") or not proto.tensor_type.HasField("shape"):
        return None
    return tuple(
        d.dim_value if d.HasField("dim_value") else (d.dim_param or None) for d in proto.tensor_type.shape.dim
    )


def _dtype(proto: onnx.TypeProto | None) -> ir.DataType:
    if proto is None or not proto.HasField("tensor_type"):
        return ir.DataType.UNDEFINED
    try:
        return ir.DataType(proto.tensor_type.elem_type)
    except ValueError:  # a type that this version does not know
        return ir.DataType.UNDEFINED


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
        return TensorInfo(name, tensor.dtype, constant, constant)
    inferred = _dims(special.get(name))
    shape = fixed.get(name)
    if shape is None and inferred is not None and all(isinstance(d, int) for d in inferred):
        shape = tuple(int(d) for d in inferred if d is not None)
    dtype = _dtype(special.get(name))
    return TensorInfo(name, dtype, shape, _declared(value, _dims(general.get(name)), shape, bound))


def _declared(
    value: ir.Value, inferred: Dims | None, shape: tuple[int, ...] | None, bound: Mapping[str, int]
) -> Dims | None:
    """Merge the inferred general shape with the recorded one, which is only trusted for names.

    The model's own inputs and outputs keep what the file says, as far as ``shape`` does not contradict it.
    """
    recorded: Dims | None = None
    if value.shape is not None and isinstance(value.type, ir.TensorType):
        recorded = tuple(d if isinstance(d, int) else d.value for d in value.shape.dims)
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
) -> dict[str, TensorInfo]:
    """Run the model once with the unknown values as outputs."""
    values = {str(v.name): v for v in _values(source)}
    wanted = [name for name in holes if not values[name].is_graph_input()]
    if not wanted:
        return {}
    try:
        session = _session(source, wanted)
    except Exception as error:
        known = {name: _from_record(values[name], bound) for name in wanted}
        if all(info is not None for info in known.values()):
            return {name: info for name, info in known.items() if info is not None}
        raise InputError(source.path, f"onnxruntime cannot load the model: {_one_line(error)}") from error
    inputs = feeds if feeds is not None else make_feeds(source, bound)
    try:
        results = _run(session, wanted, inputs, MAX_LOOP_SECONDS if _loops(source) else None)
    except PipelineError:
        raise
    except Exception as error:
        if "terminate" in str(error).lower():
            raise InputError(
                source.path,
                f"a Loop runs longer than {MAX_LOOP_SECONDS} seconds, and unknown shapes need a run; "
                "give inputs that end it with --inputs FILE.npz",
            ) from None
        raise explain_failure(source, bound, error) from error
    return {name: _from_run(values[name], infos[name], results[name], bound) for name in wanted}


def _from_record(value: ir.Value, bound: Mapping[str, int]) -> TensorInfo | None:
    if value.shape is None or value.dtype is None or not isinstance(value.type, ir.TensorType):
        return None
    recorded: Dims = tuple(d if isinstance(d, int) else d.value for d in value.shape.dims)
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


def _session(source: SourceModel, outputs: Sequence[str] = ()) -> Any:
    import onnxruntime

    options = models.session_options(source)
    options.log_severity_level = 4  # failures are reported as exceptions
    # Optimisation could remove the values that we want to see.
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    return onnxruntime.InferenceSession(
        models.serialize(source, outputs), options, providers=["CPUExecutionProvider"]
    )


def _run(
    session: Any, outputs: Sequence[str], feeds: Mapping[str, npt.NDArray[Any]], seconds: float | None = None
) -> dict[str, Any]:
    return dict(zip(outputs, run_session(session, outputs, feeds, seconds=seconds), strict=True))


def _loops(source: SourceModel) -> bool:
    """Whether a run may never end."""
    nodes = itertools.chain(
        source.ir.graph.all_nodes(), *(body.all_nodes() for body in source.ir.functions.values())
    )
    return any(node.op_type == "Loop" for node in nodes)


def _one_line(error: Exception) -> str:
    text = str(error).split(" : ")[-1] if "[ONNXRuntimeError]" in str(error) else str(error)
    return " ".join(text.split())[:300]


def _working_dims(source: SourceModel, bound: Mapping[str, int]) -> dict[str, int] | None:
    """Look for other values of one or two dimensions with which the model runs."""
    try:
        session = _session(source)
    except Exception:
        return None
    outputs = [str(v.name) for v in source.outputs]
    deadline = Deadline(5.0)
    unset_first = sorted(bound, key=lambda name: bound[name] != 1)  # likely left at their default
    for count in (1, 2):
        for names in itertools.combinations(unset_first, count):
            for sizes in itertools.product(*(_candidates(name, bound) for name in names)):
                if deadline():
                    return None
                change = dict(zip(names, sizes, strict=True))
                try:
                    _run(session, outputs, make_feeds(source, {**bound, **change}))
                except Exception:
                    continue
                return change
    return None


def _candidates(name: str, bound: Mapping[str, int]) -> list[int]:
    """Sizes that other inputs suggest for a dimension: theirs, and sums of two of theirs."""
    others = [value for other, value in bound.items() if other != name]
    sums = [a + b for a, b in itertools.combinations(others, 2)]
    return [v for v in dict.fromkeys([*sums, *others]) if v != bound[name]]
