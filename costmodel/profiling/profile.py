"""Measured costs: onnxruntime's kernel times, attributed to the original nodes.

Kernels are timed in a session with all optimisations, as the stages will run. A session without
optimisations only tells how to divide a fused kernel among its nodes. Profiling slows a run down, so the
sum is scaled to the time of a plain session. Machines drift, so the two run in turns. Nodes are compared by
their fastest rounds, which repeat best on a machine with other work to do; the scale is the median of plain
runs, which is what a user gets.
"""

from __future__ import annotations

import time
from typing import Any

import numpy as np

from onnx_pipeline.costmodel.profiling.attribution import Measured
from onnx_pipeline.costmodel.profiling.fallback import left_to_cpu
from onnx_pipeline.costmodel.profiling.mapping import FloatArray, original_nodes
from onnx_pipeline.costmodel.profiling.rounds import fewest_rounds, measure
from onnx_pipeline.costmodel.profiling.sessions import Runner
from onnx_pipeline.costmodel.request import CostRequest, NodeCosts
from onnx_pipeline.errors import UsageError
from onnx_pipeline.figures import format_count
from onnx_pipeline.files.scratch import scratch_folder
from onnx_pipeline.graph.ticks import NS


def profile(request: CostRequest) -> NodeCosts:
    """Measure the model with onnxruntime; the sum over all nodes is the time of one inference.

    Raises
    ------
    UsageError
        If the provider is not available or a count is not positive.
    InputError
        If onnxruntime cannot run the model.
    """
    if fewest_rounds(request) < 1 or request.threads < 1:
        raise UsageError("profiling needs at least one run and one thread")
    from onnx_pipeline.model.inputs import make_feeds

    began = time.monotonic()
    feeds = request.feeds
    if feeds is None:
        feeds = make_feeds(request.source, request.dims, request.seed)
    if not request.nodes:
        return NodeCosts("profile", {}, {"provider": request.provider, "dims": dict(request.dims)})
    runner = Runner(
        request.source, feeds, request.dims, request.provider, request.threads, request.provider_options
    )
    runner.try_out(request.seconds)
    nodes = original_nodes(request.nodes)
    with scratch_folder() as folder:
        measured = measure(request, runner, nodes, folder)
        unsupported = left_to_cpu(request, runner, folder)
    request.progress("profile", 1.0, format_count(len(measured.wall), "round"))
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
        unsupported=unsupported,
    )


def _summarise(measured: Measured) -> tuple[list[int], FloatArray]:
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
