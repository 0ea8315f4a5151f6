"""Emitted stages, measured the way they will run, and costs corrected by what was found.

Machines drift by more than partitions differ. So every round runs the whole model and then all stages once,
in a chain; what counts is the ratio of a stage to the whole. A stage looped alone would find its weights in
the caches and look up to a fifth too fast. Models whose weights fit into the caches as a whole run once more
before every timed run: what else is being compared must not decide what they find there.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from onnx_pipeline import manifest
from onnx_pipeline.costmodel.sessions import QUICK_SECONDS
from onnx_pipeline.execute import run_session
from onnx_pipeline.graph import NS, CostGraph, Target, bottleneck, stage_costs
from onnx_pipeline.progress import Progress, silent
from onnx_pipeline.runtime.placement import load, place
from onnx_pipeline.stop import Deadline

if TYPE_CHECKING:
    from onnx_pipeline.costmodel.sessions import Runner
    from onnx_pipeline.manifest import Manifest
    from onnx_pipeline.partition.result import PartitionResult

FloatArray = npt.NDArray[np.float64]

WARM_UP = 2
#: Sets of sessions; sessions differ by 3-4 %, so two sets tell more than one long series.
SESSIONS = 2
#: Rounds per set: at least so many, and as many more as the time allows.
FEWEST, MOST = 6, 60
#: Wall time of a measurement after which no further round begins, the sessions' loading left out.
SECONDS = 6.0
#: Share of the rounds that counts, the fastest: other work on a machine only ever adds time.
FASTEST = 0.25
#: A stage's correction is believed within these factors; beyond them something else is wrong.
LEAST_FACTOR, LARGEST_FACTOR = 0.25, 4.0


@dataclass(frozen=True)
class Measurement:
    """What the stages of one partition take.

    Attributes
    ----------
    stage_seconds : tuple of float
        Per stage, at the speed at which the whole model takes ``reference_seconds``.
    spread : tuple of float
        Interquartile range of the ratio stage / whole over its median.
    reference_seconds : float
        Time of the whole model that the stages are relative to.
    whole_seconds : float
        Time of the whole model between these stages; differs from the reference when the machine drifted.
    rounds : int
    """

    stage_seconds: tuple[float, ...]
    spread: tuple[float, ...]
    reference_seconds: float
    whole_seconds: float
    rounds: int


class Chain:
    """The stages of an output directory as sessions that run one after another.

    Raises
    ------
    InputError
        If onnxruntime cannot load a stage.
    """

    def __init__(self, directory: Path, provider: str, threads: int, custom_ops: Sequence[Path] = ()) -> None:
        document = manifest.read(directory)
        self.stages = document.stages
        specs = place(directory, document, [provider], custom_ops=custom_ops)
        self.sessions = [load(replace(spec, threads=threads)) for spec in specs]

    def run(self, feeds: Mapping[str, Any]) -> list[float]:
        """Run every stage once; return their seconds."""
        live = dict(feeds)
        seconds = []
        for stage, session in zip(self.stages, self.sessions, strict=True):
            names = [port.name for port in stage.outputs]
            inputs = {port.name: live[port.name] for port in stage.inputs}
            start = time.perf_counter()
            values = run_session(session, names, inputs)
            seconds.append(time.perf_counter() - start)
            live.update(zip(names, values, strict=True))
        return seconds


def measure(
    runner: Runner,
    directories: Sequence[Path],
    reference_seconds: float | None = None,
    *,
    seconds: float = SECONDS,
    progress: Progress = silent,
) -> list[Measurement]:
    """Measure the stages of several splits of one model, all in the same rounds.

    Parameters
    ----------
    runner : Runner
        Of the whole model, with the feeds.
    directories : sequence of Path
        Outputs of ``emit``.
    reference_seconds : float, optional
        What the whole model counts as; its own time in these rounds by default.
    seconds : float
        Wall time of the rounds, beyond which only the fewest are run.
    progress : Progress

    Raises
    ------
    InputError
        If onnxruntime cannot load or run the model or a stage.
    """
    from onnx_pipeline.shapes import explain_failure

    wholes: list[FloatArray] = []
    chains: list[list[FloatArray]] = [[] for _ in directories]
    for _ in range(SESSIONS):
        whole = runner.session()
        libraries = runner.source.custom_ops
        stages = [Chain(each, runner.provider, runner.threads, libraries) for each in directories]
        times: list[float] = []
        rows: list[list[list[float]]] = [[] for _ in directories]
        deadline = Deadline(seconds / SESSIONS)
        quick = False
        for done in range(WARM_UP + MOST):
            if done >= WARM_UP + FEWEST and not deadline.remaining:
                break
            if quick:
                runner.run(whole)
            start = time.perf_counter()
            runner.run(whole)
            spent = time.perf_counter() - start
            quick = spent < QUICK_SECONDS
            try:
                each = [[chain.run(runner.feeds) for _ in range(1 + quick)][-1] for chain in stages]
            except Exception as error:
                raise explain_failure(runner.source, runner.dims, error) from error
            if done >= WARM_UP:
                times.append(spent)
                for row, chain_times in zip(rows, each, strict=True):
                    row.append(chain_times)
            progress("measure", None, f"round {done + 1}")
        wholes.append(np.array(times))
        for kept, row in zip(chains, rows, strict=True):
            kept.append(np.array(row, dtype=np.float64))
    return [_summarise(wholes, chain, reference_seconds) for chain in chains]


def _summarise(
    wholes: Sequence[FloatArray], stages: Sequence[FloatArray], reference: float | None
) -> Measurement:
    """Divide what the chain takes relative to the whole among its stages, per set of sessions.

    On a busy machine the fastest rounds of something short are less disturbed than those of something long.
    So the chain is compared with the whole, which takes about as long, and stages only with each other.
    """
    typical = float(np.mean([_fast(whole) for whole in wholes]))
    shares = np.mean([_shares(whole, stage) for whole, stage in zip(wholes, stages, strict=True)], axis=0)
    ratios = np.concatenate(
        [stage / whole[:, None] for whole, stage in zip(wholes, stages, strict=True)], axis=0
    )
    low, mid, high = np.quantile(ratios, [0.25, 0.5, 0.75], axis=0)
    reference = typical if reference is None else reference
    return Measurement(
        tuple(float(share) * reference for share in shares),
        tuple(float(x) for x in (high - low) / np.maximum(mid, 1e-12)),
        reference,
        typical,
        len(ratios),
    )


def _shares(whole: FloatArray, stages: FloatArray) -> FloatArray:
    """Return the stages' times in units of the whole."""
    each: FloatArray = _fast(stages)
    shares: FloatArray = each / each.sum() * _fast(stages.sum(axis=1)) / _fast(whole)
    return shares


