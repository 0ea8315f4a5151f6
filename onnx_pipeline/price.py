"""From a model to the costs of its nodes: load, bind, infer, measure."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from onnx_pipeline.errors import Advice, InputError, UsageError
from onnx_pipeline.parameters import Feeds, ModelLike, PathLike, ProfileParams
from onnx_pipeline.progress import Phases, Progress, silent

if TYPE_CHECKING:
    import onnx_ir

    from onnx_pipeline.costmodel.request import CostModel, CostRequest, NodeCosts
    from onnx_pipeline.graph.costgraph import CostGraph
    from onnx_pipeline.model.shapes import TensorInfo
    from onnx_pipeline.model.source import SourceModel


@dataclass(frozen=True, eq=False)
class Priced:
    """A loaded model with types, shapes and costs for bound dimensions, and what its cost model was asked."""

    params: ProfileParams
    source: SourceModel
    infos: Mapping[str, TensorInfo]
    costs: NodeCosts
    dims: Mapping[str, int]
    feeds: Feeds | None
    request: CostRequest

    @cached_property
    def graph(self) -> CostGraph:
        """The cost graph, lowered on first use."""
        from onnx_pipeline.model.lowering import lower

        return lower(self.source, self.infos, self.costs)


def price(
    model: ModelLike,
    params: ProfileParams,
    progress: Progress = silent,
    phases: Phases | None = None,
) -> Priced:
    """Load a model and price its nodes.

    Parameters
    ----------
    model : path-like, onnx.ModelProto or onnx_ir.Model
        The ONNX file, or a model in memory.
    params : ProfileParams
    progress : Progress
    phases : Phases, optional
        Takes the seconds of ``load``, ``shapes`` and ``profile``.

    Raises
    ------
    UsageError
        If the cost model, the device, the provider or a dimension is unknown; as far as possible before the
        model is loaded.
    InputError
        If the model or another file cannot be used.
    """
    phases = Phases() if phases is None else phases
    with phases.measure("load", progress):
        from onnx_pipeline.model.source import load

        measure = _cost_model(params)
        source = load(model, params.custom_ops)
    return price_source(source, params, progress, phases, measure=measure)


def price_source(
    source: SourceModel,
    params: ProfileParams,
    progress: Progress = silent,
    phases: Phases | None = None,
    *,
    measure: CostModel | None = None,
) -> Priced:
    """Price the nodes of a loaded model; parameters as in :func:`price`.

    Parameters
    ----------
    source : SourceModel
        Brings its own libraries of custom operators.
    measure : CostModel, optional
        The cost model to ask; by default the one that ``params`` names.
    """
    from onnx_pipeline.costmodel.devices import load_device
    from onnx_pipeline.costmodel.request import CostRequest
    from onnx_pipeline.files.user_cache import user_cache
    from onnx_pipeline.model.running import tried_feeds

    phases = Phases() if phases is None else phases
    with phases.measure("load", progress):
        measure = _cost_model(params) if measure is None else measure
        dims, feeds = bind(source, params.dims, params.inputs, progress)
        feeds = tried_feeds(source, dims, params.seed, progress) if feeds is None else feeds
    problems: list[InputError] = []
    with phases.measure("shapes", progress):
        infos, nodes = shapes(source, dims, feeds, problems.append)
    with phases.measure("profile", progress):
        request = CostRequest(
            source=source,
            infos=infos,
            nodes=nodes,
            dims=dims,
            feeds=feeds,
            device=load_device(params.device or "cpu"),
            runs=params.profile_runs,
            provider=params.provider,
            threads=params.intra_op_threads,
            seed=params.seed,
            progress=progress,
            seconds=params.profile_seconds,
            cache=user_cache() if params.cache else None,
        )
        costs = _measured(measure, request, problems, params.cost_model == "profile")
    if costs.estimated:
        progress("note", None, f"no cost rule for {', '.join(costs.estimated)}: priced by the bytes moved")
    return Priced(params, source, infos, costs, dims, feeds, request)


def _measured(
    measure: CostModel, request: CostRequest, problems: Sequence[InputError], profiles: bool
) -> NodeCosts:
    """Ask the cost model; computed costs serve where it measures and the model runs with no random inputs."""
    from onnx_pipeline.costmodel import cost_model
    from onnx_pipeline.model.running import CannotRunError

    try:
        if problems and profiles:
            raise problems[0]
        if problems:
            request.progress("note", None, problems[0].advice("some shapes are not known: "))
        return measure(request)
    except CannotRunError as error:
        if request.feeds is not None or not profiles:
            raise
        request.progress("note", None, error.advice("costs are computed, not measured: "))
        return cost_model("analytic")(request)


def _cost_model(params: ProfileParams) -> CostModel:
    """Return the cost model; parameters that are wrong are refused before any work."""
    from onnx_pipeline.costmodel import cost_model
    from onnx_pipeline.costmodel.devices import load_device
    from onnx_pipeline.ort.providers import check_providers

    found = cost_model(params.cost_model)
    load_device(params.device or "cpu")
    if params.cost_model == "profile":
        check_providers([params.provider])
    return found


def shapes(
    source: SourceModel,
    dims: Mapping[str, int],
    feeds: Feeds | None,
    tell: Callable[[InputError], None] | None = None,
) -> tuple[Mapping[str, TensorInfo], Sequence[onnx_ir.Node]]:
    """Return type and shape of every value, and the nodes that need a cost.

    Parameters are those of :func:`onnx_pipeline.model.shapes.value_infos`.

    Raises
    ------
    InputError
        If shapes cannot be found out, or nothing is executable.
    """
    from onnx_pipeline.model.lowering import NOTHING
    from onnx_pipeline.model.roles import executable_nodes
    from onnx_pipeline.model.shapes import value_infos

    infos, nodes = value_infos(source, dims, feeds, tell), executable_nodes(source)
    if not nodes:
        raise InputError(source.path, NOTHING)
    return infos, nodes


def bind(
    source: SourceModel,
    dims: Mapping[str, int] | None,
    inputs: PathLike | Feeds | None,
    progress: Progress = silent,
) -> tuple[dict[str, int], Feeds | None]:
    """Return a value for every symbolic dimension, and the given inputs as arrays.

    Inputs determine the dimensions that they have; a ``dims`` entry that contradicts them is a UsageError.
    """
    from onnx_pipeline.model.dimensions import bound_dims, dims_of
    from onnx_pipeline.model.inputs import check_feeds, load_feeds

    given = dict(dims or {})
    feeds: Feeds | None = None
    if inputs is not None:
        feeds = check_feeds(source, inputs) if isinstance(inputs, Mapping) else load_feeds(inputs, source)
        for name, value in dims_of(source, dict(feeds)).items():
            if given.setdefault(name, value) != value:
                raise UsageError(
                    f"dimension {name!r} is set to {given[name]} and is {value} in the inputs",
                    Advice("leave out {dims}", dims={name: given[name]}),
                )
    bound = bound_dims(source, given)
    left = ", ".join(f"{name}=1" for name in bound if name not in given)
    if left:
        progress("note", None, Advice(f"costs are for {left}; give real sizes with {{dims}}", dims=...))
    return bound, feeds
