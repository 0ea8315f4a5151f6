"""The product as one page: profile, plan and split, each readable as its own table of contents."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from onnx_pipeline.errors import InfeasibleError, InputError, UsageError
from onnx_pipeline.files.atomic import check_writable, scratch_beside
from onnx_pipeline.graph.constraints import NO_DEMANDS, Demands
from onnx_pipeline.planfile import write_log
from onnx_pipeline.price import Feeds, PathLike, Phases, Priced, as_device, price
from onnx_pipeline.progress import Progress, silent

if TYPE_CHECKING:
    from onnx_pipeline.costmodel.devices import Device
    from onnx_pipeline.graph.costgraph import CostGraph
    from onnx_pipeline.graph.target import Target
    from onnx_pipeline.manifest import Manifest
    from onnx_pipeline.measurement.closed_loop import Measured
    from onnx_pipeline.partition.result import PartitionResult


def split(
    model: PathLike,
    *,
    stages: int,
    output: PathLike,
    device: str | PathLike | Device = "cpu",
    bandwidth: float | None = None,
    memory: float | None = None,
    memory_mode: str = "overflow",
    activations: bool = True,
    cost_model: str = "profile",
    dims: Mapping[str, int] | None = None,
    inputs: PathLike | Feeds | None = None,
    time_limit: float = 10.0,
    gap: float = 0.0,
    seed: int = 0,
    threads: int | None = None,
    profile_runs: int | None = None,
    profile_seconds: float | None = None,
    cache: bool = True,
    provider: str = "CPUExecutionProvider",
    measure: int | None = None,
    demands: Demands = NO_DEMANDS,
    log: PathLike | None = None,
    annotate: bool = False,
    weights: str = "copy",
    custom_ops: Sequence[PathLike] = (),
    force: bool = False,
    progress: Progress = silent,
) -> Manifest:
    """Profile an ONNX model, partition it, certify the partition and write the stages.

    Parameters
    ----------
    model : path-like
        The ONNX file.
    stages : int
        Number of devices k; stages that the best partition leaves empty are not written.
    output : path-like
        Directory that appears complete or not at all.
    device : str, path-like or Device
        Built-in or installed device, or a TOML file.
    bandwidth, memory : float, optional
        Override the device's bytes/second between devices and bytes of fast memory.
    cost_model : str
        ``"profile"``, ``"analytic"``, an installed cost model, or a COSTS.json or CSV file.
    dims : mapping of str to int, optional
        Values of symbolic dimensions; 1 by default.
    inputs : path-like or mapping of str to ndarray, optional
        Representative inputs (an ``.npz`` file or arrays); seeded random ones by default.
    time_limit : float
        Seconds of wall time for search and certificate together.
    gap : float
        Stop as soon as this gap is proved.
    seed : int
        Of random inputs and of the search.
    threads : int, optional
        For the search; all cores by default.
    profile_runs : int, optional
        Measured inferences per pair of sessions; by default 10, and more of a quick model.
    profile_seconds : float, optional
        Bound on the time that profiling takes; by default it grows with ``profile_runs``.
    cache : bool
        Keep profiles in the user's cache directory and use kept ones.
    provider : str
        onnxruntime execution provider to measure.
    measure : int, optional
        How often the stages are measured, the costs corrected and the model partitioned again; by default
        once for profiled costs, not at all for others. The best measured partition is written.
    memory_mode : {"overflow", "hard"}
        Whether bytes beyond the memory are streamed over the link or forbidden.
    activations : bool
        Whether the peak of a stage's live activations needs room in the memory beside its parameters.
    demands : Demands
        Constraints, and which bounds to compute.
    log : path-like, optional
        CSV file for the history of the search: seconds, method, bottleneck and bound.
    annotate : bool
        Also write the whole model with the standard's ``pipeline_stage`` on its nodes.
    weights : str
        Large weights in external data: ``"copy"`` them into each stage's data file, hard-``"link"`` the
        model's data files into the output, or only ``"reference"`` them where they are; stages that
        reference run in :class:`~onnx_pipeline.runtime.PipelineSession` only.
    custom_ops : sequence of path-like
        Libraries of custom operators for onnxruntime. Loading one runs its code.
    force : bool
        Replace an existing output of this package.
    progress : Progress
        Told what is going on.

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

    output = Path(output)
    _check_stages(stages)
    check_output(output, force=force)
    check_writable(output)
    target = make_target(
        device, bandwidth=bandwidth, memory=memory, memory_mode=memory_mode, activations=activations
    )
    phases = Phases()
    priced = price(
        model,
        device=device,
        cost_model=cost_model,
        dims=dims,
        inputs=inputs,
        profile_runs=profile_runs,
        profile_seconds=profile_seconds,
        cache=cache,
        provider=provider,
        seed=seed,
        progress=progress,
        phases=phases,
        custom_ops=custom_ops,
    )
    rounds = _measuring_rounds(measure, cost_model)

    def search(graph: CostGraph) -> PartitionResult:
        # The searches of the closed loop share the time limit.
        with phases.measure("partition", progress):
            found = _partition(
                graph, stages, target, time_limit / (rounds + 1), gap, seed, threads, demands, log, progress
            )
        if found.interrupted:
            raise KeyboardInterrupt
        if found.used <= int(found.stage_of.max(initial=0)):
            raise InfeasibleError("the pins leave a stage before a pinned one empty; pin to lower stages")
        return found

    result = search(priced.graph)
    describe = None
    if rounds and result.used > 1:
        found = _closed_loop(
            priced, result, search, rounds, provider, seed, output, phases, progress, must=measure is not None
        )
        if found is not None:
            from onnx_pipeline.measurement.closed_loop import describe as describe_measured

            result, describe = found.result, partial(describe_measured, found=found)
    return emit(
        priced.source,
        priced.infos,
        result,
        {"kind": priced.costs.kind, **priced.costs.meta},
        output,
        force=force,
        annotate=annotate,
        weights=weights,
        phases=phases,
        describe=describe,
        progress=progress,
    )


