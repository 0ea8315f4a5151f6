"""Partition -> k ONNX files, their weights, the cost graph and the manifest, in one directory.

The directory is written beside its place under a temporary name and renamed when it is complete.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import onnx
import onnx_ir as ir

from onnx_pipeline import graphio, manifest, planfile
from onnx_pipeline import model as models
from onnx_pipeline.boundary import StagePlan, assign_parameters, plan_stages
from onnx_pipeline.directory import new_directory
from onnx_pipeline.external import tensor_protos
from onnx_pipeline.manifest import DataFile, Manifest, ModelEntry, Port, Stage, StageInput, StageOutput
from onnx_pipeline.model import SourceModel
from onnx_pipeline.partition.result import PartitionResult
from onnx_pipeline.peak import stage_peaks
from onnx_pipeline.progress import Progress, silent
from onnx_pipeline.shapes import TensorInfo
from onnx_pipeline.weights import WeightStore

ANNOTATED_NAME = "annotated.onnx"
#: First IR version with device configurations.
_ANNOTATION_IR_VERSION = 11
_CONFIGURATION = "pipeline"


def emit(
    source: SourceModel,
    infos: Mapping[str, TensorInfo],
    result: PartitionResult,
    costs_meta: Mapping[str, Any],
    output: Path,
    *,
    force: bool = False,
    annotate: bool = False,
    phases: Mapping[str, float] | None = None,
    describe: Callable[[Manifest], Manifest] | None = None,
    progress: Progress = silent,
) -> Manifest:
    """Write the stages of a partition.

    Parameters
    ----------
    source : SourceModel
    infos : mapping of str to TensorInfo
        From :func:`onnx_pipeline.shapes.value_infos`.
    result : PartitionResult
        Of a cost graph whose ``onnx_nodes`` are nodes of ``source``; empty stages are not written.
    costs_meta : mapping
        The manifest's ``cost_model`` object: ``kind``, ``provider``, ``runs``, ``dims``, ...
    output : Path
        The directory to create; parents are created too.
    force : bool
        Replace an existing output directory.
    annotate : bool
        Also write the whole model with the standard's ``pipeline_stage`` on every node.
    phases : mapping of str to float
        Seconds of the phases before this one, for the manifest; ``emit`` is added.
    describe : callable, optional
        Adds to the manifest, before it is written, what is known of the stages from measurements.
    progress : Progress

    Returns
    -------
    Manifest

    Raises
    ------
    UsageError
        If ``output`` exists and ``force`` is off.
    InputError
        If the directory cannot be written or weights cannot be read.
    """
    begin = time.perf_counter()
    stage_of = {
        name: int(stage)
        for names, stage in zip(result.graph.onnx_nodes, result.stage_of, strict=True)
        for name in names
    }
    plans = plan_stages(source, stage_of, result.used)
    costs = result.costs
    peaks = stage_peaks(result.graph, result.stage_of, result.stages)
    with new_directory(output, force=force) as folder:
        stages: list[Stage] = []
        stores: list[WeightStore] = []
        for plan in plans:
            progress("emit", plan.index / len(plans), f"stage {plan.index}")
            store = WeightStore(source, folder, f"stage_{plan.index}.onnx.data")
            file = f"stage_{plan.index}.onnx"
            digest = _write_stage(source, infos, plan, store, folder / file)
            stores.append(store)
            stages.append(
                Stage(
                    index=plan.index,
                    file=file,
                    sha256=digest,
                    nodes=len(plan.nodes),
                    inputs=tuple(
                        StageInput(**port(v, infos), bytes=_size(v, infos), source=plan.sources[v])
                        for v in plan.inputs
                    ),
                    outputs=tuple(
                        StageOutput(**port(v, infos), bytes=_size(v, infos), targets=tuple(plan.targets[v]))
                        for v in plan.outputs
                    ),
                    cost=planfile.cost_fields(costs[plan.index]),
                    parameter_bytes=costs[plan.index].parameter_bytes,
                    node_names=_names_in(result, plan.index),
                    data=_data_entry(store),
                    peak_activation_bytes=peaks[plan.index],
                )
            )
        if annotate:
            progress("emit", None, ANNOTATED_NAME)
            _write_annotated(source, stage_of, stores, len(plans), folder)
        graphio.write_graph(result.graph, folder / manifest.COSTS_NAME)
        spent = {**(phases or {}), "emit": time.perf_counter() - begin}
        document = _manifest(source, infos, result, costs_meta, stages, spent)
        if describe is not None:
            document = describe(document)
        manifest.write(document, folder)
    progress("emit", 1.0, str(output))
    return document


def port(value: ir.Value, infos: Mapping[str, TensorInfo]) -> dict[str, Any]:
    """Return name, dtype and declared shape of a value, as the manifest has them."""
    info = infos.get(str(value.name))
    if info is None or info.dtype == ir.DataType.UNDEFINED:
        return {"name": str(value.name), "dtype": type_text(value.type), "shape": None}
    return {"name": info.name, "dtype": dtype_text(info.dtype), "shape": info.declared}


def dtype_text(dtype: ir.DataType) -> str:
    """Return the numpy-style name of an element type: ``float32``, ``int64``, ``bfloat16``, ``string``."""
    return {"FLOAT": "float32", "DOUBLE": "float64"}.get(dtype.name, dtype.name.lower())


def type_text(kind: ir.TypeProtocol | None) -> str:
    """Return a readable name of a type that is not a dense tensor: ``sequence(float32)``."""
    if kind is None:
        return "unknown"
    if isinstance(kind, ir.TensorType):
        return dtype_text(kind.dtype)
    inner = getattr(kind, "elem_type", None)
    label = type(kind).__name__.removesuffix("Type").lower()
    inside = dtype_text(inner) if isinstance(inner, ir.DataType) else type_text(inner)
    return f"{label}({inside})"


def value_dtype(value: onnx.ValueInfoProto) -> str:
    """Return the manifest's text for the type of a stage's input or output."""
    return type_text(ir.serde.deserialize_value_info_proto(value, None).type)


def _size(value: ir.Value, infos: Mapping[str, TensorInfo]) -> int:
    info = infos.get(str(value.name))
    return 0 if info is None else info.nbytes


def _names_in(result: PartitionResult, stage: int) -> tuple[str, ...]:
    return tuple(
        name for name, home in zip(result.graph.node_names, result.stage_of, strict=True) if home == stage
    )


def _data_entry(store: WeightStore) -> DataFile | None:
    return DataFile(store.name, store.sha256, store.size) if store.size else None


def _manifest(
    source: SourceModel,
    infos: Mapping[str, TensorInfo],
    result: PartitionResult,
    costs_meta: Mapping[str, Any],
    stages: Sequence[Stage],
    phases: Mapping[str, float],
) -> Manifest:
    from onnx_pipeline import __version__

    return Manifest(
        tool={"name": "onnx-pipeline", "version": __version__},
        model=ModelEntry(
            source.path.name,
            source.sha256,
            tuple(Port(**port(v, infos)) for v in source.inputs),
            tuple(Port(**port(v, infos)) for v in source.outputs),
        ),
        target=planfile.target_fields(result.target, result.stages),
        cost_model=_cost_model(result, costs_meta),
        certificate=planfile.certificate_fields(result),
        search={
            "methods": list(result.methods),
            "evaluations": result.evaluations,
            "wall_seconds": result.wall_seconds,
            "seed": result.seed,
            "interrupted": result.interrupted,
        },
        stages=tuple(stages),
        phases=phases,
    )


def _cost_model(result: PartitionResult, costs_meta: Mapping[str, Any]) -> dict[str, Any]:
    rest = {key: value for key, value in costs_meta.items() if key != "cost_model"}
    return {"kind": result.graph.meta.get("cost_model", "unknown"), **rest}


def _write_stage(
    source: SourceModel, infos: Mapping[str, TensorInfo], plan: StagePlan, store: WeightStore, path: Path
) -> str:
    """Write one stage and its weights; return the SHA-256 of the model file."""
    proto = models.shell(source)
    _keep_functions(proto, source.ir, plan.nodes)
    graph = proto.graph
    graph.name = f"{graph.name}_stage_{plan.index}"
    graph.input.extend(_boundary(v, infos) for v in plan.inputs)
    graph.output.extend(_boundary(v, infos) for v in plan.outputs)
    _add_body(proto, plan.nodes, plan.initializers, store)
    if proto.ir_version < 4:  # initializers had to be inputs
        present = {v.name for v in graph.input}
        graph.input.extend(
            onnx.helper.make_tensor_value_info(t.name, t.data_type, list(t.dims))
            for t in graph.initializer
            if t.name not in present
        )
    ends = {*plan.inputs, *plan.outputs}
    for node in plan.nodes:
        for value in node.outputs:
            info = infos.get(str(value.name))
            if value not in ends and info is not None and info.can_cross:
                graph.value_info.append(tensor_value_info(info))
    return _save(proto, path)


def _add_body(
    proto: onnx.ModelProto, nodes: Sequence[ir.Node], initializers: Sequence[ir.Value], store: WeightStore
) -> None:
    """Add nodes, initializers and functions; large weights go to ``store``."""
    constants = {node: tensor for node in nodes if (tensor := models.constant_tensor(node)) is not None}
    tensors = [v.const_value for v in initializers if v.const_value is not None]
    store.begin([*tensors, *constants.values()])
    for value in initializers:
        if value.const_value is not None:
            proto.graph.initializer.append(store.add(str(value.name), value.const_value))
    for node in nodes:
        constant = constants.get(node)
        if constant is not None and store.takes(constant):
            # Only initializers may keep their data outside.
            proto.graph.initializer.append(store.add(str(node.outputs[0].name), constant))
        else:
            proto.graph.node.append(ir.to_proto(node))
    # What is left are tensors inside subgraphs and functions.
    for tensor in [t for n in proto.graph.node for t in tensor_protos(n)]:
        store.relocate(tensor)
    for function in proto.functions:
        for tensor in tensor_protos(function):
            store.relocate(tensor)
    store.close()


def _boundary(value: ir.Value, infos: Mapping[str, TensorInfo]) -> onnx.ValueInfoProto:
    """Describe a stage input or output; the model's own keep their documentation and metadata."""
    info = infos.get(str(value.name))
    own = value.is_graph_input() or value.is_graph_output()
    if info is None or not info.can_cross:
        return ir.to_proto(value)
    typed = tensor_value_info(info)
    if not own:
        return typed
    proto = ir.to_proto(value)
    if not value.is_graph_input() or value.shape is None:
        proto.type.CopyFrom(typed.type)
    return proto


