"""A user's own partition, priced by the one objective and held against the bounds."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

from onnx_pipeline.errors import Advice, InfeasibleError, UsageError
from onnx_pipeline.figures import format_bytes
from onnx_pipeline.given import Given, GivenPartition
from onnx_pipeline.graph.constraints import NO_DEMANDS
from onnx_pipeline.graph.costgraph import CostGraph
from onnx_pipeline.graph.target import INFEASIBLE, Target
from onnx_pipeline.parameters import PathLike, SearchParams, as_target
from onnx_pipeline.partition.portfolio import solve
from onnx_pipeline.partition.result import Partition, PartitionResult
from onnx_pipeline.progress import Progress, ProgressLike, shows_progress, silent
from onnx_pipeline.settings import check

if TYPE_CHECKING:
    from onnx_pipeline.costmodel.devices import Device

#: What is told of a better partition; differences below are of no use to anybody.
WORTH_TELLING = 0.001


@shows_progress("searching")
def evaluate(
    graph: CostGraph,
    stage_of: Given,
    target: Target | Device | PathLike | None = None,
    *,
    stages: int | None = None,
    time_limit: float = 10.0,
    gap: float = 0.0,
    seed: int = 0,
    threads: int | None = None,
    bounds: Collection[str] | None = None,
    pins: Mapping[str, int] | None = None,
    together: Iterable[Collection[str]] = (),
    no_cut: Collection[str] = (),
    progress: ProgressLike = silent,
) -> PartitionResult:
    """Price a partition of your own and prove how much better another one could be.

    Parameters
    ----------
    graph : CostGraph
    stage_of : sequence of int, ndarray, mapping of str to int, or path-like
        The stage of every node, in the graph's order or by name. A file is JSON (a mapping, a list, PLAN.json
        or the manifest of a split) or CSV with the columns ``name,stage``.
    target : Target, Device, str or path-like, optional
        Devices and links, a device also by name or as a TOML file; default: free transfers, unlimited memory.
    stages : int, optional
        Number of stages k that the bounds are for; by default as many as the partition has.
    time_limit : float
        Seconds for the bounds, which hold whenever it ends.
    gap, seed, threads, bounds, pins, together, no_cut, progress
        As in :func:`onnx_pipeline.partition`, which looks for bounds and better partitions. What is demanded
        has to be kept, and the bounds are of partitions that keep it.

    Returns
    -------
    PartitionResult
        The partition as given, and lower bounds on every partition into k stages: ``gap`` says by how much a
        better one can be faster at most. ``history[-1].bottleneck`` is the best that was found meanwhile.

    Raises
    ------
    UsageError
        If it is not a partition of this graph: a tensor flows backwards, nodes are missing or unknown, or a
        pin or a group is not kept. The message names the node or the edge.
    InputError
        The same of a file, or the file cannot be read.
    InfeasibleError
        If a stage breaks a hard memory limit.

    Examples
    --------
    >>> from onnx_pipeline import GraphBuilder
    >>> builder = GraphBuilder("chain")
    >>> a, b = builder.add_node("a", 30e6), builder.add_node("b", 10e6)
    >>> _ = builder.add_net("t", a, [b], nbytes=0)
    >>> evaluate(builder.build(), {"a": 0, "b": 0}, stages=2).gap
    0.25
    """
    wanted = SearchParams(time_limit, gap, seed, threads, bounds=bounds)
    stages = None if stages is None else check("stages", stages)
    given = GivenPartition.load(stage_of)
    graph = NO_DEMANDS.joined(pins, together, no_cut).apply(graph)
    return evaluate_given(graph, given, as_target(target, graph), stages, wanted, progress)


def evaluate_given(
    graph: CostGraph,
    given: GivenPartition,
    target: Target,
    stages: int | None,
    search: SearchParams,
    progress: Progress = silent,
) -> PartitionResult:
    """Evaluate as :func:`evaluate` does, with a parameter object."""
    stage_of, stages = given.of(graph, stages)
    own = Partition(graph, target, stages, stage_of, search.exactly)
    if search.exactly and own.used < stages:
        raise UsageError(f"the partition leaves {stages - own.used} of {stages} stages empty")
    _check_memory(own)
    found = solve(graph, stages, target, search, progress, given=stage_of)
    result = PartitionResult(
        replace(own, graph=found.graph), found.certificate, replace(found.search, methods=("given",))
    )
    saved = 1 - found.bottleneck / result.bottleneck if result.bottleneck else 0.0
    if saved > WORTH_TELLING:
        better = f"a partition with a {100 * saved:.1f} % shorter bottleneck exists"
        progress("note", None, Advice(f"{better}; plan without {{partition}} to get it", partition=...))
    return result


def _check_memory(own: Partition) -> None:
    """Refuse what breaks a hard limit: it could not run, so it has no cost."""
    for index, cost in enumerate(own.costs):
        if cost.overflow >= INFEASIBLE:
            held, memory = cost.parameter_bytes + cost.activation_bytes, own.target.memory
            raise InfeasibleError(
                f"stage {index} of the partition holds {format_bytes(held)}, "
                f"more than the memory of {format_bytes(memory)}",
                Advice("move nodes, or give more memory or {memory_mode}", memory_mode="overflow"),
            )