def _measuring_rounds(measure: int | None, cost_model: str) -> int:
    if measure is None:
        return 1 if cost_model == "profile" else 0
    if measure < 0:
        raise UsageError(f"measure must be at least 0, got {measure}")
    return measure


def _closed_loop(
    priced: Priced,
    first: PartitionResult,
    search: Callable[[CostGraph], PartitionResult],
    rounds: int,
    provider: str,
    seed: int,
    output: Path,
    phases: Phases,
    progress: Progress,
    *,
    must: bool,
) -> Measured | None:
    """Measure and correct in a temporary folder beside the output; None where stages do not run here."""
    from onnx_pipeline.costmodel.profiling.sessions import Runner
    from onnx_pipeline.emission.emit import emit
    from onnx_pipeline.measurement.closed_loop import closed_loop
    from onnx_pipeline.model.inputs import make_feeds

    feeds = priced.feeds
    if feeds is None:
        feeds = make_feeds(priced.source, priced.dims, seed)
    profiled = priced.costs.kind == "profile"
    try:
        with phases.measure("measure", progress), scratch_beside(output) as scratch:
            before = phases.get("partition", 0.0)
            found = closed_loop(
                first,
                Runner(priced.source, feeds, priced.dims, provider),
                lambda result, folder: emit(
                    priced.source, priced.infos, result, {}, folder, weights="reference"
                ),
                search,
                scratch,
                rounds=rounds,
                reference_seconds=int(priced.graph.work.sum()) / 1e9 if profiled else None,
                progress=progress,
            )
            inner = phases.get("partition", 0.0) - before
        phases["measure"] -= inner
    except InputError as error:
        if must:
            raise
        progress("note", None, f"the stages were not measured: {error}")
        return None
    return found


def profile(
    model: PathLike,
    *,
    device: str | PathLike | Device = "cpu",
    cost_model: str = "profile",
    dims: Mapping[str, int] | None = None,
    inputs: PathLike | Feeds | None = None,
    profile_runs: int | None = None,
    profile_seconds: float | None = None,
    cache: bool = True,
    provider: str = "CPUExecutionProvider",
    seed: int = 0,
    custom_ops: Sequence[PathLike] = (),
    progress: Progress = silent,
    phases: Phases | None = None,
) -> CostGraph:
    """Measure (or estimate) the cost graph of an ONNX model; parameters as in :func:`split`.

    Examples
    --------
    >>> graph = profile("model.onnx", dims={"batch": 8})  # doctest: +SKIP
    """
    return price(
        model,
        device=device,
        cost_model=cost_model,
        dims=dims,
        inputs=inputs,
        profile_runs=profile_runs,
        profile_seconds=profile_seconds,
        cache=cache,
        provider=provider,
        seed=seed,
        progress=progress,
        phases=Phases() if phases is None else phases,
        custom_ops=custom_ops,
    ).graph


