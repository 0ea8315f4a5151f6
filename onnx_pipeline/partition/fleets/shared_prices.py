"""A lower bound for devices that hold several stages: prices for where nodes are, checked in whole numbers.

Forget which device of a kind a node is on. Let x(v, k) say that node v is on kind k, of which there are n_k
devices, each with a load of at most T. The loads of a kind together are at least

    work on k + tensors of the host that some node on k reads or makes
    + other tensors that have members on k and on another kind
    + what the parameters on k exceed the memory of n_k devices by, streamed + alpha_k * (stages on k),

and each of these, times a weight y_k >= 0, is at least a linear function of x whose coefficients, "prices",
are integers within these limits:

* **tensor of the host** c(t) is paid if any member is on k: prices of its members are not negative and sum up
  to at most y_k c(t).
* **other tensor** c(t) is paid if some members are on k and some are not: prices sum up to 0, the positive
  ones to at most y_k c(t). (If all members are on k they cancel out, and no subset is worth more.)
* **parameters** With m_k <= y_k / B_k, or any m_k >= 0 where the limit is hard, prices of a group's users are
  not negative and sum up to at most m_k times its bytes; m_k n_k M_k is owed once, and y_k for each of the
  two ticks that a device may lose in rounding.
* **stages** On a path of the graph, a stage on k begins at its first node, if that is on k, and at every edge
  that enters k: stages are numbered along the tensors, so these are different stages. Let s(v) paths start at
  node v, f(e) pass edge e, and no more leave a node than start there or enter it. An edge (u, v) is worth
  max(0, x(v) - x(u)) to each, so r(e) in 0..f(e) may be given to v and taken from u. All paths that start,
  and u_k >= 0 for the one stage that any device in use has, are at most y_k alpha_k + h_k. Where a device
  holds at most L stages, h_k is any integer >= 0, and h_k n_k L is owed; else it is 0.

Every node is on some kind that can run it, and a device that is not in use has no share in a sum. With
p(v, k) the sum of the prices of v on k, this gives

    sum over k of n_k max(0, y_k T - u_k)  >=  sum over v of min over k of (y_k w_k(v) + p(v, k)) - owed.

Without prices this is the fluid bound. :mod:`shared_bound` looks for the best ones.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from fractions import Fraction
from typing import NamedTuple

import numpy as np

from onnx_pipeline.graph.costgraph import IntArray
from onnx_pipeline.graph.target import INFEASIBLE
from onnx_pipeline.partition.fleets.instance import FleetInstance
from onnx_pipeline.partition.instance.hypergraph import Hypergraph, hypergraph

#: Ticks that the overflow of a device may lose: by truncation, and in a product of floats.
LOST = 2


class KindPrices(NamedTuple):
    """Weight and prices of one kind; letters as in the module's docstring.

    Attributes
    ----------
    weight : int
        y.
    nets : int64[p]
        Of every member of every net, in the order of ``Hypergraph.members``.
    memory : int
        m.
    groups : int64[q]
        Of every user of every parameter group, in the order of ``Hypergraph.use_group``.
    used, fine : int
        u and h.
    start : int64[n]
        s(v).
    flow, rise : int64[e]
        f(e) and r(e), in the order of ``Hypergraph.pred``.
    """

    weight: int
    nets: IntArray
    memory: int
    groups: IntArray
    used: int
    fine: int
    start: IntArray
    flow: IntArray
    rise: IntArray


def hypergraphs(inst: FleetInstance) -> dict[int, Hypergraph]:
    """Return the hypergraph of every kind of which there are devices; all their nodes are the instance's."""
    return {kind: hypergraph(inst.kinds[kind], whole=True)[0] for kind in inst.used}


