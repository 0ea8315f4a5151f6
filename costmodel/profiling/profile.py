"""Measured costs: onnxruntime's kernel times, attributed to the original nodes.

Kernels are timed in a session with all optimisations, as the stages will run. A session without
optimisations only tells how to divide a fused kernel among its nodes. Profiling slows a run down, so the
sum is scaled to the time of a plain session. Machines drift, so the two run in turns. Nodes are compared by
their fastest rounds, which repeat best on a machine with other work to do; the scale is the median of plain
runs, which is what a user gets.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from onnx_pipeline.costmodel.profiling.held import held_bytes
from onnx_pipeline.costmodel.profiling.layout import border_costs
from onnx_pipeline.costmodel.profiling.mapping import (
    Attribution,
    FloatArray,
    GraphNode,
    attribute,
    original_nodes,
)
from onnx_pipeline.costmodel.profiling.opaque import measure_units
from onnx_pipeline.costmodel.profiling.sessions import QUICK_SECONDS, Runner, Traced
from onnx_pipeline.costmodel.request import CostRequest, NodeCosts
from onnx_pipeline.errors import Advice, InputError, UsageError
from onnx_pipeline.files.scratch import scratch_folder
from onnx_pipeline.graph.ticks import NS
from onnx_pipeline.ort.providers import CPU
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
FEWEST, MOST, PAIR_SECONDS = 10, 60, 1.2


def profile(request: CostRequest) -> NodeCosts:
    """Measure the model with onnxruntime; the sum over all nodes is the time of one inference.

    Raises
    ------
    UsageError
        If the provider is not available or a count is not positive.
    InputError
        If onnxruntime cannot run the model.
    """
    if _fewest(request) < 1 or request.threads < 1:
        raise UsageError("profiling needs at least one run and one thread")
    from onnx_pipeline.model.inputs import make_feeds

    began = time.monotonic()
    feeds = request.feeds
    if feeds is None:
        feeds = make_feeds(request.source, request.dims, request.seed)
    if not request.nodes:
        return NodeCosts("profile", {}, {"provider": request.provider, "dims": dict(request.dims)})
    runner = Runner(request.source, feeds, request.dims, request.provider, request.threads)
    nodes = original_nodes(request.nodes)
    with scratch_folder() as folder:
        measured = _measure(request, runner, nodes, folder)
    request.progress("profile", 1.0, f"{len(measured.wall)} rounds")
    names = [node.name for node in nodes]
    work, spread = _summarise(measured)
    import onnxruntime

    meta: dict[str, Any] = {
        "provider": request.provider,
        "threads": request.threads,
        "runs": len(measured.wall),
        "seed": request.seed,
        "dims": dict(request.dims),
        "wall_seconds_per_inference": float(np.median(measured.wall)),
        "wall_seconds_min": float(measured.wall.min()),
        "noise": None if measured.noise is None else round(measured.noise, 4),
        "spread": {"median": float(np.median(spread)), "p90": float(np.quantile(spread, 0.9))},
        "profile_seconds": round(time.monotonic() - began, 3),
        "onnxruntime": onnxruntime.__version__,
        **measured.meta,
    }
    return NodeCosts(
        "profile",
        dict(zip(names, work, strict=True)),
        meta,
        spread=dict(zip(names, spread.tolist(), strict=True)),
        border_ns=measured.border_ns,
        parameter_bytes=measured.parameter_bytes,
    )


@dataclass(frozen=True)
class _Measured:
    """Rounds of both kinds: seconds of plain runs, microseconds of nodes (rounds x nodes)."""

    wall: FloatArray
    nodes: FloatArray
    meta: dict[str, Any]
    border_ns: dict[str, int] = field(default_factory=dict)
    parameter_bytes: dict[str, int] = field(default_factory=dict)
    stalled: float = 0.0

    @property
    def noise(self) -> float | None:
        """What other work on the machine added to a run: by its scatter, or by waits for a processor.

        One run alone tells neither.
        """
        if len(self.wall) < 2 and not self.stalled:
            return None
        scatter = float(np.median(self.wall) / max(np.quantile(self.wall, 0.1), 1e-9)) - 1.0
        return max(scatter, self.stalled)


@dataclass(frozen=True)
class _Pair:
    """A plain and a profiled session that ran in turns: plain seconds, microseconds (rounds x kernels)."""

    walls: list[float]
    times: FloatArray
    kernels: list[GraphNode] = field(default_factory=list)
    weights: dict[str, int] = field(default_factory=dict)
    #: Seconds of the plain runs in which the processor did something else, where that is known.
    stalled: float = 0.0


def _measure(request: CostRequest, runner: Runner, nodes: list[GraphNode], folder: Path) -> _Measured:
    seconds = SECONDS_PER_RUN * _fewest(request) if request.seconds is None else request.seconds
    deadline = Deadline(seconds)
    brief = None if request.seconds is None else _brief(runner, folder, deadline)
    if brief is not None:
        found = _attributed(request, nodes, [brief], _computed(request))
        if found is not None:
            return found
    unfused, placed = _unfused(request, runner, nodes, folder, deadline)
    weights = unfused.min(axis=0) if len(unfused) else np.ones(len(nodes))
    pairs: list[_Pair] = []
    for index in range(SESSIONS):
        if index and deadline.remaining <= deadline.seconds / 2:
            break  # slow models do without the second pair of sessions
        traced = runner.traced(folder / f"fused{index}", optimise=True)
        if traced is None and not len(unfused):
            break
        pairs.append(_paired(request, runner, traced, deadline, index))
    found = _attributed(request, nodes, pairs, weights)
    if found is not None:
        return found
    if len(unfused):
        walls, units, share = [wall for pair in pairs for wall in pair.walls], unfused, placed
        meta: dict[str, Any] = {
            "method": "unoptimised kernels, because the optimised ones could not be mapped"
        }
    else:  # No saved model: the provider compiles whole subgraphs.
        walls, units, share, meta = measure_units(request, runner, nodes, folder, _fewest(request), deadline)
    if not len(units):
        raise InputError(
            request.source.path,
            f"{request.provider} reports no kernels that match the model's nodes",
            Advice("use {cost_model} or a file", cost_model="analytic"),
        )
    meta |= {"mapped_share": share, "unmapped_kernels": {}}
    return _Measured(np.array(walls), units, meta, _borders(request, nodes, pairs))


def _brief(runner: Runner, folder: Path, deadline: Deadline) -> _Pair | None:
    """Measure a model that is slow for its time: as many runs as fit, one at least; None for other models."""
    traced = runner.traced(folder / "brief", optimise=True)
    if traced is None:
        return None
    alone = runner.timed(traced.session)
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
    return _Pair(walls[1:] or walls or [alone], times, kernels, weights)


def _computed(request: CostRequest) -> FloatArray:
    """Return computed costs of the nodes, to divide fused kernels by."""
    from onnx_pipeline.costmodel.computed.analytic import analytic

    costs = analytic(request).work_ns
    return np.array([costs[str(node.name)] for node in request.nodes], dtype=np.float64)


def _attributed(
    request: CostRequest, nodes: list[GraphNode], pairs: list[_Pair], weights: FloatArray
) -> _Measured | None:
    """Divide the kernels' times among the nodes; None if no pair of sessions recorded any."""
    rows: list[FloatArray] = []
    shares: list[float] = []
    unmapped: dict[str, float] = defaultdict(float)
    held: dict[str, int] = {}
    for pair in pairs:
        if not len(pair.times):
            continue
        times = _without_overhead(pair.times, min(pair.walls) * 1e6)
        mapping = attribute(pair.kernels, nodes, weights)
        rows.append(mapping.apply(times))
        shares.append(mapping.placed_share(times))
        for kernel, share in _unplaced(mapping, pair.kernels, times):
            unmapped[kernel] += share
        held = _held(request, pair, nodes, mapping)
    if not rows:
        return None
    walls = np.array([wall for pair in pairs for wall in pair.walls])
    meta: dict[str, Any] = {
        "method": "optimised kernels",
        "kernels": len(pairs[-1].kernels),
        "mapped_share": float(np.mean(shares)),
        "unmapped_kernels": {op: share / len(shares) for op, share in sorted(unmapped.items())},
    }
    stalled = sum(pair.stalled for pair in pairs) / max(float(walls.sum()), 1e-9)
    return _Measured(walls, np.concatenate(rows), meta, _borders(request, nodes, pairs), held, stalled)


