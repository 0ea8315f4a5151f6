"""Plain and profiled sessions of a model, run in turns within a budget of rounds and seconds."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np

from onnx_pipeline.costmodel.profiling.attribution import Measured, Pair, attributed, borders, computed
from onnx_pipeline.costmodel.profiling.mapping import FloatArray, GraphNode, attribute
from onnx_pipeline.costmodel.profiling.opaque import measure_units
from onnx_pipeline.costmodel.profiling.sessions import QUICK_SECONDS, Runner, Traced
from onnx_pipeline.costmodel.request import CostRequest
from onnx_pipeline.errors import Advice, InputError
from onnx_pipeline.figures import format_seconds
from onnx_pipeline.stop import Deadline

WARM_UP = 2
#: Rounds that are measured even when the time budget is spent.
MIN_ROUNDS = 3
#: Runs that everything together takes at least; a budget for fewer is kept by measuring less.
AMPLE = 18
SESSIONS = 2
#: Wall time per requested round that a profile may take before it stops early.
SECONDS_PER_RUN = 1.2
#: Where the number of rounds is left to the program: at least ``FEWEST``; quick models, whose rounds scatter
#: most, get as many more as fit into ``PAIR_SECONDS`` per pair of sessions, up to ``MOST``.
FEWEST, MOST, PAIR_SECONDS = 10, 60, 0.9


def measure(request: CostRequest, runner: Runner, nodes: list[GraphNode], folder: Path) -> Measured:
    """Time the model and its kernels, by the most telling method that the provider allows.

    Raises
    ------
    InputError
        If the provider reports nothing that belongs to the model's nodes, or cannot run it.
    """
    seconds = SECONDS_PER_RUN * fewest_rounds(request) if request.seconds is None else request.seconds
    deadline = Deadline(seconds)
    brief = None if request.seconds is None else _brief(runner, folder, deadline)
    if brief is not None:
        found = attributed(request, nodes, [brief], computed(request))
        if found is not None:
            return found
    unfused, placed = _unfused(request, runner, nodes, folder, deadline)
    weights = unfused.min(axis=0) if len(unfused) else np.ones(len(nodes))
    pairs: list[Pair] = []
    for index in range(SESSIONS):
        if index and deadline.remaining <= deadline.seconds / 2:
            break  # slow models do without the second pair of sessions
        traced = runner.traced(folder / f"fused{index}", optimise=True)
        if traced is None and not len(unfused):
            break
        pairs.append(_paired(request, runner, traced, deadline, index))
    found = attributed(request, nodes, pairs, weights)
    if found is not None:
        return found
    if len(unfused):
        walls, units, share = [wall for pair in pairs for wall in pair.walls], unfused, placed
        meta: dict[str, Any] = {
            "method": "unoptimised kernels, because the optimised ones could not be mapped"
        }
    else:  # No saved model: the provider compiles whole subgraphs.
        walls, units, share, meta = measure_units(
            request, runner, nodes, folder, fewest_rounds(request), deadline
        )
    if not len(units):
        raise InputError(
            request.source.path,
            f"{request.provider} reports no kernels that match the model's nodes",
            Advice("use {cost_model} or a file", cost_model="analytic"),
        )
    meta |= {"mapped_share": share, "unmapped_kernels": {}}
    return Measured(np.array(walls), units, meta, borders(request, nodes, pairs))


def _brief(runner: Runner, folder: Path, deadline: Deadline) -> Pair | None:
    """Measure a model that is slow for its time: as many runs as fit, one at least; None for other models."""
    traced = runner.traced(folder / "brief", optimise=True)
    if traced is None:
        return None
    began = deadline.remaining
    first = runner.timed(traced.session)
    alone = began - deadline.remaining
    if deadline.remaining > AMPLE * alone:
        return None
    walls: list[float] = []
    if deadline.remaining > 2 * alone:
        plain = runner.session()
        while deadline.remaining > 2 * alone:
            walls.append(runner.timed(plain))
            runner.run(traced.session)
    kernels, weights = traced.saved()
    times = traced.finish(kernels, int(bool(walls)))  # a first run is slower, where there is another
    return Pair(walls[1:] or walls or [first], times, kernels, weights)


def _unfused(
    request: CostRequest, runner: Runner, nodes: list[GraphNode], folder: Path, deadline: Deadline
) -> tuple[FloatArray, float]:
    """Time the original nodes without optimisations (rounds x nodes) and say which share was placed."""
    traced = runner.traced(folder / "unfused", optimise=False)
    if traced is None:
        return np.zeros((0, len(nodes))), 0.0
    for done in range(WARM_UP + max(1, fewest_rounds(request) // 2)):
        if done >= WARM_UP + 1 and deadline.remaining < 0.7 * deadline.seconds:
            break
        runner.run(traced.session)
        request.progress("profile", None, "unfused kernels")
    kernels, _ = traced.saved()
    times = traced.finish(kernels, WARM_UP)
    mapping = attribute(kernels, nodes, np.ones(len(nodes)))
    return mapping.apply(times), mapping.placed_share(times)


def _paired(
    request: CostRequest, runner: Runner, traced: Traced | None, deadline: Deadline, index: int
) -> Pair:
    """Run a plain and a profiled session in turns."""
    plain = runner.session()
    for _ in range(WARM_UP):
        if traced is not None:
            runner.run(traced.session)
        runner.run(plain)
    walls: list[float] = []
    spent = 0.0
    quick = runner.timed(plain) < QUICK_SECONDS
    enough = Deadline(PAIR_SECONDS)
    fewest = fewest_rounds(request)
    most = MOST if request.runs is None else request.runs
    for done in range(most):
        if done >= MIN_ROUNDS and deadline():
            break
        if done >= fewest and enough():
            break
        for _ in range(1 + quick):
            if traced is not None:
                runner.run(traced.session)
        if quick:
            runner.run(plain)
        began = time.perf_counter()
        walls.append(runner.timed(plain))
        spent += time.perf_counter() - began
        part = (index + min(1.0, (done + 1) / fewest)) / SESSIONS
        request.progress("profile", part, f"{format_seconds(walls[-1])} per inference")
    if traced is None:
        return Pair(walls, np.zeros((0, 0)))
    kernels, weights = traced.saved()
    times = traced.finish(kernels, WARM_UP)
    stalled = max(0.0, spent - sum(walls))
    return Pair(walls, times[1::2] if quick else times, kernels, weights, stalled)


def fewest_rounds(request: CostRequest) -> int:
    """Return how many rounds a profile has at least, unless its time is spent."""
    return FEWEST if request.runs is None else request.runs