def tensor_value_info(info: TensorInfo) -> onnx.ValueInfoProto:
    """Return the typed description of a tensor; unknown dimensions stay empty."""
    return onnx.helper.make_tensor_value_info(info.name, info.dtype.value, info.declared)


def _keep_functions(proto: onnx.ModelProto, model: ir.Model, nodes: Sequence[ir.Node]) -> None:
    """Drop the local functions that nothing here calls, directly or through another function."""
    called: set[tuple[str, str, str]] = set()
    waiting = list(nodes)
    while waiting:
        node = waiting.pop()
        waiting += [inner for graph in models.node_graphs(node) for inner in graph]
        key = node.op_identifier()
        if key in model.functions and key not in called:
            called.add(key)
            waiting += list(model.functions[key])
    kept = [f for f in proto.functions if (f.domain, f.name, f.overload) in called]
    del proto.functions[:]
    proto.functions.extend(kept)


def _write_annotated(
    source: SourceModel, stage_of: Mapping[str, int], stores: Sequence[WeightStore], stages: int, folder: Path
) -> None:
    """Write the whole model with ``pipeline_stage``; its weights are those of the stages' data files."""
    proto = models.shell(source)
    proto.ir_version = max(proto.ir_version, _ANNOTATION_IR_VERSION)
    graph = source.ir.graph
    proto.graph.input.extend(ir.to_proto(v) for v in graph.inputs)
    proto.graph.output.extend(ir.to_proto(v) for v in graph.outputs)
    placed = {name: place for store in stores for name, place in store.placed.items()}
    store = WeightStore(source, folder, f"{ANNOTATED_NAME}.data", placed)
    _add_body(proto, list(graph), list(graph.initializers.values()), store)
    proto.graph.value_info.extend(
        ir.to_proto(v)
        for node in graph
        for v in node.outputs
        if v.name and v.type is not None and not v.is_graph_output()
    )
    configuration = proto.configuration.add(name=_CONFIGURATION, num_devices=stages)
    homes = {**stage_of, **assign_parameters(source, stage_of)}
    for node in proto.graph.node:
        if node.name in homes:
            node.device_configurations.add(
                configuration_id=configuration.name, pipeline_stage=homes[node.name]
            )
    _save(proto, folder / ANNOTATED_NAME)


def _save(proto: onnx.ModelProto, path: Path) -> str:
    data = proto.SerializeToString()
    path.write_bytes(data)
    return hashlib.sha256(data).hexdigest()
