"""Emitted stages, measured the way they will run.

Machines drift by more than partitions differ. So every round runs the whole model and then all stages once,
in a chain; what counts is the ratio of a stage to the whole. A stage looped alone would find its weights in
the caches and look up to a fifth too fast. Models whose weights fit into the caches as a whole run once more
before every timed run: what else is being compared must not decide what they find there.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from onnx_pipeline import manifest
from onnx_pipeline.costmodel.profiling.sessions import QUICK_SECONDS
from onnx_pipeline.figures import format_seconds
from onnx_pipeline.ort.call import run_session
from onnx_pipeline.progress import Progress, silent
from onnx_pipeline.runtime.placement import load, place
from onnx_pipeline.stop import Deadline

if TYPE_CHECKING:
    from onnx_pipeline.costmodel.profiling.sessions import Runner

FloatArray = npt.NDArray[np.float64]

WARM_UP = 2
#: Sets of sessions; sessions differ by 3-4 %, so two sets tell more than one long series.
SESSIONS = 2
#: Rounds per set: at least so many, and as many more as the time allows.
FEWEST, MOST = 6, 60
#: Rounds of the only set of a model whose first round takes all the time of a set.
SLOW_ROUNDS = 2
#: Wall time of a measurement after which no further round begins, the sessions' loading left out.
SECONDS = 6.0
#: Share of the rounds that counts, the fastest: other work on a machine only ever adds time.
FASTEST = 0.25
#: How much faster than the reference the whole model may run before the reference counts as disturbed.
TOLERANCE = 0.15


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
        specs = place(directory, document, [provider], custom_ops=custom_ops, allow_reference="/")
        self.sessions = [
            load(replace(spec, settings=replace(spec.settings, threads=threads))) for spec in specs
        ]

    def run(self, feeds: Mapping[str, Any]) -> list[float]:
        """Run every stage once; return their seconds."""
        live = dict(feeds)
        seconds = []
        for stage, session in zip(self.stages, self.sessions, strict=True):
            names = [port.name for port in stage.outputs]
            inputs = {port.name: live[port.name] for port in stage.inputs}
            inputs |= {name: live[name] for name in stage.defaults if name in live}
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
        What the whole model counts as; its own time in these rounds by default, and where it runs faster
        than that beyond all scatter: other work only ever adds time, so the reference was disturbed.
    seconds : float
        Wall time of the rounds, beyond which only the fewest are run, and of a slow model next to none.
    progress : Progress

    Raises
    ------
    InputError
        If onnxruntime cannot load or run the model or a stage.
    """
    wholes: list[FloatArray] = []
    chains: list[list[FloatArray]] = [[] for _ in directories]
    for _ in range(SESSIONS):
        times, rows = _set(runner, directories, seconds / SESSIONS, progress)
        wholes.append(times)
        for kept, row in zip(chains, rows, strict=True):
            kept.append(row)
        if len(times) < FEWEST:
            break
    reference = _believed(wholes, reference_seconds, progress)
    return [_summarise(wholes, chain, reference) for chain in chains]


def _set(
    runner: Runner, directories: Sequence[Path], seconds: float, progress: Progress
) -> tuple[FloatArray, list[FloatArray]]:
    """Measure one set of sessions: seconds of the whole by round, and of each split's stages."""
    from onnx_pipeline.model.running import explain_failure

    whole = runner.session()
    libraries = runner.source.custom_ops
    chains = [Chain(each, runner.provider, runner.threads, libraries) for each in directories]
    times: list[float] = []
    rows: list[list[list[float]]] = [[] for _ in directories]
    deadline = Deadline(seconds)
    warm_up, fewest, quick = WARM_UP, FEWEST, False
    for done in range(WARM_UP + MOST):
        if done >= warm_up + fewest and deadline():
            break
        if quick:
            runner.run(whole)
        start = time.perf_counter()
        runner.run(whole)
        spent = time.perf_counter() - start
        quick = spent < QUICK_SECONDS
        try:
            each = [[chain.run(runner.feeds) for _ in range(1 + quick)][-1] for chain in chains]
        except Exception as error:
            raise explain_failure(runner.source, runner.dims, error) from error
        if done >= warm_up:
            times.append(spent)
            for row, chain_times in zip(rows, each, strict=True):
                row.append(chain_times)
        elif not done and deadline():
            warm_up, fewest = 1, SLOW_ROUNDS
        progress("measure", None, f"round {done + 1}")
    return np.array(times), [np.array(row, dtype=np.float64) for row in rows]


def _believed(wholes: Sequence[FloatArray], reference: float | None, progress: Progress) -> float | None:
    """Return what the whole model counts as: the reference, unless even usual rounds are faster."""
    usual = float(np.mean([np.median(whole) for whole in wholes]))
    if reference is None or usual * (1 + TOLERANCE) >= reference:
        return reference
    took = f"{format_seconds(usual)}, not {format_seconds(reference)} as in the profile"
    progress("note", None, f"the whole model takes {took} of a busier machine: costs are scaled down")
    return usual


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
