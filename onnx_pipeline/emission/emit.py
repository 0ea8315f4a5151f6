"""Partition -> k ONNX files, their weights, the cost graph and the manifest, in one directory.

The directory is written next to its final place under a temporary name and renamed when complete.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import onnx_ir as ir

from onnx_pipeline import manifest, planfile
from onnx_pipeline.emission.annotated import write_annotated
from onnx_pipeline.emission.boundary import StagePlan, plan_stages
from onnx_pipeline.emission.metadata import node_facts
from onnx_pipeline.emission.stagefile import write_stage
from onnx_pipeline.emission.weights import SharedFiles, WeightStore
from onnx_pipeline.files.directory import new_directory
from onnx_pipeline.graph import costs_json
from onnx_pipeline.graph.costgraph import CostGraph
from onnx_pipeline.graph.demanded import constraints
from onnx_pipeline.graph.objective import StageCost, memory_binds
from onnx_pipeline.manifest import DataFile, Manifest, ModelEntry, Port, Stage, StageInput, StageOutput
from onnx_pipeline.model.protos import describe
from onnx_pipeline.model.shapes import TensorInfo
from onnx_pipeline.model.source import SourceModel
from onnx_pipeline.model.typenames import dtype_text, type_text
from onnx_pipeline.partition.result import Partition
from onnx_pipeline.progress import Progress, silent
from onnx_pipeline.solution import Solution

#: What a graph's ``meta`` has that the manifest says elsewhere, or for every node.
_NOT_COSTS = {"cost_model", "kind", "node_spread", "corrections", "file_memory_bytes"}


def emit(
    source: SourceModel,
    infos: Mapping[str, TensorInfo],
    result: Solution,
    costs_meta: Mapping[str, Any],
    output: Path,
    *,
    force: bool = False,
    annotate: bool = False,
    weights: str = "copy",
    phases: Mapping[str, float] | None = None,
    describe: Callable[[Manifest, Path], Manifest] | None = None,
    progress: Progress = silent,
) -> Manifest:
    """Write the stages of a partition.

    Parameters
    ----------
    source : SourceModel
    infos : mapping of str to TensorInfo
        From :func:`onnx_pipeline.model.shapes.value_infos`.
    result : PartitionResult or ReplicaPlan
        Of a cost graph whose ``onnx_nodes`` are nodes of ``source``; empty stages are not written.
    costs_meta : mapping
        The manifest's ``cost_model`` object: ``kind``, ``provider``, ``runs``, ``dims``, ...
    output : Path
        The directory to create; parents are created too.
    force : bool
        Replace an existing output directory.
    annotate : bool
        Also write the whole model with the standard's ``pipeline_stage`` on every node.
    weights : str
        What to do with large weights in external data: ``"copy"`` them into each stage's data file,
        ``"link"`` the model's data files into the output, or only ``"reference"`` them.
    phases : mapping of str to float
        Seconds of the phases before this one, for the manifest; ``emit`` is added.
    describe : callable, optional
        Adds to the manifest, before it is written into this folder, what is known from measurements.
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
    facts = node_facts(result)
    plans = plan_stages(source, {name: known.stage for name, known in facts.items()}, result.partition.used)
    costs, schedules = result.costs, result.schedules
    ordered = result.target.counts_activations and memory_binds(result.graph, result.target)
    with new_directory(output, force=force, keep=[source.path, *source.stamps]) as folder:
        shared = SharedFiles(source, folder, weights)
        stages: list[Stage] = []
        stores: list[WeightStore] = []
        for plan in plans:
            progress("emit", plan.index / len(plans), f"stage {plan.index}")
            _arrange(plan, result.graph, schedules[plan.index].order)
            stores.append(WeightStore(source, folder, f"stage_{plan.index}.onnx.data", shared=shared))
            file = folder / f"stage_{plan.index}.onnx"
            digest, nodes = write_stage(source, infos, plan, stores[-1], file)
            entry = Stage(
                **_border(plan, infos),
                **_planned(result, costs[plan.index], plan.index),
                file=file.name,
                sha256=digest,
                nodes=nodes,
                data=_data_entry(stores[-1]),
                peak_activation_bytes=schedules[plan.index].peak,
                execution_order="file" if ordered else None,
            )
            stages.append(entry)
        if annotate:
            progress("emit", None, manifest.ANNOTATED_NAME)
            write_annotated(source, facts, stores, len(plans), folder, shared)
        costs_json.write_graph(result.graph, folder / manifest.COSTS_NAME)
        spent = {**(phases or {}), "emit": time.perf_counter() - begin}
        document = replace(
            _manifest(source, infos, result, costs_meta, stages, spent),
            weights=shared.entry(),
            constraints=_constraints(source, infos, result.partition),
        )
        if describe is not None:
            document = describe(document, folder)
        manifest.write(document, folder)
    progress("emit", 1.0, str(output))
    return document


