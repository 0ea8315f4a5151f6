"""Recorded kernel times, divided among the nodes of the model."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from onnx_pipeline.costmodel.profiling.held import held_bytes
from onnx_pipeline.costmodel.profiling.layout import border_costs
from onnx_pipeline.costmodel.profiling.mapping import Attribution, FloatArray, GraphNode, attribute
from onnx_pipeline.costmodel.request import CostRequest


@dataclass(frozen=True)
class Measured:
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
class Pair:
    """A plain and a profiled session that ran in turns: plain seconds, microseconds (rounds x kernels)."""

    walls: list[float]
    times: FloatArray
    kernels: list[GraphNode] = field(default_factory=list)
    weights: dict[str, int] = field(default_factory=dict)
    #: Seconds of the plain runs in which the processor did something else, where that is known.
    stalled: float = 0.0


def attributed(
    request: CostRequest, nodes: list[GraphNode], pairs: list[Pair], weights: FloatArray
) -> Measured | None:
    """Divide the kernels' times among the nodes; None if no pair of sessions recorded any."""
    rows: list[FloatArray] = []
    shares: list[float] = []
    unmapped: dict[str, float] = defaultdict(float)
    held: dict[str, int] = {}
    for pair in pairs:
        if not len(pair.times):
            continue
        times = without_overhead(pair.times, min(pair.walls) * 1e6)
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
    return Measured(walls, np.concatenate(rows), meta, borders(request, nodes, pairs), held, stalled)


def borders(request: CostRequest, nodes: list[GraphNode], pairs: list[Pair]) -> dict[str, int]:
    """Return the nanoseconds that a cut of a tensor adds, by tensor."""
    sizes = {name: info.nbytes for name, info in request.infos.items()}
    return border_costs(pairs[-1].kernels if pairs else [], nodes, sizes, request.threads)


def computed(request: CostRequest) -> FloatArray:
    """Return computed costs of the nodes, to divide fused kernels by."""
    from onnx_pipeline.costmodel.computed.analytic import analytic

    costs = analytic(request).work_ns
    return np.array([costs[str(node.name)] for node in request.nodes], dtype=np.float64)


def _held(request: CostRequest, pair: Pair, nodes: list[GraphNode], mapping: Attribution) -> dict[str, int]:
    """Return the bytes that the sessions hold of parameters, where they differ from the model's."""
    from onnx_pipeline.model.roles import parameter_values

    groups = {
        str(value.name): str(root.name) for value, root in parameter_values(request.source, request.nodes)
    }
    sizes = {name: request.infos[name].nbytes for name in set(groups.values()) if name in request.infos}
    groups = {value: name for value, name in groups.items() if name in sizes}
    return held_bytes(pair.kernels, nodes, mapping, pair.weights, groups, sizes)


def without_overhead(times: FloatArray, wall: float) -> FloatArray:
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
