"""The best prices for :mod:`shared_prices`: a linear program, rounded and mended to meet every limit."""

from __future__ import annotations

import datetime
import math
from collections.abc import Iterable, Sequence
from fractions import Fraction
from typing import Any, NamedTuple

import numpy as np

from onnx_pipeline.graph.costgraph import IntArray
from onnx_pipeline.graph.target import INFEASIBLE
from onnx_pipeline.partition.fleets.instance import FleetInstance
from onnx_pipeline.partition.fleets.shared_prices import KindPrices, hypergraphs, worth
from onnx_pipeline.partition.instance.hypergraph import Hypergraph

#: All costs together are scaled to this, where absolute tolerances of 1e-6 do not matter.
MAGNITUDE = 1e4
#: Weights of kinds are rounded to multiples of one in so many.
FINENESS = 1 << 22
#: Where prices end: what is larger, or no number at all, comes from a program without limits.
LARGEST = 1 << 56


class PriceBound(NamedTuple):
    """A bound, and where nodes would be if devices of a kind could share them.

    Attributes
    ----------
    ticks : int
    kind : int64[n]
        The kind that has the largest part of every node.
    """

    ticks: int
    kind: IntArray


class _Columns(NamedTuple):
    """Variables of one kind; fields as in :class:`KindPrices`, those of nets split into gains and losses."""

    weight: Any
    gain: list[Any]
    loss: list[Any]
    memory: Any
    groups: list[Any]
    used: Any
    fine: Any
    start: list[Any]
    flow: list[Any]
    rise: list[Any]


def price_bound(inst: FleetInstance, seconds: float) -> PriceBound | None:
    """Look for the best prices.

    Parameters
    ----------
    inst : FleetInstance
        Whose nodes all run on some kind.
    seconds : float
        Time limit.

    Returns
    -------
    PriceBound or None
        None if the time did not suffice.
    """
    from ortools.math_opt.python import mathopt

    hypers, counts = hypergraphs(inst), inst.fleet.counts
    model = mathopt.Model()
    value = [model.add_variable() for _ in range(inst.n)]  # of each node at its cheapest
    total = sum(float(h.cost.sum()) + h.alpha for h in hypers.values())
    total += sum(float(work) for work in inst.least_work.tolist())
    unit = MAGNITUDE / max(1.0, total)
    most = inst.fleet.stages_per_device
    columns = {kind: _columns(model, h, unit, most is not None) for kind, h in hypers.items()}
    rows: dict[int, list[Any]] = {}
    owed: list[Any] = []
    for kind, h in hypers.items():
        given = _given(h, columns[kind])
        rows[kind] = [
            model.add_linear_constraint(
                value[v] <= work * unit * columns[kind].weight + mathopt.fast_sum(given[v])
            )
            if work < INFEASIBLE
            else None
            for v, work in enumerate(h.work.tolist())
        ]
        if columns[kind].memory is not None:
            owed.append(counts[kind] * h.memory * unit * columns[kind].memory)
        owed.append(counts[kind] * ((most or 0) * columns[kind].fine - columns[kind].used))
    model.add_linear_constraint(mathopt.fast_sum(counts[kind] * columns[kind].weight for kind in hypers) == 1)
    model.maximize(mathopt.fast_sum(value) - mathopt.fast_sum(owed))
    limit = mathopt.SolveParameters(time_limit=datetime.timedelta(seconds=max(0.01, seconds)))
    result = mathopt.solve(model, mathopt.SolverType.GLOP, params=limit)
    if not result.has_primal_feasible_solution():
        return None
    prices = {kind: _rounded(h, columns[kind], result, unit) for kind, h in hypers.items()}
    share = np.zeros((len(inst.kinds), inst.n))
    if result.has_dual_feasible_solution():
        for kind, each in rows.items():
            share[kind] = [0.0 if row is None else abs(result.dual_values(row)) for row in each]
    share[~inst.runs] = -1.0
    share[[kind for kind in range(len(inst.kinds)) if not counts[kind]]] = -2.0
    return PriceBound(worth(inst, prices), np.asarray(share.argmax(axis=0), dtype=np.int64))


def _columns(model: Any, h: Hypergraph, unit: float, fines: bool) -> _Columns:
    """Make the variables of a kind, prices in units, and what limits them."""
    from ortools.math_opt.python import mathopt

    def new(count: int) -> list[Any]:
        return [model.add_variable(lb=0.0) for _ in range(count)]

    priced = fines or h.alpha > 0  # whether stages are
    limited = math.isfinite(h.memory)
    c = _Columns(
        weight=model.add_variable(lb=0.0),
        gain=new(len(h.members)),
        loss=new(len(h.members)),
        memory=model.add_variable(lb=0.0) if limited else None,
        groups=new(len(h.use_group)) if limited else [],
        used=model.add_variable(lb=0.0),
        fine=model.add_variable(lb=0.0, ub=math.inf if fines else 0.0),
        start=new(len(h.work) if priced else 0),
        flow=new(len(h.pred) if priced else 0),
        rise=new(len(h.pred) if priced else 0),
    )
    for t, cost in enumerate(h.cost.tolist()):
        part = slice(h.net_ptr[t], h.net_ptr[t + 1])
        model.add_linear_constraint(mathopt.fast_sum(c.gain[part]) <= cost * unit * c.weight)
        losses = mathopt.fast_sum(c.loss[part])
        model.add_linear_constraint(losses == (0.0 if h.always[t] else mathopt.fast_sum(c.gain[part])))
    if limited:
        if h.ns_per_byte >= 0:
            model.add_linear_constraint(c.memory <= h.ns_per_byte * c.weight)
        for size, prices in zip(h.group_bytes.tolist(), _by_group(h, c.groups), strict=True):
            model.add_linear_constraint(mathopt.fast_sum(prices) <= size * unit * c.memory)
    stages = mathopt.fast_sum(c.start) + c.used
    model.add_linear_constraint(stages <= h.alpha * unit * c.weight + c.fine)
    if priced:
        for flow, rise in zip(c.flow, c.rise, strict=True):
            model.add_linear_constraint(rise <= flow)
        for v, leaving in enumerate(_by_node(h.pred, c.flow, len(h.work))):
            entering = c.flow[h.pred_ptr[v] : h.pred_ptr[v + 1]]
            if leaving:
                model.add_linear_constraint(
                    mathopt.fast_sum(leaving) <= c.start[v] + mathopt.fast_sum(entering)
                )
    return c


