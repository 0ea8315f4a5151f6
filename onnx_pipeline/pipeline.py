"""The facade on one page: profile, plan and split, each readable as a table of contents."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from onnx_pipeline.errors import Advice
from onnx_pipeline.files.atomic import check_writable
from onnx_pipeline.fleet_planning import FleetLike, as_fleet, chosen_fleet
from onnx_pipeline.graph.constraints import NO_DEMANDS, Demands
from onnx_pipeline.parameters import (
    Feeds,
    MeasureParams,
    ModelLike,
    OutputParams,
    PathLike,
    ProfileParams,
    SearchParams,
    TargetParams,
    the_one,
)
from onnx_pipeline.planner import Planner
from onnx_pipeline.price import price
from onnx_pipeline.progress import Phases, Progress, ProgressLike, shows_progress, silent

if TYPE_CHECKING:
    from onnx_pipeline.costmodel.devices import Device
    from onnx_pipeline.costmodel.fleets import Fleet
    from onnx_pipeline.costmodel.request import CostModel
    from onnx_pipeline.given import Given
    from onnx_pipeline.graph.costgraph import CostGraph
    from onnx_pipeline.manifest import Manifest
    from onnx_pipeline.price import Priced
    from onnx_pipeline.solution import Solution


@shows_progress("splitting")
def split(
    model: ModelLike,
    *,
    stages: int | None = None,
    devices: int | None = None,
    fleet: FleetLike | None = None,
    stages_per_device: int | str | None = None,
    output: PathLike,
    device: str | PathLike | Device = "cpu",
    bandwidth: float | str | None = None,
    memory: float | str | None = None,
    memory_mode: str = "overflow",
    activations: bool = True,
    cost_model: str | CostModel = "profile",
    dims: Mapping[str, int] | None = None,
    inputs: PathLike | Feeds | None = None,
    time_limit: float = 10.0,
    gap: float = 0.0,
    seed: int = 0,
    threads: int | None = None,
    profile_runs: int | None = None,
    profile_seconds: float | None = None,
    intra_op_threads: int = 1,
    cache: bool = True,
    provider: str = "CPUExecutionProvider",
    measure: int | None = None,
    measure_seconds: float | None = None,
    demands: Demands = NO_DEMANDS,
    pins: Mapping[str, int] | None = None,
    together: Iterable[Collection[str]] = (),
    no_cut: Collection[str] = (),
    partition: Given | None = None,
    log: PathLike | None = None,
    annotate: bool = False,
    weights: str = "copy",
    custom_ops: Sequence[PathLike] = (),
    force: bool = False,
    progress: ProgressLike = silent,
) -> Manifest:
    """Profile an ONNX model, partition it, certify the partition and write the stages.

    Parameters
    ----------
    model : path-like, onnx.ModelProto or onnx_ir.Model
        The ONNX file, or a model in memory, which is not changed.
    stages : int
        Number of stages k, one on each device; stages that stay empty are not written.
    devices : int
        Number of devices N, in place of ``stages``: stages and how many devices serve each are planned
        together, see :func:`replicate`. Stages are measured then, but no other plan is tried.
    fleet : Fleet, mapping or path-like
        Devices that differ, in place of ``stages``: a TOML file, a table with its keys, or a
        :class:`Fleet`. Links and memory are those of its devices. See :func:`place`.
    stages_per_device : int or "any", optional
        How many stages a device of the fleet may hold; by default what the fleet says.
    output : path-like
        Directory that appears complete or not at all.
    device : str, path-like or Device
        Built-in or installed device, or a TOML file.
    bandwidth, memory : float or str, optional
        Override the device's link in bytes/second and its fast memory in bytes, also as ``"16GB/s"`` and
        ``"8GiB"``.
    cost_model : str or callable
        ``"profile"``, ``"analytic"``, an installed cost model, a COSTS.json or CSV file, or a function from
        :class:`CostRequest` to :class:`NodeCosts`.
    dims : mapping of str to int, optional
        Values of symbolic dimensions; 1 by default.
    inputs : path-like or mapping of str to ndarray, optional
        Representative inputs (an ``.npz`` file or arrays); seeded random ones by default.
    time_limit : float
        Time limit in seconds, proofs included.
    gap : float
        Stop once this gap is proved.
    seed : int
        Seed of random inputs and of the search.
    threads : int, optional
        Threads of the search; all cores by default.
    profile_runs : int, optional
        Inferences to measure per pair of sessions; by default 10, more for quick models.
    profile_seconds : float, optional
        Time budget of the profile; by default it grows with ``profile_runs``.
    intra_op_threads : int
        Threads that onnxruntime computes one node with, in the profile and in measured stages.
    cache : bool
        Use and keep profiles in the user's cache directory.
    provider : str
        Execution provider of onnxruntime to measure.
    measure : int, optional
        How many other partitions may be measured to find a faster one; 0 measures nothing. By default 3 for
        profiled costs, none for others. What is optimal in the costs is written unless another partition is
        certainly faster.
    measure_seconds : float, optional
        Time that measuring may take; by default 4 seconds, or 64 inferences of a slower model, a minute at
        most. It ends as soon as it is decided which partition to write.
    memory_mode : {"overflow", "hard"}
        Whether what exceeds the memory is streamed over the link or forbidden.
    activations : bool
        Whether the peak of live activations counts against the memory, next to parameters.
    demands : Demands
        Constraints, and the bounds to compute.
    pins : mapping of str to int, optional
        More constraints: the stage, counted from 0, that a node must be in. The names here and below may be
        patterns, ``pins={"encoder/*": 0}``.
    together : iterable of collections of str
        Groups of nodes that must share a stage.
    no_cut : collection of str
        Tensors that must not cross a stage border.
    partition : mapping of str to int, sequence of int or path-like, optional
        Write exactly these stages instead of searching better ones, see :func:`evaluate`.
    log : path-like, optional
        CSV file for the history of the search: seconds, method, bottleneck and bound.
    annotate : bool
        Also write the whole model with the standard's ``pipeline_stage`` on its nodes.
    weights : str
        Large weights in external data: ``"copy"`` them into each stage's data file, hard-``"link"`` the
        model's data files into the output, or only ``"reference"`` them where they are; stages that
        reference run in :class:`~onnx_pipeline.PipelineSession` only.
    custom_ops : sequence of path-like
        Libraries of custom operators for onnxruntime. Loading one runs its code.
    force : bool
        Replace an existing output of this package.
    progress : Progress or bool
        Called with the phase, the share done and a message; ``True`` draws a bar in a terminal or notebook.

    Returns
    -------
    Manifest
        What was written, with the certificate and the seconds spent per phase.

    Raises
    ------
    UsageError
        If an option is out of range, or the output exists or cannot be written; checked before any work.
    InputError
        If the model or another file cannot be used.
    """
    from onnx_pipeline.emission.emit import emit
    from onnx_pipeline.files.directory import check_output
    from onnx_pipeline.given import given
    from onnx_pipeline.measurement.improve import improve

    wanted = ProfileParams(
        cost_model=cost_model,
        device=device,
        dims=dims,
        inputs=inputs,
        profile_runs=profile_runs,
        profile_seconds=profile_seconds,
        intra_op_threads=intra_op_threads,
        cache=cache,
        provider=provider,
        custom_ops=custom_ops,
        seed=seed,
    )
    described = TargetParams(device, bandwidth, memory, memory_mode, activations)
    line = chosen_fleet(fleet, stages_per_device, described)
    demands = demands.joined(pins, together, no_cut)
    search = SearchParams(time_limit, gap, seed, threads, demands.exactly, demands.bounds)
    measuring = MeasureParams(measure, measure_seconds)
    writing = OutputParams(force, annotate, weights)

    output = Path(output)
    check_output(output, force=force, keep=[model] if isinstance(model, str | os.PathLike) else ())
    check_writable(output)
    phases = Phases()
    repeats = measuring.rounds(cost_model) > 0  # all searches share the time limit
    own = given(partition)
    planner = Planner(
        stages, described.target(), search, demands, log, progress, phases, own, repeats, devices, line
    )

    priced, graph = _priced(model, wanted, line, progress, phases)
    if line is None:
        described.check_costs(graph, progress)
    first = planner.solve_to_emit(graph)
    result, describe = improve(first, priced, planner, measuring, output)
    return emit(
        priced.source,
        priced.infos,
        result,
        {"kind": priced.costs.kind, **priced.costs.meta},
        output,
        **vars(writing),
        phases=phases,
        describe=describe,
        progress=progress,
    )


@shows_progress("pricing")
def profile(
    model: ModelLike,
    *,
    device: str | PathLike | Device = "cpu",
    cost_model: str | CostModel = "profile",
    dims: Mapping[str, int] | None = None,
    inputs: PathLike | Feeds | None = None,
    profile_runs: int | None = None,
    profile_seconds: float | None = None,
    intra_op_threads: int = 1,
    cache: bool = True,
    provider: str = "CPUExecutionProvider",
    seed: int = 0,
    custom_ops: Sequence[PathLike] = (),
    fleet: FleetLike | None = None,
    progress: ProgressLike = silent,
    phases: Phases | None = None,
) -> CostGraph:
    """Measure (or estimate) the cost graph of an ONNX model; parameters as in :func:`split`.

    With a ``fleet``, the graph has the work of its nodes on every kind of device, too.

    Examples
    --------
    >>> graph = profile("model.onnx", dims={"batch": 8})  # doctest: +SKIP
    """
    wanted = ProfileParams(
        cost_model=cost_model,
        device=device,
        dims=dims,
        inputs=inputs,
        profile_runs=profile_runs,
        profile_seconds=profile_seconds,
        intra_op_threads=intra_op_threads,
        cache=cache,
        provider=provider,
        custom_ops=custom_ops,
        seed=seed,
    )
    phases = Phases() if phases is None else phases
    return _priced(model, wanted, None if fleet is None else as_fleet(fleet), progress, phases)[1]


def _priced(
    model: ModelLike, params: ProfileParams, fleet: Fleet | None, progress: Progress, phases: Phases
) -> tuple[Priced, CostGraph]:
    """Return the model and its cost graph, with the work on every kind of device of a fleet."""
    if fleet is None:
        priced = price(model, params, progress, phases)
        with phases.measure("lower", progress):
            return priced, priced.graph
    from onnx_pipeline.fleet_pricing import price_fleet

    return price_fleet(model, fleet, params, progress, phases)


@shows_progress("planning")
def plan(
    graph: CostGraph | PathLike,
    *,
    stages: int | None = None,
    devices: int | None = None,
    fleet: FleetLike | None = None,
    stages_per_device: int | str | None = None,
    device: str | PathLike | Device | None = None,
    bandwidth: float | str | None = None,
    memory: float | str | None = None,
    memory_mode: str = "overflow",
    activations: bool = True,
    ignore_colocation: bool = False,
    time_limit: float = 10.0,
    gap: float = 0.0,
    seed: int = 0,
    threads: int | None = None,
    demands: Demands = NO_DEMANDS,
    pins: Mapping[str, int] | None = None,
    together: Iterable[Collection[str]] = (),
    no_cut: Collection[str] = (),
    partition: Given | None = None,
    log: PathLike | None = None,
    progress: ProgressLike = silent,
    phases: Phases | None = None,
) -> Solution:
    """Partition and certify a cost graph; no ONNX model is needed.

    Parameters
    ----------
    graph : CostGraph or path-like
        COSTS.json or an MSR workload.
    device : optional
        As in :func:`split`; by default ``cpu``, or for a graph with transfer times of its own an ideal
        device without overheads and limits.
    memory : float or str, optional
        Bytes per device, also as ``"8GiB"``; ``"file"`` takes the limit that an MSR file states, for
        parameters only.
    ignore_colocation : bool
        Ignore the graph's colocation groups.
    partition : mapping of str to int, sequence of int or path-like, optional
        Evaluate this partition instead of searching a better one, see :func:`evaluate`.

    Returns
    -------
    PartitionResult, ReplicaPlan for ``devices``, or FleetResult for a ``fleet``
        With ``interrupted`` set after Ctrl-C: the best so far, its certificate valid.

    Notes
    -----
    Other parameters as in :func:`split`.
    """
    from onnx_pipeline.given import given
    from onnx_pipeline.graph.costgraph import CostGraph
    from onnx_pipeline.graph.costs_json import read_graph

    described = TargetParams(device, bandwidth, memory, memory_mode, activations)
    line = chosen_fleet(fleet, stages_per_device, described)
    demands = demands.joined(pins, together, no_cut)
    search = SearchParams(time_limit, gap, seed, threads, demands.exactly, demands.bounds)
    the_one(stages=stages, devices=devices, fleet=line)
    own = given(partition)
    phases = Phases() if phases is None else phases
    with phases.measure("load", progress):
        if not isinstance(graph, CostGraph):
            graph = read_graph(graph, ignore_colocation=ignore_colocation)
    target = described.target(graph)
    if line is None:
        described.check_costs(graph, progress)
    else:
        graph = line.priced(graph, progress)
    if memory_mode == "overflow" and target.memory < float("inf") == target.bandwidth:
        free = "over an unlimited link the memory limit costs nothing; give {bandwidth}, too"
        progress("note", None, Advice(free, bandwidth=...))
    planner = Planner(stages, target, search, demands, log, progress, phases, own, False, devices, line)
    return planner.solve(graph)
