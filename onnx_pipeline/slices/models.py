"""Models in slices, for callers: names and numbers of parts in, a model out."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from onnx_pipeline.errors import UsageError
from onnx_pipeline.parameters import Feeds, ModelLike, PathLike, ProfileParams, SearchParams, as_target
from onnx_pipeline.progress import ProgressLike, shows_progress, silent

if TYPE_CHECKING:
    import onnx_ir

    from onnx_pipeline.costmodel.devices import Device
    from onnx_pipeline.costmodel.request import CostModel
    from onnx_pipeline.graph.costgraph import CostGraph
    from onnx_pipeline.graph.target import Target
    from onnx_pipeline.partition.result import PartitionResult
    from onnx_pipeline.price import Priced
    from onnx_pipeline.slices.auto import SlicePlan
    from onnx_pipeline.slices.costs import SliceCosts


@shows_progress()
def slice_model(
    model: ModelLike,
    parts: Mapping[str, int],
    *,
    dims: Mapping[str, int] | None = None,
    inputs: PathLike | Feeds | None = None,
    custom_ops: Sequence[PathLike] = (),
    progress: ProgressLike = silent,
) -> onnx_ir.Model:
    """Return the model with heavy nodes in slices, so that different stages can share their work.

    A MatMul, Gemm or Conv ``X`` with constant weights becomes ``X/slice_0``, ``X/slice_1`` and so on, each
    with some of the columns or channels, and ``X/concat``. Bias and activation follow the slices. Weights are
    not read: parts of external data stay where they are until a stage file is written.

    Parameters
    ----------
    model : path-like, onnx.ModelProto or onnx_ir.Model
        It stays as it is.
    parts : mapping of str to int
        Names of nodes, and into how many parts; 1 leaves a node as it is.
    dims : mapping of str to int, optional
        Values of symbolic dimensions, where shapes can only be found by a run.
    inputs : path-like or mapping of str to array, optional
        Inputs for such a run.
    custom_ops : sequence of path-like
        Libraries of custom operators.
    progress : Progress
        Is told notes.

    Returns
    -------
    onnx_ir.Model
        For :func:`onnx_pipeline.split` and everything else that takes a model.

    Raises
    ------
    UsageError
        If there is no such node, it cannot be sliced, or not into so many parts.
    InputError
        If the model cannot be used.
    """
    from onnx_pipeline.model.source import load
    from onnx_pipeline.price import bind, shapes
    from onnx_pipeline.slices.rewrite import rewrite
    from onnx_pipeline.slices.which import sliceable

    source = load(model, custom_ops)
    chosen, feeds = bind(source, dims, inputs, silent)
    infos, _ = shapes(source, chosen, feeds)
    for name, number in parts.items():
        if isinstance(number, bool) or not isinstance(number, int) or number < 1:
            raise UsageError(f"node {name!r} cannot be sliced in {number!r}: give a whole number, 1 or more")
    found = [(sliceable(source, infos, name), number) for name, number in parts.items() if number > 1]
    rewrite(source, infos, found)
    return source.ir


@shows_progress()
def plan_slices(
    model: ModelLike,
    stages: int,
    target: Target | Device | PathLike | None = None,
    *,
    nodes: Collection[str] | None = None,
    cost_model: str | CostModel = "profile",
    device: str | PathLike | Device | None = None,
    dims: Mapping[str, int] | None = None,
    inputs: PathLike | Feeds | None = None,
    intra_op_threads: int = 1,
    cache: bool = True,
    custom_ops: Sequence[PathLike] = (),
    time_limit: float = 10.0,
    seed: int = 0,
    threads: int | None = None,
    progress: ProgressLike = silent,
) -> SlicePlan:
    """Find the slices without which one node limits a pipeline, and say what they bring.

    Slices cost what onnxruntime takes for them, measured next to the whole, where ``cost_model`` is
    ``"profile"``; otherwise what the analytic model computes.

    Parameters
    ----------
    model : path-like, onnx.ModelProto or onnx_ir.Model
    stages : int
        Number of stages.
    target : Target, Device, str or path-like, optional
        Devices and links; default: those of :func:`onnx_pipeline.split`.
    nodes : collection of str, optional
        Nodes that may be sliced; default: all that can be.
    cost_model, device, dims, inputs, intra_op_threads, cache, custom_ops
        As in :func:`onnx_pipeline.profile`.
    time_limit : float
        Time limit in seconds of every plan; there is one for each round, 13 at most.
    seed, threads
        As in :func:`onnx_pipeline.partition.portfolio.partition`.
    progress : Progress

    Returns
    -------
    SlicePlan
        Never worse than the plan without slices, which it has, too.

    Raises
    ------
    UsageError
        If a parameter is out of range, or a node in ``nodes`` cannot be sliced.
    InputError
        If the model or another file cannot be used.
    """
    from onnx_pipeline.parameters import TargetParams
    from onnx_pipeline.partition.portfolio import solve
    from onnx_pipeline.price import price
    from onnx_pipeline.slices.auto import auto
    from onnx_pipeline.slices.which import Sliceable, find, sliceable

    params = ProfileParams(
        cost_model=cost_model,
        device=device,
        dims=dims,
        inputs=inputs,
        intra_op_threads=intra_op_threads,
        cache=cache,
        custom_ops=custom_ops,
        seed=seed,
    )
    search = SearchParams(time_limit, seed=seed, threads=threads)
    priced = price(model, params, progress)
    graph = priced.graph
    devices = as_target(target or TargetParams(device or "cpu").target(), graph)
    if nodes is None:
        every = find(priced.source, priced.infos)
        candidates = {name: each for name, each in every.items() if isinstance(each, Sliceable)}
    else:
        candidates = {name: sliceable(priced.source, priced.infos, name) for name in nodes}

    def solved(graph: CostGraph) -> PartitionResult:
        return solve(graph, stages, devices, search, progress)

    plan = auto(graph, candidates, priced.infos, _shares(priced), stages, solved, progress)
    return replace(plan, op_types={str(node.name): node.op_type for node in priced.source.ir.graph})


def _shares(priced: Priced) -> SliceCosts:
    """Return what tells the cost of slices: measured where the nodes are."""
    from onnx_pipeline.costmodel.devices import load_device
    from onnx_pipeline.costmodel.request import CostRequest
    from onnx_pipeline.files.user_cache import user_cache
    from onnx_pipeline.slices.costs import ComputedShares, MeasuredShares

    params, source = priced.params, priced.source
    if params.cost_model == "profile":
        return MeasuredShares(
            priced.infos,
            source.ir.opset_imports,
            params.provider,
            params.intra_op_threads,
            user_cache() if params.cache else None,
        )
    device = load_device(params.device or "cpu")
    return ComputedShares(CostRequest(source, priced.infos, (), priced.dims, priced.feeds, device))
