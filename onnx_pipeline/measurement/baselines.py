"""The unsplit model on this machine: with one thread, with all, and as replicas beside each other."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from onnx_pipeline.errors import InputError
from onnx_pipeline.measurement.reassemble import load_whole
from onnx_pipeline.model.source import SourceModel, load
from onnx_pipeline.ort.call import Runner
from onnx_pipeline.ort.errors import reason
from onnx_pipeline.ort.providers import CPU
from onnx_pipeline.parameters import ModelLike
from onnx_pipeline.runtime import PipelineSession
from onnx_pipeline.runtime.inputs import check_feeds
from onnx_pipeline.runtime.layout import Layout
from onnx_pipeline.runtime.placement import usable_cores


def unsplit(
    session: PipelineSession, model: ModelLike | None, feeds: Mapping[str, Any]
) -> dict[str, Callable[[int], float]]:
    """Return what a pipeline is compared with: functions from a number of requests to seconds for each.

    Raises
    ------
    InputError
        If the unsplit model cannot be loaded, or is not the one that was split; from the functions, if it
        does not run.
    """
    cores, replicas = len(usable_cores()), len(Layout.of(session.manifest).workers)
    given = model if model is None or isinstance(model, str | os.PathLike) else load(model)
    file = given.path if isinstance(given, SourceModel) else given
    provider = session.get_stage_providers()[0][0] if session.get_providers() else CPU

    def runner(threads: int) -> Runner:
        whole = load_whole(
            session.directory,
            session.manifest,
            given,
            threads,
            provider,
            session.custom_ops,
            session.allow_reference,
        )
        if {value.name for value in whole.get_inputs()} - set(feeds):
            raise InputError(file, "this is not the model that was split: its inputs differ")
        return Runner(whole)

    arrays = check_feeds(session.manifest, feeds)

    def timed(run: Runner) -> Callable[[int], float]:
        taken = (*run.session.get_inputs(), *run.session.get_overridable_initializers())
        mine = {value.name: arrays[value.name] for value in taken if value.name in arrays}

        def measure(count: int) -> float:
            begin = time.perf_counter()
            try:
                for _ in range(count):
                    run(mine)
            except Exception as error:
                raise InputError(file, f"the unsplit model does not run: {reason(error)}") from error
            return (time.perf_counter() - begin) / count

        return measure

    share = max(1, cores // replicas)
    one = timed(runner(1))
    copies = [one if share == 1 and i == 0 else timed(runner(share)) for i in range(replicas)]
    return {
        "one_thread_seconds": one,
        "all_threads_seconds": timed(runner(cores)),
        "replicas_seconds": lambda count: _side_by_side(copies, count),
    }


def _side_by_side(copies: Sequence[Callable[[int], float]], count: int) -> float:
    """Let replicas share the requests; return seconds per request. What fails in one of them is raised."""
    share = -(-count // len(copies))
    with ThreadPoolExecutor(len(copies)) as threads:
        begin = time.perf_counter()
        for done in [threads.submit(copy, share) for copy in copies]:
            done.result()
        seconds = time.perf_counter() - begin
    return seconds / (share * len(copies))
