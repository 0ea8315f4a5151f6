"""The closed loop of ``split``: a partition in, the best measured one out."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from onnx_pipeline.errors import InputError
from onnx_pipeline.files.atomic import scratch_beside

if TYPE_CHECKING:
    from onnx_pipeline.manifest import Manifest
    from onnx_pipeline.measurement.closed_loop import Measured
    from onnx_pipeline.parameters import MeasureParams
    from onnx_pipeline.partition.result import PartitionResult
    from onnx_pipeline.planner import Planner
    from onnx_pipeline.price import Priced

#: Adds to a manifest what is known from measurements.
Describe = Callable[["Manifest"], "Manifest"]


def improve(
    first: PartitionResult, priced: Priced, planner: Planner, params: MeasureParams, output: Path
) -> tuple[PartitionResult, Describe | None]:
    """Measure the stages, correct the costs and partition again, as often as the parameters say.

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
    PartitionResult
        The best measured one; ``first`` where nothing was measured.
    callable or None
        Adds the measurements to a manifest.

    Raises
    ------
    InputError
        If stages do not run here, and measuring them was asked for.
    """
    from onnx_pipeline.measurement.closed_loop import describe

    rounds = params.rounds(priced.costs.kind)
    if not rounds or first.used < 2:
        return first, None
    try:
        found = _closed_loop(first, priced, planner, rounds, output)
    except InputError as error:
        if params.measure is not None:
            raise
        planner.progress("note", None, error.advice("the stages were not measured: "))
        return first, None
    return found.result, partial(describe, found=found)


def _closed_loop(
    first: PartitionResult, priced: Priced, planner: Planner, rounds: int, output: Path
) -> Measured:
    from onnx_pipeline.costmodel.profiling.sessions import Runner
    from onnx_pipeline.emission.emit import emit
    from onnx_pipeline.measurement.closed_loop import closed_loop
    from onnx_pipeline.model.inputs import make_feeds

    params, phases = priced.params, planner.phases
    feeds = priced.feeds
    if feeds is None:
        feeds = make_feeds(priced.source, priced.dims, params.seed)

    runner = Runner(priced.source, feeds, priced.dims, params.provider)
    if priced.costs.kind != "profile":  # then it ran already
        runner.try_out(params.profile_seconds)

    def emit_to(result: PartitionResult, folder: Path) -> None:
        emit(priced.source, priced.infos, result, {}, folder, weights="reference")

    profiled = priced.costs.kind == "profile"
    before = phases.get("partition", 0.0)
    with phases.measure("measure", planner.progress), scratch_beside(output) as scratch:
        found = closed_loop(
            first,
            runner,
            emit_to,
            planner.partition_to_emit,
            scratch,
            rounds=rounds,
            reference_seconds=first.graph.seconds(int(first.graph.work.sum())) if profiled else None,
            progress=planner.progress,
        )
    phases["measure"] -= phases["partition"] - before
    return found