def plan(
    graph: CostGraph | PathLike,
    *,
    stages: int,
    device: str | PathLike | Device | None = None,
    bandwidth: float | None = None,
    memory: float | str | None = None,
    memory_mode: str = "overflow",
    activations: bool = True,
    ignore_colocation: bool = False,
    time_limit: float = 10.0,
    gap: float = 0.0,
    seed: int = 0,
    threads: int | None = None,
    demands: Demands = NO_DEMANDS,
    log: PathLike | None = None,
    progress: Progress = silent,
    phases: Phases | None = None,
) -> PartitionResult:
    """Partition and certify a cost graph; no ONNX model is needed.

    Parameters
    ----------
    graph : CostGraph or path-like
        COSTS.json or an MSR workload.
    device : optional
        As in :func:`split`. By default ``cpu``; for a graph that brings its own transfer times an ideal
        device without overheads and limits.
    memory : float or ``"file"``, optional
        Bytes per device; ``"file"`` takes the limit that an MSR file states, for parameters only.
    ignore_colocation : bool
        Let nodes of a colocation group part.

    Returns
    -------
    PartitionResult
        With ``interrupted`` set after Ctrl-C: the best partition so far, its certificate valid.

    Notes
    -----
    Other parameters as in :func:`split`.
    """
    from onnx_pipeline.graph.costgraph import CostGraph
    from onnx_pipeline.graph.costs_json import read_graph

    phases = Phases() if phases is None else phases
    _check_stages(stages)
    with phases.measure("load", progress):
        if not isinstance(graph, CostGraph):
            graph = read_graph(graph, ignore_colocation=ignore_colocation)
    if memory == "file":
        if "file_memory_bytes" not in graph.meta:
            raise UsageError("--memory file: the graph file states no memory limit (maxSizePerFPGA)")
        memory = float(graph.meta["file_memory_bytes"])
        activations = False
    elif isinstance(memory, str):
        raise UsageError(f"memory must be a number of bytes or 'file', got {memory!r}")
    if device is None and graph.net_time is not None:
        from onnx_pipeline.costmodel.devices import Device

        device = Device("ideal", source="the graph's own transfer times")
    target = make_target(
        device or "cpu",
        bandwidth=bandwidth,
        memory=memory,
        memory_mode=memory_mode,
        activations=activations,
        host_io=graph.meta.get("host_io", True) is not False,
    )
    if memory_mode == "overflow" and target.memory < float("inf") == target.bandwidth:
        progress("note", None, "the memory limit costs nothing over an unlimited link; give --bandwidth too")
    with phases.measure("partition", progress):
        return _partition(graph, stages, target, time_limit, gap, seed, threads, demands, log, progress)


def make_target(
    device: str | PathLike | Device,
    *,
    bandwidth: float | None = None,
    memory: float | None = None,
    host_io: bool = True,
    memory_mode: str = "overflow",
    activations: bool = True,
) -> Target:
    """Return what the partitioner needs to know of a device, with overrides."""
    target = as_device(device).target(host_io=host_io)
    target = replace(target, memory_mode=memory_mode, activations=activations)
    if bandwidth is not None:
        target = replace(target, bandwidth=bandwidth)
    return target if memory is None else replace(target, memory=memory)


def _partition(
    graph: CostGraph,
    stages: int,
    target: Target,
    time_limit: float,
    gap: float,
    seed: int,
    threads: int | None,
    demands: Demands,
    log: PathLike | None,
    progress: Progress,
) -> PartitionResult:
    from onnx_pipeline.partition.portfolio import partition

    if stages > graph.num_nodes:
        progress("note", None, f"{stages} stages for {graph.num_nodes} nodes: empty stages are not emitted")
    result = partition(
        demands.apply(graph),
        stages,
        target,
        time_limit=time_limit,
        gap=gap,
        seed=seed,
        threads=threads,
        exactly=demands.exactly,
        bounds=demands.bounds,
        progress=progress,
    )
    if log is not None:
        write_log(result.history, log)
    if result.used < min(stages, graph.num_nodes):
        progress("note", None, f"the best partition found uses {result.used} of {stages} stages")
    return result


def _check_stages(stages: int) -> None:
    if stages < 1:
        raise UsageError(f"stages must be at least 1, got {stages}")
