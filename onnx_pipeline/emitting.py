"""From a partition of a model's cost graph to stage files."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from onnx_pipeline.errors import InputError, UsageError
from onnx_pipeline.files.atomic import check_writable
from onnx_pipeline.parameters import Feeds, ModelLike, OutputParams, PathLike
from onnx_pipeline.planner import check_dense
from onnx_pipeline.price import bind, shapes
from onnx_pipeline.progress import Phases, Progress, ProgressLike, shows_progress, silent
from onnx_pipeline.settings import check

if TYPE_CHECKING:
    from onnx_pipeline.graph.costgraph import CostGraph
    from onnx_pipeline.manifest import Manifest
    from onnx_pipeline.model.shapes import TensorInfo
    from onnx_pipeline.model.source import SourceModel
    from onnx_pipeline.solution import Solution

_OTHER = "this is not the model of the plan"
_HINT = "profile this model and plan its costs"


@shows_progress("writing")
def emit(
    model: ModelLike,
    plan: Solution | PathLike,
    output: PathLike,
    *,
    dims: Mapping[str, int] | None = None,
    inputs: PathLike | Feeds | None = None,
    annotate: bool = False,
    weights: str = "copy",
    custom_ops: Sequence[PathLike] = (),
    force: bool = False,
    progress: ProgressLike = silent,
) -> Manifest:
    """Write the stages of a plan: the last step of :func:`split`, for a partition that you have.

    Parameters
    ----------
    model : path-like, onnx.ModelProto or onnx_ir.Model
        The model whose costs were planned.
    plan : PartitionResult, ReplicaPlan or path-like
        What :func:`plan` or :func:`partition` returned for a graph from :func:`profile`, or its PLAN.json,
        the costs beside it or where it says.
    output : path-like
        Directory that appears complete or not at all.
    dims : mapping of str to int, optional
        Values of symbolic dimensions, for costs that do not say theirs.
    inputs : path-like or mapping of str to ndarray, optional
        Inputs that the model needs to run, where shapes depend on their values.
    annotate, weights, custom_ops, force, progress
        As in :func:`split`.

    Returns
    -------
    Manifest
        The same as :func:`split` would write: with the certificate of the plan and its costs.

    Raises
    ------
    UsageError
        If the output exists or cannot be written, or dimensions are not those of the costs.
    InputError
        If plan or model cannot be used, or the plan is not one of this model.
    InfeasibleError
        If pins leave a stage between others empty.

    Examples
    --------
    >>> graph = profile("model.onnx")  # doctest: +SKIP
    >>> emit("model.onnx", partition(graph, stages=4), "out")  # doctest: +SKIP
    """
    from onnx_pipeline.emission import emit as emission
    from onnx_pipeline.files.directory import check_output
    from onnx_pipeline.model.source import load
    from onnx_pipeline.partition.result import PartitionResult
    from onnx_pipeline.planned import read_plan
    from onnx_pipeline.replica_plan import ReplicaPlan

    writing, output = OutputParams(force, annotate, weights), Path(output)
    check_output(output, force=force, keep=[model] if isinstance(model, str | os.PathLike) else ())
    check_writable(output)
    phases = Phases()
    with phases.measure("load", progress):
        result = read_plan(plan) if isinstance(plan, str | os.PathLike) else plan
        if not isinstance(result, PartitionResult | ReplicaPlan):
            kind = type(plan).__name__
            raise UsageError(f"plan must be a PartitionResult, a ReplicaPlan or a path, got a {kind}")
        check_dense(result)
        source = load(model, custom_ops)
        _check_nodes(source, result.graph)
        bound, feeds = bind(source, _dims(result.graph, dims), inputs, progress)
    with phases.measure("shapes", progress):
        infos, _ = shapes(source, bound, feeds, lambda error: _tell(progress, error))
        _check_graph(source, infos, result)
    return emission.emit(
        source,
        infos,
        result,
        {"dims": bound, **result.graph.meta},
        output,
        **vars(writing),
        phases=phases,
        progress=progress,
    )


def _tell(progress: Progress, error: InputError) -> None:
    progress("note", None, error.advice("some shapes are not known: "))


def _dims(graph: CostGraph, dims: Mapping[str, int] | None) -> dict[str, int]:
    """Return the dimensions that the costs are for; others are another plan's."""
    stated = dict(check("dims", graph.meta.get("dims", {})) or {})
    for name, size in (check("dims", dims) or {}).items():
        if stated.setdefault(name, size) != size:
            raise UsageError(f"the plan is for {name}={stated[name]}, not {size}; profile and plan again")
    return stated


def _check_nodes(source: SourceModel, graph: CostGraph) -> None:
    """Refuse a plan with other nodes than the model, before anything takes time."""
    from onnx_pipeline.model.roles import executable_nodes

    own = {str(node.name) for node in executable_nodes(source)}
    planned = {name for names in graph.onnx_nodes for name in names}
    for lacking, names, of in (
        ("it lacks", planned - own, f"the plan's {len(planned)}"),
        ("the plan lacks", own - planned, f"its {len(own)}"),
    ):
        if names:
            found = f"{lacking} {len(names)} of {of} nodes, {min(names)!r} for one"
            raise InputError(source.path, f"{_OTHER}: {found}", _HINT)


def _check_graph(source: SourceModel, infos: Mapping[str, TensorInfo], result: Solution) -> None:
    """Refuse a plan of a graph that is not the model's, or that takes apart what the model needs together."""
    from onnx_pipeline.costmodel.request import NodeCosts
    from onnx_pipeline.graph.demanded import lost_groups
    from onnx_pipeline.graph.objective import check_partition
    from onnx_pipeline.model.lowering import lower
    from onnx_pipeline.verification.binding import differences

    nothing = NodeCosts("none", {name: 0 for names in result.graph.onnx_nodes for name in names})
    derived = lower(source, infos, nothing)
    for problem in differences(derived, result.graph, infos):
        raise InputError(source.path, f"{_OTHER}: {problem}", _HINT)
    for group in lost_groups(result.graph, derived)[:1]:
        names = ", ".join(map(repr, group[:3]))
        raise InputError(
            source.path, f"no border can run between the nodes {names}; the plan's costs allow it"
        )
    for problem in check_partition(result.graph, result.stage_of, result.stages):
        raise InputError(None, f"the plan is not a partition: {problem}")