def _borders(request: CostRequest, nodes: list[GraphNode], pairs: list[_Pair]) -> dict[str, int]:
    sizes = {name: info.nbytes for name, info in request.infos.items()}
    return border_costs(pairs[-1].kernels if pairs else [], nodes, sizes, request.threads)


def _held(request: CostRequest, pair: _Pair, nodes: list[GraphNode], mapping: Attribution) -> dict[str, int]:
    """Return the bytes that the sessions hold of parameters, where they differ from the model's."""
    from onnx_pipeline.model.roles import parameter_values

    groups = {
        str(value.name): str(root.name) for value, root in parameter_values(request.source, request.nodes)
    }
    sizes = {name: request.infos[name].nbytes for name in set(groups.values()) if name in request.infos}
    groups = {value: name for value, name in groups.items() if name in sizes}
    return held_bytes(pair.kernels, nodes, mapping, pair.weights, groups, sizes)


def _unfused(
    request: CostRequest, runner: Runner, nodes: list[GraphNode], folder: Path, deadline: Deadline
) -> tuple[FloatArray, float]:
    """Time the original nodes without optimisations (rounds x nodes) and say which share was placed."""
    traced = runner.traced(folder / "unfused", optimise=False)
    if traced is None:
        return np.zeros((0, len(nodes))), 0.0
    for done in range(WARM_UP + max(1, _fewest(request) // 2)):
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
) -> _Pair:
    """Run a plain and a profiled session in turns."""
    plain = runner.session()
    for _ in range(WARM_UP):
        if traced is not None:
            runner.run(traced.session)
        runner.run(plain)
    walls: list[float] = []
    busy = 0.0
    quick = runner.timed(plain) < QUICK_SECONDS
    enough = Deadline(PAIR_SECONDS)
    fewest = _fewest(request)
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
        began = time.thread_time()
        walls.append(runner.timed(plain))
        busy += time.thread_time() - began
        part = (index + min(1.0, (done + 1) / fewest)) / SESSIONS
        request.progress("profile", part, f"{walls[-1] * 1e3:.3g} ms per inference")
    if traced is None:
        return _Pair(walls, np.zeros((0, 0)))
    kernels, weights = traced.saved()
    times = traced.finish(kernels, WARM_UP)
    # On one thread of the processor a run computes all the time, or something else did.
    alone = request.threads == 1 and request.provider == CPU
    stalled = max(0.0, sum(walls) - busy) if alone else 0.0
    return _Pair(walls, times[1::2] if quick else times, kernels, weights, stalled)


def _fewest(request: CostRequest) -> int:
    return FEWEST if request.runs is None else request.runs


def _without_overhead(times: FloatArray, wall: float) -> FloatArray:
    """Take from every kernel what recording it costs.

    Recording happens inside the recorded interval: 4-7 microseconds for each kernel, however small. The plain
    run (``wall`` microseconds) tells how much that is in total, and no kernel can hold more than the smallest
    ones take.
    """
    best = times.min(axis=0)
    if not best.size:
        return times
    overhead = min((best.sum() - wall) / best.size, float(np.quantile(best, 0.05)))
    corrected: FloatArray = np.maximum(times - max(overhead, 0.0), 0.1 * times)
    return corrected


def _unplaced(
    mapping: Attribution, kernels: list[GraphNode], times: FloatArray
) -> Iterator[tuple[str, float]]:
    """Yield operator and share of the kernel time of every kernel that belongs to no original node."""
    total = float(times.sum()) or 1.0
    for kernel, group, spent in zip(kernels, mapping.group, times.sum(axis=0), strict=True):
        if group < 0:
            yield kernel.op, float(spent) / total


def _summarise(measured: _Measured) -> tuple[list[int], FloatArray]:
    """Return integer nanoseconds per node that sum to the median wall time, and relative scatters."""
    total = round(float(np.median(measured.wall)) * NS)
    rows = measured.nodes
    best = rows.min(axis=0)
    if best.sum() <= 0:  # too short for the clock
        best = np.ones(rows.shape[1])
    # Rounding the running sum instead of each node keeps the total exact.
    edges = np.rint(np.concatenate([[0.0], np.cumsum(best)]) / best.sum() * total).astype(np.int64)
    # Scatter is that of the share in a round: a slow round is no reason to distrust a node.
    sums = rows.sum(axis=1, keepdims=True)
    low, mid, high = np.quantile(rows / np.where(sums > 0, sums, 1.0), [0.25, 0.5, 0.75], axis=0)
    spread = np.divide(high - low, mid, out=np.zeros_like(mid), where=mid > 0)
    return [int(x) for x in np.diff(edges)], spread