def _given(h: Hypergraph, c: _Columns) -> list[list[Any]]:
    """Return the prices that every node gets."""
    given: list[list[Any]] = [[] for _ in range(len(h.work))]
    for v, gain, loss in zip(h.members.tolist(), c.gain, c.loss, strict=True):
        given[v] += [gain, -loss]
    for v, each in enumerate(given):
        if c.memory is not None:
            each += c.groups[h.use_ptr[v] : h.use_ptr[v + 1]]
        if c.start:
            rises = c.rise[h.pred_ptr[v] : h.pred_ptr[v + 1]]
            each += [c.start[v], *rises]
            for u, rise in zip(h.pred[h.pred_ptr[v] : h.pred_ptr[v + 1]].tolist(), rises, strict=True):
                given[u].append(-rise)
    return given


def _rounded(h: Hypergraph, c: _Columns, result: Any, unit: float) -> KindPrices:
    """Round prices down and mend them, so that they meet every limit."""

    def ticks(variables: list[Any]) -> IntArray:
        values = np.array(result.variable_values(variables) if variables else [], dtype=np.float64)
        values = np.nan_to_num(values / unit * FINENESS, nan=0.0, posinf=0.0)
        return np.clip(np.floor(values), 0, LARGEST).astype(np.int64)

    def whole(value: float) -> int:
        return math.floor(min(max(0.0, value * FINENESS), LARGEST)) if math.isfinite(value) else 0

    weight = whole(result.variable_values(c.weight))
    memory = 0 if c.memory is None else whole(result.variable_values(c.memory))
    if h.ns_per_byte >= 0:
        memory = min(memory, math.floor(weight * Fraction(h.ns_per_byte)))
    gain, loss = ticks(c.gain), ticks(c.loss)
    for t, cost in enumerate(h.cost.tolist()):
        part = slice(h.net_ptr[t], h.net_ptr[t + 1])
        gain[part] = _trimmed(gain[part], weight * cost)
        loss[part] = 0 if h.always[t] else _trimmed(loss[part], sum(gain[part].tolist()))
        if not h.always[t]:
            gain[part] = _trimmed(gain[part], sum(loss[part].tolist()))
    groups = ticks(c.groups) if c.memory is not None else np.zeros(len(h.use_group), dtype=np.int64)
    for size, places in zip(h.group_bytes.tolist(), _by_group(h, range(len(groups))), strict=True):
        groups[places] = _trimmed(groups[places], memory * size)
    used, fine = ticks([c.used, c.fine]).tolist()
    start, flow, rise = (
        ticks(each) if c.start else np.zeros(count, dtype=np.int64)
        for each, count in ((c.start, len(h.work)), (c.flow, len(h.pred)), (c.rise, len(h.pred)))
    )
    used = min(used, weight * h.alpha + fine)
    start = _trimmed(start, weight * h.alpha + fine - used)
    flow = _fed(h, start, flow)
    return KindPrices(weight, gain - loss, memory, groups, used, fine, start, flow, np.minimum(flow, rise))


def _fed(h: Hypergraph, start: IntArray, flow: IntArray) -> IntArray:
    """Trim what leaves every node to what starts there and enters it, along the edges."""
    import graphlib

    n = len(start)
    order = graphlib.TopologicalSorter(
        {v: h.pred[h.pred_ptr[v] : h.pred_ptr[v + 1]].tolist() for v in range(n)}
    ).static_order()
    leaving = _by_node(h.pred, range(len(flow)), n)
    for v in order:
        entering = sum(flow[h.pred_ptr[v] : h.pred_ptr[v + 1]].tolist())
        flow[leaving[v]] = _trimmed(flow[leaving[v]], int(start[v]) + entering)
    return flow


def _trimmed(values: IntArray, limit: int) -> IntArray:
    """Lower values that are not negative, the first ones first, until their sum is within a limit."""
    values = values.copy()
    surplus = sum(values.tolist()) - limit
    for i in np.flatnonzero(values).tolist():
        if surplus <= 0:
            break
        taken = min(surplus, int(values[i]))
        values[i] -= taken
        surplus -= taken
    return values


def _by_group(h: Hypergraph, values: Sequence[Any]) -> list[list[Any]]:
    """Sort what belongs to pairs of nodes and parameter groups by group."""
    return _by_node(h.use_group, values, len(h.group_bytes)) if len(values) else [[] for _ in h.group_bytes]


def _by_node(owner: IntArray, values: Iterable[Any], count: int) -> list[list[Any]]:
    """Return the values of each of ``count`` owners."""
    out: list[list[Any]] = [[] for _ in range(count)]
    for each, value in zip(owner.tolist(), values, strict=False):
        out[each].append(value)
    return out
