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
    from onnx_pipeline.costmodel.profiling.sessions import Clock, Runner

FloatArray = npt.NDArray[np.float64]

#: Rounds that do not count; where a round takes longer than this many seconds, one is enough.
WARM_UP, SLOW_SECONDS = 2, 0.1
#: Sets of sessions; sessions differ by 3-4 %, so two sets tell more than one long series.
SESSIONS = 2
#: Wall time of a measurement after which no further round begins.
SECONDS = 6.0
#: Share of the rounds that counts, the fastest: other work on a machine only ever adds time.
FASTEST = 0.25
#: How much faster than the reference the whole model may run before the reference counts as disturbed.
TOLERANCE = 0.15
#: Relative standard error of a stage's time that more rounds of the same sessions do not reduce: the root
#: mean square error of the closed loop's predictions in docs/fidelity.csv, measured again by other sessions.
SESSION_NOISE = 0.01
#: Interquartile range of a normal distribution in standard deviations.
_QUARTILES = 1.349


@dataclass(frozen=True)
class Effort:
    """How much one set of sessions measures.

    Attributes
    ----------
    fewest : int
        Rounds whatever the time.
    enough, most : int
        Rounds that are enough once the set has taken its seconds, and the most of them before that.
    seconds : float
        What a set takes, where rounds are so short that many fit.
    """

    fewest: int = 0
    enough: int = 6
    most: int = 24
    seconds: float = 0.4


#: A set that measures until the time is up.
LONG = Effort(6, 60, 60)


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
    rounds, sets : int
        Rounds in all, and the sets of sessions that made them.
    """

    stage_seconds: tuple[float, ...]
    spread: tuple[float, ...]
    reference_seconds: float
    whole_seconds: float
    rounds: int
    sets: int = 1

    @property
    def scatter(self) -> float:
        """Median spread of the stages."""
        return float(np.median(self.spread))

    @property
    def noise(self) -> FloatArray:
        """Relative standard error of every stage's seconds."""
        of_rounds = np.array(self.spread) / _QUARTILES / math.sqrt(max(self.rounds, 1))
        noise: FloatArray = np.hypot(of_rounds, SESSION_NOISE / math.sqrt(self.sets))
        return noise