def _fast(times: FloatArray) -> Any:
    """Mean of the fastest rounds."""
    return np.sort(times, axis=0)[: math.ceil(len(times) * FASTEST)].mean(axis=0)


def execution_ns(graph: CostGraph, stage_of: Sequence[int] | npt.NDArray[np.int64], stages: int) -> list[int]:
    """Predict what a stage computes for: its work and the changes of layout at its borders.

    The rest of a stage's cost, transfers and overheads, is the device's and happens between sessions.
    """
    costs = stage_costs(replace(graph, net_time=None), Target(), stage_of, stages)
    return [cost.work + cost.input + cost.output for cost in costs]


def correct(graph: CostGraph, stage_of: npt.NDArray[np.int64], measured: Measurement) -> CostGraph:
    """Scale the work of every stage's nodes so that its prediction is the measurement.

    Returns
    -------
    CostGraph
        ``meta["corrections"]`` counts how often this was done.
    """
    work = graph.work.copy()
    stages = len(measured.stage_seconds)
    predicted = execution_ns(graph, stage_of, stages)
    for s, seconds in enumerate(measured.stage_seconds):
        inside = np.flatnonzero(stage_of == s)
        own = int(graph.work[inside].sum())
        if not own:
            continue
        border = predicted[s] - own
        factor = min(max((seconds * NS - border) / own, LEAST_FACTOR), LARGEST_FACTOR)
        edges = np.rint(np.concatenate([[0.0], np.cumsum(graph.work[inside])]) * factor)
        work[inside] = np.diff(edges).astype(np.int64)
    corrections = int(graph.meta.get("corrections", 0)) + 1
    return replace(graph, work=work, meta={**graph.meta, "corrections": corrections})


