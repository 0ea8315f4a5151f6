"""Weights for what kinds of device do: the dual of placing nodes in fractions.

Spread every node over the kinds that can run it, at will, so that the busiest kind is done as early as
possible. The duals of that linear program say what a tick on each kind is worth, and a byte of its memory.
They come from a solver in floats and prove nothing: a bound is evaluated with weights in integers, whatever
they are (:mod:`onnx_pipeline.partition.fleets.fluid`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt

from onnx_pipeline.graph.target import INFEASIBLE
from onnx_pipeline.partition.fleets.demand import Demand

FloatArray = npt.NDArray[np.float64]

#: Nodes with nearly equal ratios of loads count as one where there are more than this.
CLASSES = 400
#: What a byte beyond a hard limit costs in the linear program, all bytes being 1 and all work about 1.
PENALTY = 1e3


def fluid_weights(
    demand: Demand,
    count: Sequence[int],
    *,
    memory: bool = True,
    overheads: bool = True,
    classes: int = CLASSES,
) -> tuple[FloatArray, FloatArray]:
    """Return the worth of a tick and of a byte on each kind, zeros where the solver has none.

    Parameters
    ----------
    demand : Demand
    count : sequence of int
        Devices of each kind, of which those with none are left out.
    memory : bool
        Whether memory counts.
    overheads : bool
        Whether every device pays alpha.
    classes : int
        Nodes with nearly equal ratios of loads count as one where there are more than this.
    """
    from ortools.linear_solver import pywraplp

    kinds = [kind for kind, devices in enumerate(count) if devices]
    ticks, octets = np.zeros(len(count)), np.zeros(len(count))
    rows = _rows(demand, kinds, classes, memory=memory)
    unit, size = max(float(rows[:, :-1].min(axis=1).sum()), 1.0), max(float(rows[:, -1].sum()), 1.0)
    solver = pywraplp.Solver.CreateSolver("GLOP")
    end = solver.NumVar(0, solver.infinity(), "")
    solver.Objective().SetCoefficient(end, 1)
    solver.Objective().SetMinimization()
    busy = [solver.Constraint(-solver.infinity(), 0) for _ in kinds]
    room = {}
    for kind, row in zip(kinds, busy, strict=True):
        row.SetCoefficient(end, -count[kind])
        if overheads:
            row.SetUb(-count[kind] * demand.alpha[kind] / unit)
        if memory and demand.memory[kind] < np.inf:
            room[kind] = solver.Constraint(-solver.infinity(), count[kind] * demand.memory[kind] / size)
            beyond = solver.NumVar(0, solver.infinity(), "")
            room[kind].SetCoefficient(beyond, -1)
            if demand.rate[kind] >= 0:
                row.SetCoefficient(beyond, demand.rate[kind] * size / unit)
            else:
                solver.Objective().SetCoefficient(beyond, PENALTY)
    for loads in rows:
        whole = solver.Constraint(1, 1)
        for load, kind, row in zip(loads, kinds, busy, strict=False):
            if np.isfinite(load):
                part = solver.NumVar(0, 1, "")
                whole.SetCoefficient(part, 1)
                row.SetCoefficient(part, load / unit)
                if kind in room:
                    room[kind].SetCoefficient(part, loads[-1] / size)
    if solver.Solve() == pywraplp.Solver.OPTIMAL:
        ticks[kinds] = [max(0.0, -row.dual_value()) / unit for row in busy]
        for kind, limit in room.items():
            octets[kind] = max(0.0, -limit.dual_value()) / size
    return ticks, octets


def _rows(demand: Demand, kinds: Sequence[int], classes: int, *, memory: bool) -> FloatArray:
    """Return loads of nodes on the given kinds, infinite where they cannot run, and bytes, one node a row.

    Nodes that none of the kinds can run are left out.
    """
    held = demand.held if memory else np.zeros_like(demand.held)
    rows = np.vstack([demand.load[kinds], held]).T.astype(np.float64)
    rows[:, :-1][demand.load[kinds].T >= INFEASIBLE] = np.inf
    rows = rows[np.isfinite(rows[:, :-1]).any(axis=1)]
    for step in _steps():
        if len(rows) <= classes:
            break
        least = np.maximum(rows[:, :-1].min(axis=1, keepdims=True), 1.0)
        ratios = np.round(np.log2(np.maximum(rows / least, 1e-6)) / step)
        _, place = np.unique(ratios, axis=0, return_inverse=True)
        sums = np.zeros((int(place.max()) + 1, rows.shape[1]))
        np.add.at(sums, place.ravel(), rows)
        rows = sums
    return rows


def _steps() -> Iterator[float]:
    step = 0.02
    while True:
        yield step
        step *= 2
