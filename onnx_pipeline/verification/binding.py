"""The cost graph against what it claims to describe: the stage files, and the model."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir

from onnx_pipeline.emission.emit import port
from onnx_pipeline.errors import PipelineError
from onnx_pipeline.figures import format_count
from onnx_pipeline.graph.costgraph import CostGraph, TensorType
from onnx_pipeline.graph.demanded import constraints, lost_groups
from onnx_pipeline.manifest import Manifest, Port, Stage, StageInput, StageOutput
from onnx_pipeline.model.digest import content_digest
from onnx_pipeline.model.dimensions import dims_of
from onnx_pipeline.model.shapes import TensorInfo, value_infos
from onnx_pipeline.model.source import SourceModel


def check_nodes(folder: Path, document: Manifest, graph: CostGraph) -> Iterator[str]:
    """Check that every stage file has the nodes that the cost graph puts into it, and no others.

    What depends on no input of the stage may be there besides: copies of nodes that only make parameters.
    """
    members = dict(zip(graph.node_names, graph.onnx_nodes, strict=True))
    claimed = [{m for name in s.node_names for m in members.get(name, (name,))} for s in document.stages]
    everywhere = set().union(*claimed)
    kind = graph.meta.get("cost_model", "unknown")
    if document.cost_model["kind"] != kind:
        yield f"the costs are of kind {kind!r}, not {document.cost_model['kind']!r}"
    for stage, own in zip(document.stages, claimed, strict=True):
        nodes = onnx.load(folder / stage.file, load_external_data=False).graph
        found = {node.name for node in nodes.node}
        if len(nodes.node) != stage.nodes:
            yield f"{stage.file} has {format_count(len(nodes.node), 'node')}, not {stage.nodes}"
        for name in sorted(own - found)[:1]:
            count = format_count(len(own - found), "node")
            yield f"{stage.file} lacks {count} of its stage, {name!r} for one"
        more = (found & everywhere) - own | (_moving(nodes) - own)
        for name in sorted(more)[:1]:
            count = format_count(len(more), "node")
            yield f"{stage.file} has {count} that its stage does not list, {name!r} for one"
    yield from _check_sizes(document, graph)


def _moving(graph: onnx.GraphProto) -> set[str]:
    """Names of the nodes that depend on an input, also through the subgraphs of control flow."""
    fixed = {tensor.name for tensor in graph.initializer}
    moving = {value.name for value in graph.input if value.name not in fixed}
    names: set[str] = set()
    for node in graph.node:
        if moving.intersection(_reads(node)):
            moving.update(node.output)
            names.add(node.name)
    return names


def _reads(node: onnx.NodeProto) -> Iterator[str]:
    """Names that a node reads; those that its subgraphs read, their own included."""
    yield from node.input
    for attribute in node.attribute:
        for body in (attribute.g, *attribute.graphs) if attribute.HasField("g") else attribute.graphs:
            for inner in body.node:
                yield from _reads(inner)
            yield from (value.name for value in body.output)


def _check_sizes(document: Manifest, graph: CostGraph) -> Iterator[str]:
    """Check that tensors between stages are as large as the costs say, and that there are no others."""
    sizes = dict(zip(graph.net_names, graph.net_bytes.tolist(), strict=True))
    for stage in document.stages:
        for end in _ends(stage):
            known = sizes.get(end.name, end.bytes)
            if known != end.bytes:
                yield f"stage {stage.index}: {end.name!r} has {end.bytes} bytes, {known} in the costs"


def _ends(stage: Stage) -> tuple[StageInput | StageOutput, ...]:
    return (*stage.inputs, *stage.outputs)


def check_model(
    source: SourceModel, document: Manifest, graph: CostGraph, feeds: Mapping[str, Any] | None = None
) -> Iterator[str]:
    """Derive the structure and the bytes of the cost graph from the model again, and compare.

    Times cannot be derived: they are what was measured.
    """
    from onnx_pipeline.costmodel.request import NodeCosts
    from onnx_pipeline.model.lowering import lower
    from onnx_pipeline.model.roles import executable_nodes

    # That of a model in memory is of its content, which a file has, too.
    if document.model.sha256 not in (source.sha256, content_digest(source.ir)):
        yield f"{source.path} is not the model that was split: its SHA-256 differs"
        return
    dims = document.cost_model.get("dims", {})
    given = {} if feeds is None else dims_of(source, feeds)
    if any(dims.get(name) != size for name, size in given.items()):
        feeds = None  # inputs of other dimensions than those that were priced
    try:
        infos = value_infos(source, dims, feeds)
        costs = NodeCosts("none", {str(node.name): 0 for node in executable_nodes(source)})
        derived = lower(source, infos, costs)
    except PipelineError as error:
        yield f"the model's costs cannot be derived again: {error}"
        return
    yield from (f"costs: {problem}" for problem in differences(derived, graph, infos))
    exactly = bool((document.constraints or {}).get("exactly"))
    demanded = constraints(graph, derived, exactly=exactly)
    if demanded != document.constraints or lost_groups(graph, derived):
        yield "costs: pins and groups are neither the model's nor those that the manifest lists"
    yield from _ports(source, infos, document)


def is_static(info: TensorInfo) -> bool:
    """Whether a tensor's size follows from the dimensions alone, not from the values of inputs."""
    return info.declared is not None and None not in info.declared