@dataclass(frozen=True, eq=False)
class Measured:
    """A partition with its measurement and what was predicted before it.

    Attributes
    ----------
    result : PartitionResult
        Its graph has the corrected costs; its certificate refers to them.
    measurement : Measurement
        Of this partition.
    predicted_seconds : tuple of float
        Execution time per stage by the costs as they were before this partition was measured.
    candidates : int
        Partitions that were measured.
    """

    result: PartitionResult
    measurement: Measurement
    predicted_seconds: tuple[float, ...]
    candidates: int


@dataclass(frozen=True, eq=False)
class _Candidate:
    result: PartitionResult
    directory: Path
    predicted: tuple[float, ...]

    def total(self, measured: Measurement) -> float:
        """Return the bottleneck: measured execution plus the transfers and overheads of the device."""
        execution = execution_ns(self.result.graph, self.result.stage_of, self.result.stages)
        return max(
            seconds + (cost.total - own) / NS
            for seconds, cost, own in zip(measured.stage_seconds, self.result.costs, execution, strict=False)
        )


def closed_loop(
    first: PartitionResult,
    runner: Runner,
    emit_to: Callable[[PartitionResult, Path], object],
    repartition: Callable[[CostGraph], PartitionResult],
    scratch: Path,
    *,
    rounds: int = 1,
    reference_seconds: float | None = None,
    progress: Progress = silent,
) -> Measured:
    """Measure, correct and partition again; return the best measured partition.

    Parameters
    ----------
    first : PartitionResult
    runner : Runner
        Of the whole model, with the feeds.
    emit_to : callable
        Writes a partition's stages to a directory.
    repartition : callable
        Partitions a cost graph with corrected work.
    scratch : Path
        Existing folder for the candidates' files.
    rounds : int
        How often to correct, at least 1.
    reference_seconds : float, optional
        As in :func:`measure`.
    progress : Progress
    """
    measured: list[tuple[_Candidate, Measurement]] = []
    current = first
    for index in range(rounds + 1):
        candidate = _Candidate(current, scratch / f"candidate{index}", _predicted(current))
        emit_to(current, candidate.directory)
        rivals = [candidate]
        if measured:  # the best so far runs in the same rounds: only then they can be compared
            rivals.append(min(measured, key=lambda pair: pair[0].total(pair[1]))[0])
        found = measure(runner, [rival.directory for rival in rivals], reference_seconds, progress=progress)
        for rival, times in zip(rivals, found, strict=True):
            measured = [pair for pair in measured if pair[0] is not rival]
            measured.append((rival, times))
        if index == rounds:
            break
        following = repartition(correct(current.graph, current.stage_of, found[0]))
        known = {pair[0].result.stage_of.tobytes() for pair in measured}
        current = following
        if following.stage_of.tobytes() in known:
            break
    finalists = measured[-2:] if len(measured) > 1 else measured
    best, measurement = min(finalists, key=lambda pair: pair[0].total(pair[1]))
    upper = bottleneck(current.graph, current.target, best.result.stage_of, current.stages)
    result = replace(current, stage_of=best.result.stage_of, upper_ns=upper)
    return Measured(result, measurement, best.predicted, len(measured))


def _predicted(result: PartitionResult) -> tuple[float, ...]:
    return tuple(ns / NS for ns in execution_ns(result.graph, result.stage_of, result.used))


def describe(document: Manifest, found: Measured) -> Manifest:
    """Return a manifest with predicted and measured seconds and spread of every stage."""
    measured = found.measurement
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
    summary = {
        "bottleneck_seconds": max(measured.stage_seconds),
        "predicted_bottleneck_seconds": max(found.predicted_seconds),
        "reference_seconds": measured.reference_seconds,
        "whole_seconds": measured.whole_seconds,
        "rounds": measured.rounds,
        "candidates": found.candidates,
    }
    return replace(document, stages=stages, measurement=summary)