def _arrange(plan: StagePlan, graph: CostGraph, order: Sequence[int]) -> None:
    """Put a stage's nodes into their execution order, where that is not the model's own."""
    position = {v: at for at, v in enumerate(graph.order)}
    if [position[v] for v in order] == sorted(position[v] for v in order):
        return
    rank = {name: at for at, v in enumerate(order) for name in graph.onnx_nodes[v]}
    # Copies of parameter nodes have no rank and come first; nodes of one unit keep their order.
    plan.nodes.sort(key=lambda node: rank.get(str(node.name), -1))


def _border(plan: StagePlan, infos: Mapping[str, TensorInfo]) -> dict[str, Any]:
    """Return the inputs and outputs of a stage, as the manifest has them."""
    return {
        "inputs": tuple(
            StageInput(**port(v, infos), bytes=_size(v, infos), source=plan.sources[v]) for v in plan.inputs
        ),
        "outputs": tuple(
            StageOutput(**port(v, infos), bytes=_size(v, infos), targets=tuple(plan.targets[v]))
            for v in plan.outputs
        ),
        "defaults": tuple(str(v.name) for v in plan.defaults),
    }


def _planned(result: Solution, cost: StageCost, index: int) -> dict[str, Any]:
    """Return what the partition says of a stage, as the manifest has it."""
    return {
        "index": index,
        "cost": planfile.cost_fields(cost, result.graph.ticks_per_second),
        "parameter_bytes": cost.parameter_bytes,
        "node_names": _names_in(result, index),
        **_serving(planfile.serving_fields(result, index)),
    }


def _serving(fields: dict[str, Any]) -> dict[str, Any]:
    """Return what a plan says of a stage's devices, providers as the manifest's dataclasses have them."""
    providers = tuple((entry["name"], entry["options"]) for entry in fields.get("providers", ()))
    return fields | ({"providers": providers} if providers else {})


def port(value: ir.Value, infos: Mapping[str, TensorInfo]) -> dict[str, Any]:
    """Return name, dtype and declared shape of a value, as the manifest has them."""
    info = infos.get(str(value.name))
    if info is None or info.dtype == ir.DataType.UNDEFINED:
        return {"name": str(value.name), "dtype": type_text(describe(value).type), "shape": None}
    return {"name": info.name, "dtype": dtype_text(info.dtype), "shape": info.declared}


def _size(value: ir.Value, infos: Mapping[str, TensorInfo]) -> int:
    info = infos.get(str(value.name))
    return 0 if info is None else info.nbytes


def _names_in(result: Solution, stage: int) -> tuple[str, ...]:
    return tuple(
        name for name, home in zip(result.graph.node_names, result.stage_of, strict=True) if home == stage
    )


def _data_entry(store: WeightStore) -> DataFile | None:
    return DataFile(store.name, store.sha256, store.size) if store.size else None


def _manifest(
    source: SourceModel,
    infos: Mapping[str, TensorInfo],
    result: Solution,
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
            tuple(Port(**port(v, infos)) for v in source.overridable),
        ),
        target=planfile.devices_fields(result),
        cost_model=_cost_model(result, costs_meta),
        certificate=planfile.certificate_fields(result),
        search=planfile.search_fields(result),
        stages=tuple(stages),
        phases=phases,
    )


def _constraints(
    source: SourceModel, infos: Mapping[str, TensorInfo], partition: Partition
) -> dict[str, Any] | None:
    """Return what was demanded of the partition; a group that the model itself needs was not."""
    from onnx_pipeline.costmodel.request import NodeCosts
    from onnx_pipeline.model.lowering import lower

    graph, exactly = partition.graph, partition.exactly
    if constraints(graph) is None:
        return constraints(graph, exactly=exactly)
    nodes = {name: 0 for names in graph.onnx_nodes for name in names}
    return constraints(graph, lower(source, infos, NodeCosts("none", nodes)), exactly=exactly)


def _cost_model(result: Solution, costs_meta: Mapping[str, Any]) -> dict[str, Any]:
    rest = {key: value for key, value in costs_meta.items() if key not in _NOT_COSTS}
    kinds = {key: value for key, value in result.graph.meta.items() if key == "kinds"}
    return {"kind": result.graph.meta.get("cost_model", "unknown"), **rest, **kinds}