def worth(inst: FleetInstance, prices: Mapping[int, KindPrices]) -> int:
    """Return the bound that prices prove, in ticks.

    Parameters
    ----------
    inst : FleetInstance
        Whose nodes all run on some kind.
    prices : mapping of int to KindPrices
        For every kind of which there are devices.

    Raises
    ------
    AssertionError
        If prices exceed their limits.
    """
    counts, limit = inst.fleet.counts, inst.fleet.stages_per_device
    values: list[list[int]] = [[] for _ in range(inst.n)]
    owed = 0
    for kind, h in hypergraphs(inst).items():
        p = prices[kind]
        wrong = _beyond_limits(h, p)
        if limit is None and p.fine:
            wrong = "there is no limit on stages"
        if wrong:
            raise AssertionError(f"prices of kind {kind}: {wrong}")
        for v, value in enumerate(_per_node(h, p)):
            if h.work[v] < INFEASIBLE:
                values[v].append(value)
        owed += counts[kind] * p.fine * (limit or 0)
        if p.memory:
            owed += counts[kind] * (p.memory * math.ceil(h.memory) + LOST * p.weight)
    return _least_load([(counts[kind], prices[kind]) for kind in inst.used], sum(map(min, values)) - owed)


def _least_load(kinds: Sequence[tuple[int, KindPrices]], needed: int) -> int:
    """Return the least T with sum of n max(0, y T - u) >= needed."""
    low, high = 0, 1
    while high < INFEASIBLE and sum(n * max(0, p.weight * high - p.used) for n, p in kinds) < needed:
        high *= 2
    while low < high:
        middle = (low + high) // 2
        if sum(n * max(0, p.weight * middle - p.used) for n, p in kinds) >= needed:
            high = middle
        else:
            low = middle + 1
    return low if any(p.weight for _, p in kinds) else 0


def _per_node(h: Hypergraph, p: KindPrices) -> list[int]:
    """Return y w(v) + p(v) of every node, in Python's integers, which do not overflow."""
    value = [p.weight * work for work in h.work.tolist()]
    for v, price in zip(h.members.tolist(), p.nets.tolist(), strict=True):
        value[v] += price
    for v in range(len(value)):
        value[v] += int(p.start[v]) + sum(p.groups[h.use_ptr[v] : h.use_ptr[v + 1]].tolist())
        for e in range(int(h.pred_ptr[v]), int(h.pred_ptr[v + 1])):
            value[v] += int(p.rise[e])
            value[h.pred[e]] -= int(p.rise[e])
    return value


def _beyond_limits(h: Hypergraph, p: KindPrices) -> str:
    """Say which limit prices exceed, if any."""
    if (
        min(p.weight, p.memory, p.used, p.fine) < 0
        or min(map(_least, (p.groups, p.start, p.rise, p.flow))) < 0
    ):
        return "one is negative"
    if h.ns_per_byte >= 0 and p.memory > p.weight * Fraction(h.ns_per_byte):
        return "the memory's weight is too large"
    if sum(p.start.tolist()) + p.used > p.weight * h.alpha + p.fine:
        return "too many paths for the overhead"
    if (p.rise > p.flow).any():
        return "an edge's price exceeds its paths"
    for t, cost in enumerate(h.cost.tolist()):
        given = p.nets[h.net_ptr[t] : h.net_ptr[t + 1]].tolist()
        if sum(each for each in given if each > 0) > p.weight * cost:
            return f"net {t} gives too much"
        if min(given) < 0 if h.always[t] else sum(given) != 0:
            return f"net {t} is out of balance"
    taken = [0] * len(h.group_bytes)
    for group, price in zip(h.use_group.tolist(), p.groups.tolist(), strict=True):
        taken[group] += price
    if any(price > p.memory * size for price, size in zip(taken, h.group_bytes.tolist(), strict=True)):
        return "a parameter group gives too much"
    return "paths out of nothing" if (_spare(h, p) < 0).any() else ""


def _spare(h: Hypergraph, p: KindPrices) -> IntArray:
    """Return paths that start at or enter each node, less those that leave it."""
    spare = p.start.copy()
    np.add.at(spare, np.repeat(np.arange(len(spare)), np.diff(h.pred_ptr)), p.flow)
    np.subtract.at(spare, h.pred, p.flow)
    return spare


def _least(values: IntArray) -> int:
    return int(values.min(initial=0))
