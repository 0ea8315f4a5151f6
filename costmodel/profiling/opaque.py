"""Providers that compile whole subgraphs: one kernel stands for many nodes and names none.

Such a session cannot save its optimised model. What its profile has are the nodes that run outside of the
compiled subgraphs, under their own names, and one event per subgraph. Everything else of the model is inside:
a maximal set of connected nodes that no path leaves and enters again.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from onnx_pipeline.costmodel.profiling.mapping import Attribution, FloatArray, GraphNode, shares
from onnx_pipeline.costmodel.profiling.sessions import Runner
from onnx_pipeline.costmodel.profiling.trace import KernelEvent, read_trace
from onnx_pipeline.costmodel.request import CostRequest
from onnx_pipeline.figures import format_seconds
from onnx_pipeline.stop import Deadline

_WARM_UP = 2


def measure_units(
    request: CostRequest,
    runner: Runner,
    nodes: Sequence[GraphNode],
    folder: Path,
    rounds: int,
    deadline: Deadline,
) -> tuple[list[float], FloatArray, float, dict[str, Any]]:
    """Time compiled subgraphs until ``rounds`` or the deadline; time within one is divided by computed costs.

    Returns
    -------
    list of float
        Seconds of plain runs.
    float64[rounds, nodes]
        Microseconds of the nodes; no rows if the provider reports nothing.
    float
        Share of the reported time that belongs to nodes.
    dict
        Provenance.
    """
    from onnx_pipeline.costmodel.computed.analytic import analytic

    (folder / "opaque").mkdir()
    traced = runner.session(trace_to=folder / "opaque", save=False)
    plain = runner.session()
    walls: list[float] = []
    for done in range(_WARM_UP + rounds):
        runner.run(traced)
        walls.append(runner.timed(plain))
        request.progress("profile", None, f"{format_seconds(walls[-1])} per inference")
        if deadline() and (done > _WARM_UP or request.seconds is not None):
            break
    warm_up = min(_WARM_UP, len(walls) - 1)
    walls = walls[warm_up:]
    runs = [run for run in read_trace(traced.end_profiling())[warm_up:] if run]
    alike = [run for run in runs if [e.name for e in run] == [e.name for e in runs[-1]]]
    if not alike:
        return walls, np.zeros((0, len(nodes))), 0.0, {}
    costs = analytic(request).work_ns
    weights = np.array([costs[node.name] for node in nodes], dtype=np.float64)
    mapping, units = attribute_units(alike[-1], nodes, weights)
    times = np.array([[event.duration for event in run] for run in alike], dtype=np.float64)
    meta = {"method": "compiled subgraphs as units", "unit_nodes": units}
    return walls, mapping.apply(times), mapping.placed_share(times), meta


def attribute_units(
    events: Sequence[KernelEvent], nodes: Sequence[GraphNode], weights: FloatArray
) -> tuple[Attribution, list[int]]:
    """Divide compiled subgraphs among the nodes that they must contain.

    Parameters
    ----------
    events : sequence of KernelEvent
        One run, in execution order.
    nodes : sequence of GraphNode
        Executable nodes of the model in topological order.
    weights : float64[nodes]
        Relative times of nodes, used within a unit only.

    Returns
    -------
    Attribution
        Of the events to the nodes.
    list of int
        Number of nodes of each compiled unit. Where the model falls into another number of units than the
        provider has compiled, all of them are one.
    """
    known = {node.name: v for v, node in enumerate(nodes) if node.name}
    alone = [known.get(event.name, -1) if _same(event, nodes, known) else -1 for event in events]
    outside = {v for v in alone if v >= 0}
    units = _units(nodes, outside)
    compiled = [e for e, v in enumerate(alone) if v < 0]
    pooled = len(units) != len(compiled)
    if pooled:
        units = [sorted(v for unit in units for v in unit)] if units else []
    number = {v: g for g, v in enumerate(sorted(outside))}
    group = np.array([number.get(v, -1) for v in alone], dtype=np.int64)
    if units:
        group[compiled] = len(number) + (0 if pooled else np.arange(len(compiled)))
    members = [(g, v) for v, g in number.items()]
    members += [(len(number) + i, v) for i, unit in enumerate(units) for v in unit]
    return shares(group, members, weights), [len(unit) for unit in units]


def _same(event: KernelEvent, nodes: Sequence[GraphNode], known: dict[str, int]) -> bool:
    """Whether the event is a node of the model, rather than a subgraph named after one."""
    return event.name in known and nodes[known[event.name]].op == event.op


def _units(nodes: Sequence[GraphNode], outside: set[int]) -> list[list[int]]:
    """Divide all other nodes into connected sets without a detour through ``outside``, in their order."""
    producer = {value: v for v, node in enumerate(nodes) for value in node.writes}
    level = [0] * len(nodes)  # how many nodes outside lie on the way here, at most
    root = list(range(len(nodes)))

    def find(v: int) -> int:
        while root[v] != v:
            root[v] = v = root[root[v]]
        return v

    for v, node in enumerate(nodes):
        parents = [producer[value] for value in node.reads if value in producer]
        level[v] = max((level[u] + (u in outside and v not in outside) for u in parents), default=0)
        for u in parents:
            if v not in outside and u not in outside and level[u] == level[v]:
                root[find(v)] = find(u)
    units: dict[int, list[int]] = {}
    for v in range(len(nodes)):
        if v not in outside:
            units.setdefault(find(v), []).append(v)
    return sorted(units.values(), key=lambda unit: (level[unit[0]], unit[0]))
