"""The closed loop of ``split``: a partition in, the one that is written out, with what was measured."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from operator import truediv
from pathlib import Path
from typing import TYPE_CHECKING, Any

from onnx_pipeline import planfile
from onnx_pipeline.errors import Advice, InputError
from onnx_pipeline.files.atomic import scratch_beside
from onnx_pipeline.graph import costs_json
from onnx_pipeline.manifest import MEASURED_COSTS_NAME, Manifest
from onnx_pipeline.partition.result import PartitionResult

if TYPE_CHECKING:
    from onnx_pipeline.graph.costgraph import CostGraph, IntArray
    from onnx_pipeline.measurement.closed_loop import Measured
    from onnx_pipeline.model.source import SourceModel
    from onnx_pipeline.parameters import MeasureParams
    from onnx_pipeline.planner import Planner
    from onnx_pipeline.price import Priced
    from onnx_pipeline.solution import Solution

#: Adds to a manifest, and to its folder, what is known from measurements.
Describe = Callable[[Manifest, Path], Manifest]
#: Time that measuring may take by default: seconds, or inferences where these take longer, and the most.
SECONDS, INFERENCES, MOST_SECONDS = 4.0, 64, 60.0


def improve(
    first: Solution, priced: Priced, planner: Planner, params: MeasureParams, output: Path
) -> tuple[Solution, Describe | None]:
    """Measure the stages, correct the costs and try other partitions, as far as the parameters allow.

    The stages of a plan with replicas are only measured: no other plan is tried.

    Parameters
    ----------
    first : PartitionResult
    priced : Priced
        The model that it is a partition of.
    planner : Planner
        Partitions the corrected graphs; its phases take the seconds of ``measure``.
    params : MeasureParams
    output : Path
        Candidates are written beside it.

    Returns
    -------
    PartitionResult or ReplicaPlan
        What to write, in the costs of ``first``; ``first`` where nothing was measured.
    callable or None
        Adds the measurements to a manifest.

    Raises
    ------
    InputError
        If stages do not run here, and measuring them was asked for.
    """
    rounds = params.rounds(priced.costs.kind)
    if rounds and planfile.on_fleet(first):
        planner.progress("note", None, "stages on a fleet are not measured here; `bench` measures them")
        return first, None
    if not rounds or first.partition.used < 2:
        return first, None
    try:
        found = _measured(first, priced, planner, params, output)
    except InputError as error:
        if params.measure is not None:
            raise
        planner.progress("note", None, error.advice("the stages were not measured: "))
        return first, None
    if found is None:
        few = "the stages were not measured: too few rounds end in time; give {measure_seconds} more"
        planner.progress("note", None, Advice(few, measure_seconds=...))
        return first, None
    return found.result, partial(describe, found=found)


def _measured(
    first: Solution, priced: Priced, planner: Planner, params: MeasureParams, output: Path
) -> Measured | None:
    from onnx_pipeline.costmodel.profiling.sessions import Runner
    from onnx_pipeline.emission.emit import emit
    from onnx_pipeline.measurement.chain import Effort, take
    from onnx_pipeline.measurement.closed_loop import ClosedLoop
    from onnx_pipeline.measurement.conditioning import COMPUTED, Prior
    from onnx_pipeline.model.inputs import make_feeds
    from onnx_pipeline.stop import Deadline

    chosen, phases = priced.params, planner.phases
    feeds = priced.feeds
    if feeds is None:
        feeds = make_feeds(priced.source, priced.dims, chosen.seed)
    runner = Runner(priced.source, feeds, priced.dims, chosen.provider, chosen.intra_op_threads)
    profiled = priced.costs.kind == "profile"
    if not profiled:  # else it ran already
        runner.try_out(chosen.profile_seconds)

    def emit_to(result: Solution, folder: Path) -> None:
        emit(priced.source, priced.infos, result, {}, folder, weights="reference")

    def repartition(graph: CostGraph) -> PartitionResult:
        with deadline.paused():  # the time limit of searches ends it
            return planner.partition_to_emit(graph)

    whole = first.graph.seconds(int(first.graph.work.sum()))
    usual = min(max(SECONDS, INFERENCES * whole * profiled), MOST_SECONDS)
    seconds = usual if params.measure_seconds is None else params.measure_seconds
    before = phases.get("partition", 0.0)
    with phases.measure("measure", planner.progress), scratch_beside(output) as scratch:
        deadline = Deadline(seconds)
        loop = ClosedLoop(
            emit_to,
            repartition,
            partial(take, runner, deadline=deadline, effort=Effort(), progress=planner.progress),
            scratch,
            operator_kinds(priced.source, first.graph),
            Prior() if profiled else COMPUTED,
            rounds=params.rounds(priced.costs.kind),
            reference_seconds=whole if profiled else None,
            stop=deadline,
            progress=planner.progress,
        )
        found = loop.run(first) if isinstance(first, PartitionResult) else loop.measure(first)
    phases["measure"] -= phases["partition"] - before
    return found


def operator_kinds(source: SourceModel, graph: CostGraph) -> IntArray:
    """Number the nodes of a cost graph by operator type, that of the first ONNX node where there are more.

    Returns
    -------
    int64[n]
    """
    import numpy as np

    from onnx_pipeline.model.roles import executable_nodes

    types = {str(node.name): (node.domain, node.op_type) for node in executable_nodes(source)}
    numbers: dict[Any, int] = {}
    kinds = [types.get(names[0] if names else "", ("", "")) for names in graph.onnx_nodes]
    return np.array([numbers.setdefault(kind, len(numbers)) for kind in kinds], dtype=np.int64)


def describe(document: Manifest, folder: Path, found: Measured) -> Manifest:
    """Return a manifest that says what was measured and what came of it; write the corrected costs.

    Parameters
    ----------
    document : Manifest
        Of the partition in the profiled costs.
    folder : Path
        Where the manifest will be written.
    found : Measured
    """
    measured, corrected = found.measurement, found.corrected
    stages = tuple(
        replace(
            stage,
            measured={
                "seconds": measured.stage_seconds[stage.index],
                "spread": measured.spread[stage.index],
                "predicted_seconds": found.predicted_seconds[stage.index],
            },
        )
        for stage in document.stages
    )
    replicas = [stage.replicas for stage in document.stages]
    summary: dict[str, Any] = {
        "outcome": found.outcome,
        "bottleneck_seconds": max(map(truediv, measured.stage_seconds, replicas)),
        "predicted_bottleneck_seconds": max(map(truediv, found.predicted_seconds, replicas)),
        "reference_seconds": measured.reference_seconds,
        "whole_seconds": measured.whole_seconds,
        "rounds": measured.rounds,
        "candidates": found.candidates,
        "scatter": measured.scatter,
        "stalled": found.stalled,
    }
    if found.faster:
        summary["faster"] = found.faster
    if corrected is not None:
        costs_json.write_graph(corrected.graph, folder / MEASURED_COSTS_NAME)
        digest = hashlib.sha256((folder / MEASURED_COSTS_NAME).read_bytes()).hexdigest()
        summary["corrected"] = {
            **planfile.certificate_fields(corrected),
            "stages": [
                planfile.cost_fields(cost, corrected.graph.ticks_per_second)
                for cost in corrected.costs[: len(stages)]
            ],
            "file": MEASURED_COSTS_NAME,
            "sha256": digest,
        }
    return replace(document, stages=stages, measurement=summary)