def differences(derived: CostGraph, graph: CostGraph, infos: Mapping[str, TensorInfo]) -> Iterator[str]:
    """Compare a cost graph with the one that is derived from the model: all but times and constraints."""
    members = [tuple(names) for names in graph.onnx_nodes]
    if derived.node_names != graph.node_names or [tuple(n) for n in derived.onnx_nodes] != members:
        yield "the nodes are not those of the model"
        return
    if graph.operators is not None and graph.operators != derived.operators:
        yield "the operators of the nodes are not those of the model"
    if graph.net_time is not None:
        yield "a model has no transfer times of its own"
    for what, keys in (
        ("tensors", ("net_names", "net_producer", "net_ptr", "net_consumers", "net_to_host")),
        ("parameters", ("group_names", "group_ptr", "group_nodes")),
    ):
        if not all(np.array_equal(getattr(derived, key), getattr(graph, key)) for key in keys):
            yield f"the {what} are not those of the model"
            return
    sizes = zip(derived.net_names, derived.net_bytes.tolist(), graph.net_bytes.tolist(), strict=True)
    if any(own != stated and is_static(infos[name]) for name, own, stated in sizes):
        yield "the bytes of the tensors are not those of the model"
    if any(_other_type(*each) for each in zip(derived.net_types or (), graph.net_types or (), strict=False)):
        yield "the types of the tensors are not those of the model"
    computed = graph.meta.get("cost_model") == "analytic"  # a provider may hold weights in another form
    if computed and not np.array_equal(derived.group_bytes, graph.group_bytes):
        yield "the bytes of the parameters are not those of the model"


def _other_type(derived: TensorType, stated: TensorType) -> bool:
    """Whether two types of a tensor exclude each other; sizes of dynamic tensors follow from the inputs."""
    (dtype, shape), (stated_dtype, stated_shape) = derived, stated
    ranks = None if shape is None else len(shape), None if stated_shape is None else len(stated_shape)
    return dtype != stated_dtype or (None not in ranks and ranks[0] != ranks[1])


def _ports(source: SourceModel, infos: Mapping[str, TensorInfo], document: Manifest) -> Iterator[str]:
    """Check types, shapes and sizes at every border."""
    for label, values, ports in (
        ("inputs", source.inputs, document.model.inputs),
        ("outputs", source.outputs, document.model.outputs),
    ):
        if [Port(**port(value, infos)) for value in values] != list(ports):
            yield f"the model's {label} are not those of the manifest"
    known = {str(v.name): v for v in _values(source)}
    for stage in document.stages:
        yield from _stage_ports(stage, known, infos)


def _stage_ports(
    stage: Stage, values: Mapping[str, ir.Value], infos: Mapping[str, TensorInfo]
) -> Iterator[str]:
    for end in _ends(stage):
        value = values.get(end.name)
        known = None if value is None else Port(**port(value, infos))
        info = infos.get(end.name)
        resized = info is not None and is_static(info) and info.nbytes != end.bytes
        if known != Port(end.name, end.dtype, end.shape) or resized:
            yield f"stage {stage.index}: {end.name!r} is not as the model has it"


def _values(source: SourceModel) -> Iterator[ir.Value]:
    yield from source.ir.graph.inputs
    yield from source.ir.graph.initializers.values()
    for node in source.ir.graph:
        yield from node.outputs