@dataclass(frozen=True, eq=False)
class Rows:
    """One partition in one set of sessions.

    Attributes
    ----------
    whole : float64[rounds]
        Seconds of the whole model.
    stages : float64[rounds, k]
        Seconds of the stages, in the same rounds.
    stalled : float
        Time in which the processor did something else, relative to that of all runs, where it is known.
    """

    whole: FloatArray
    stages: FloatArray
    stalled: float = 0.0


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

    def run(self, feeds: Mapping[str, Any], clock: Clock = time.perf_counter) -> list[float]:
        """Run every stage once; return their seconds by this clock."""
        live = dict(feeds)
        seconds = []
        for stage, session in zip(self.stages, self.sessions, strict=True):
            names = [port.name for port in stage.outputs]
            inputs = {port.name: live[port.name] for port in stage.inputs}
            inputs |= {name: live[name] for name in stage.defaults if name in live}
            start = clock()
            values = run_session(session, names, inputs)
            seconds.append(clock() - start)
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
        Wall time, beyond which only the fewest rounds are run.
    progress : Progress

    Raises
    ------
    InputError
        If onnxruntime cannot load or run the model or a stage.
    """
    kept: list[list[Rows]] = [[] for _ in directories]
    for _ in range(SESSIONS):
        found = take(runner, directories, Deadline(seconds / SESSIONS), LONG, progress=progress)
        for sets, rows in zip(kept, found, strict=True):
            sets.append(rows)
    reference = believed(kept[0], reference_seconds, progress)
    return [summarise(sets, reference) for sets in kept]


def take(
    runner: Runner,
    directories: Sequence[Path],
    deadline: Deadline,
    effort: Effort,
    *,
    whole: bool = True,
    progress: Progress = silent,
) -> list[Rows]:
    """Run the whole model and every partition's stages in turns, in one set of fresh sessions.

    Parameters
    ----------
    runner : Runner
    directories : sequence of Path
    deadline : Deadline
        No round begins that would not end before it, judged by the one before.
    effort : Effort
    whole : bool
        Whether the whole model runs, too; else its times are those of the first partition's stages together.
    progress : Progress

    Returns
    -------
    list of Rows
        One per directory; without rounds where the time is up too soon.

    Raises
    ------
    InputError
        If onnxruntime cannot load or run the model or a stage.
    """
    session = runner.session() if whole else None
    libraries = runner.source.custom_ops
    chains = [Chain(each, runner.provider, runner.threads, libraries) for each in directories]
    times: list[float] = []
    rows: list[list[list[float]]] = [[] for _ in directories]
    warm_up, quick, last = WARM_UP, False, 0.0
    enough, idle, busy = Deadline(effort.seconds), 0.0, 0.0
    for done in range(WARM_UP + effort.most):
        if len(times) >= effort.fewest and deadline.remaining <= last:
            break
        if len(times) >= effort.enough and enough():
            break
        began, own = time.monotonic(), runner.clock()
        spent, each = _round(runner, session, chains, quick)
        quick = spent < QUICK_SECONDS
        last, own = time.monotonic() - began, runner.clock() - own
        idle, busy = idle + max(0.0, last - own), busy + own
        if done >= warm_up:
            times.append(spent)
            for row, chain_times in zip(rows, each, strict=True):
                row.append(chain_times)
        elif last > SLOW_SECONDS:
            warm_up = 1
        progress("measure", None, f"round {done + 1}")
    stalled = idle / max(busy, 1e-9)
    return [Rows(np.array(times), np.array(row, dtype=np.float64), stalled) for row in rows]


def _round(
    runner: Runner, session: Any | None, chains: Sequence[Chain], quick: bool
) -> tuple[float, list[list[float]]]:
    """Run the whole model, where there is a session, and all chains; return what they took."""
    from onnx_pipeline.model.running import explain_failure

    if session is not None:
        for _ in range(1 + quick):
            spent = runner.timed(session)
    try:
        each = [[chain.run(runner.feeds, runner.clock) for _ in range(1 + quick)][-1] for chain in chains]
    except Exception as error:
        raise explain_failure(runner.source, runner.dims, error) from error
    return (sum(each[0]) if session is None else spent), each


def believed(sets: Sequence[Rows], reference: float | None, progress: Progress = silent) -> float | None:
    """Return what the whole model counts as: the reference, unless even usual rounds are faster."""
    usual = float(np.mean([np.median(rows.whole) for rows in sets]))
    if reference is None or usual * (1 + TOLERANCE) >= reference:
        return reference
    took = f"{format_seconds(usual)}, not {format_seconds(reference)} as in the profile"
    progress("note", None, f"the whole model takes {took} of a busier machine: costs are scaled down")
    return usual


def summarise(sets: Sequence[Rows], reference: float | None) -> Measurement:
    """Divide what the chain takes relative to the whole among its stages, per set of sessions.

    On a busy machine the fastest rounds of something short are less disturbed than those of something long.
    So the chain is compared with the whole, which takes about as long, and stages only with each other.
    """
    typical = float(np.mean([_fast(rows.whole) for rows in sets]))
    shares = np.mean([_shares(rows) for rows in sets], axis=0)
    ratios = np.concatenate([rows.stages / rows.whole[:, None] for rows in sets], axis=0)
    low, mid, high = np.quantile(ratios, [0.25, 0.5, 0.75], axis=0)
    reference = typical if reference is None else reference
    return Measurement(
        tuple(float(share) * reference for share in shares),
        tuple(float(x) for x in (high - low) / np.maximum(mid, 1e-12)),
        reference,
        typical,
        len(ratios),
        len(sets),
    )


def _shares(rows: Rows) -> FloatArray:
    """Return the stages' times in units of the whole."""
    each: FloatArray = _fast(rows.stages)
    shares: FloatArray = each / each.sum() * _fast(rows.stages.sum(axis=1)) / _fast(rows.whole)
    return shares


def _fast(times: FloatArray) -> Any:
    """Mean of the fastest rounds."""
    return np.sort(times, axis=0)[: math.ceil(len(times) * FASTEST)].mean(axis=0)
