"""Annotate a model that has costs with stages."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import asdict, astuple, dataclass, replace
from typing import Any

import numpy as np
import onnx_ir as ir
from onnx_ir.passes import InPlacePass, PassResult, PostconditionError, PreconditionError

from onnx_pipeline.costmodel.devices import Device
from onnx_pipeline.graph.costgraph import CostGraph
from onnx_pipeline.graph.costs_json import graph_to_json
from onnx_pipeline.graph.objective import check_partition, countable
from onnx_pipeline.graph.target import Target
from onnx_pipeline.model.lowering import lower
from onnx_pipeline.model.roles import executable_nodes
from onnx_pipeline.model.shapes import TensorInfo, value_infos
from onnx_pipeline.model.source import SourceModel
from onnx_pipeline.parameters import PathLike, SearchParams, TargetParams, as_target
from onnx_pipeline.partition.result import Bound, Certificate, Partition, PartitionResult, SearchRecord
from onnx_pipeline.passes import metadata
from onnx_pipeline.passes.origin import origin
from onnx_pipeline.progress import Progress, silent

STAGE_REMEDY = "run PartitionPass, or a pass that writes a stage on every node, first"


def annotated_infos(source: SourceModel) -> Mapping[str, TensorInfo]:
    """Types and shapes as annotated, or found again where a foreign cost pass wrote none."""
    found = metadata.read_infos(source.ir)
    return found if found is not None else value_infos(source, metadata.read_dims(source.ir))


def annotated_graph(source: SourceModel, infos: Mapping[str, TensorInfo]) -> CostGraph:
    """Lower an annotated model to its cost graph; annotated sizes replace those of the shapes."""
    costs = metadata.read_costs(source.ir, executable_nodes(source))
    graph = lower(source, infos, costs)
    sizes = metadata.read_bytes(source.ir)
    moved = [sizes.get(name, int(size)) for name, size in zip(graph.net_names, graph.net_bytes, strict=True)]
    return replace(graph, net_bytes=np.array(moved, dtype=np.int64))


def annotate_stages(
    source: SourceModel,
    stages: int,
    target: Target | Device | PathLike | None = None,
    *,
    time_limit: float = 10.0,
    gap: float = 0.0,
    seed: int = 0,
    threads: int | None = None,
    progress: Progress = silent,
) -> PartitionResult:
    """Partition an annotated model into ``stages`` and annotate the stages and the certificate.

    Parameters
    ----------
    source : SourceModel
        Its ``ir`` carries costs and is annotated in place.
    stages : int
        Number of stages k.
    target : Target, Device, str or path-like, optional
        The devices; by default those of :func:`onnx_pipeline.split`.
    time_limit : float
        Time limit in seconds, proofs included.
    gap, seed, threads
        As in :func:`onnx_pipeline.partition.portfolio.partition`.

    Raises
    ------
    PreconditionError
        If a node has no cost.
    KeyboardInterrupt
        After Ctrl-C; no stage is annotated.
    """
    from onnx_pipeline.partition.portfolio import solve

    params = SearchParams(time_limit, gap, seed, threads)
    graph = annotated_graph(source, annotated_infos(source))
    result = solve(graph, stages, as_target(target or TargetParams().target(), graph), params, progress)
    if result.interrupted:
        raise KeyboardInterrupt  # a pass manager would go on with what is not what was asked for
    write_stages(source.ir, result)
    return result


def write_stages(model: ir.Model, result: PartitionResult) -> None:
    """Annotate every node with its stage, and the model with the certificate."""
    stage = {
        name: int(result.stage_of[v])
        for v, names in enumerate(result.graph.onnx_nodes)
        for name in (result.graph.node_names[v], *names)
    }
    for node in model.graph:
        if node.name in stage:
            node.metadata_props[metadata.STAGE] = str(stage[node.name])
    model.metadata_props[metadata.PARTITION] = json.dumps(
        {
            "stages": result.stages,
            "target": {k: None if v == math.inf else v for k, v in asdict(result.target).items()},
            "bounds": [bound.to_json() for bound in result.bounds],
            "search": result.search.to_json(),
            "problem": _fingerprint(result.graph, result.target, result.stages),
        }
    )


def read_stages(
    source: SourceModel, infos: Mapping[str, TensorInfo], target: Target | Device | PathLike | None
) -> PartitionResult:
    """Return the annotated partition with its certificate, whichever pass wrote the stages.

    Lower bounds hold for every partition of the same graph, target and k: they are kept when another pass
    moved nodes, and dropped for the simple bound when costs, target or k are not those they were proved for.

    Parameters
    ----------
    source : SourceModel
    infos : mapping of str to TensorInfo
    target : Target, Device, str, path-like or None
        None for the annotated one; a model without any has free and unlimited devices.

    Raises
    ------
    PreconditionError
        If a node has no stage or the stages are not a partition; the message lists the problems.
    """
    record = metadata.read_record(source.ir, metadata.PARTITION)
    graph = annotated_graph(source, infos)
    target = as_target(target or _target(record), graph)
    given = metadata.read_integers(executable_nodes(source), metadata.STAGE, STAGE_REMEDY)
    stage_of = _dense([_stage(given, names) for names in graph.onnx_nodes])
    stages = max(int(record.get("stages", 0)), int(stage_of.max(initial=-1)) + 1, 1)
    graph = countable(graph, target, stages)
    problems = check_partition(graph, stage_of, stages)
    if problems:
        raise PreconditionError(f"the annotated stages are not a partition: {'; '.join(problems[:5])}")
    valid = record.get("problem") == _fingerprint(graph, target, stages)
    tick = graph.ticks_per_second
    proofs = (
        (Bound.from_json(b, tick) for b in record["bounds"]) if valid else [_simple(graph, target, stages)]
    )
    return PartitionResult(
        Partition(graph, target, stages, stage_of),
        Certificate(tuple(proofs)),
        SearchRecord.from_json(record.get("search", {"methods": ["annotated"]})),
    )


def _stage(given: Mapping[str, int], names: tuple[str, ...]) -> int:
    """Stage of a group of ONNX nodes, which is a unit."""
    found = {given[name] for name in names}
    if len(found) > 1:
        raise PreconditionError(
            f"nodes {', '.join(names[:5])} belong together but are in stages {sorted(found)}"
        )
    return found.pop()


def _dense(stages: list[int]) -> np.ndarray[Any, np.dtype[np.int64]]:
    """Close the gaps: stages in use come first, in their order."""
    return np.unique(np.array(stages, dtype=np.int64), return_inverse=True)[1].reshape(-1).astype(np.int64)


def _target(record: Mapping[str, Any]) -> Target:
    fields: dict[str, Any] = {k: math.inf if v is None else v for k, v in record.get("target", {}).items()}
    return Target(**fields)


def _simple(graph: CostGraph, target: Target, stages: int) -> Bound:
    """Return the bound that needs no search."""
    from onnx_pipeline.partition.bounds.simple import simple
    from onnx_pipeline.partition.instance.build import build

    return Bound("simple", simple(build(graph, target), stages), ticks_per_second=graph.ticks_per_second)


def _fingerprint(graph: CostGraph, target: Target, stages: int) -> str:
    """Identify the instance that a lower bound was proved for."""
    document = graph_to_json(graph)
    del document["meta"], document["name"]
    text = json.dumps([document, astuple(target), stages], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


@dataclass(eq=False)
class PartitionPass(InPlacePass):
    """:func:`annotate_stages` as a pass; needs the annotations of a cost pass."""

    source: SourceModel | None = None
    stages: int = 2
    target: Target | Device | PathLike | None = None
    time_limit: float = 10.0
    gap: float = 0.0
    seed: int = 0
    threads: int | None = None

    def requires(self, model: ir.Model) -> None:
        """Demand work on every executable node."""
        metadata.require_names(model)
        metadata.read_costs(model, executable_nodes(origin(model, self.source)))

    def call(self, model: ir.Model) -> PassResult:
        """Annotate in place."""
        annotate_stages(
            origin(model, self.source),
            self.stages,
            self.target,
            time_limit=self.time_limit,
            gap=self.gap,
            seed=self.seed,
            threads=self.threads,
        )
        return PassResult(model, modified=True)

    def ensures(self, model: ir.Model) -> None:
        """Promise a stage on every executable node."""
        nodes = executable_nodes(origin(model, self.source))
        try:
            metadata.read_integers(nodes, metadata.STAGE, "the partitioner left them out")
        except PreconditionError as error:
            raise PostconditionError(str(error)) from None
