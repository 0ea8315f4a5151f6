"""Crossings: what all stages pay together, transfers that load balance makes necessary included.

If every stage costs at most T, all of them together pay at most k (T - alpha). They pay at least all work,
every tensor of the host once, overflow beyond k M, and the tensors that cross borders between stages. The
stages before border b hold a downset: with the nodes whose window at T ends before b, without those whose
window begins at b or later. So what crosses b is at least a minimum cut between these two sets.

One tensor may cross several borders, and its payment counts once. A cut tensor is paid at least twice, by
its producer's stage and by a reader's (a tensor of the host, whose first payment is counted already, once
more). It crosses at most ``span`` borders: last stage of a reader minus first stage of its producer, by the
windows. So it may count 2 c / span (c / span) at every border, and

    work + host + overflow + sum over borders of their minimum cuts > k (T - alpha)

proves that no partition keeps T. The simple bound is this without windows, host and cuts; :mod:`windows` sees
transfers only where ancestors or descendants of one node force them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from onnx_pipeline.graph import HOST, BoolArray, IntArray
from onnx_pipeline.partition.bounds.windows import (
    Reach,
    Windows,
    parameters,
    windows,
)
from onnx_pipeline.partition.instance import Instance
from onnx_pipeline.stop import never

#: Shares of a tensor's cost are counted in units of 1 / SCALE nanoseconds, less where that would overflow.
SCALE = 1 << 10
#: Steps of less than this part of the bound are not worth their maximum flows.
STEP = 2_000


class _Network(NamedTuple):
    """Arcs of the cut: always infinite ones, and one per tensor that carries its share of the cost."""

    tails: IntArray
    heads: IntArray
    net: IntArray  # tensors that can cross
    net_tails: IntArray
    net_heads: IntArray
    nodes: int


class Crossings:
    """What does not depend on the limit, and the question whether a limit is too small.

    Parameters
    ----------
    inst : Instance
    k : int
        Number of stages.
    reach : Reach
        From :mod:`windows`.
    """

    def __init__(self, inst: Instance, k: int, reach: Reach) -> None:
        self.inst, self.k, self.reach = inst, k, reach
        self.fixed = _paid_once(inst, k)
        self.network = _network(inst)

    @property
    def least(self) -> int:
        """The bound without any border, in nanoseconds."""
        return self.inst.alpha + -(-self.fixed // self.k) if self.inst.n else 0

    def refutes(self, limit: int) -> bool:
        """Whether no partition has a bottleneck of at most ``limit`` nanoseconds."""
        if limit < self.least:
            return True
        allowed = windows(self.inst, self.reach, self.k, limit)
        if allowed.empty:
            return True
        crossing = _crossings(self.inst, self.k, allowed, self.network)
        return self.fixed + crossing > self.k * (limit - self.inst.alpha)


def crossing_bound(
    inst: Instance, k: int, reach: Reach, low: int, upper: int, stop: Callable[[], bool] = never
) -> int:
    """Return a lower bound in nanoseconds.

    Parameters
    ----------
    inst : Instance
    k : int
        Number of stages.
    reach : Reach
        From :mod:`windows`.
    low, upper : int
        A known lower bound and a known bottleneck; the bound is looked for between them.
    stop : callable
        Asked between limits; stopping early keeps the bound valid.
    """
    found = Crossings(inst, k, reach)
    best = min(found.least, upper)
    low, high = max(low, best), upper
    while high - low > low // STEP and not stop():
        middle = low + (high - low) // 2
        if found.refutes(middle):
            low = best = middle + 1
        else:
            high = middle
    return best


def _paid_once(inst: Instance, k: int) -> int:
    """Work, every tensor of the host once, and the overflow that k stages cannot avoid together."""
    total = inst.total_work + int(inst.net_cost[_of_host(inst)].sum())
    sizes, room = parameters(inst)
    return total + (max(0, sum(sizes) - k * room) if inst.ns_per_byte >= 0 else 0)


def _of_host(inst: Instance) -> BoolArray:
    return np.asarray((inst.net_prod == HOST) | inst.net_pin, dtype=np.bool_)


def _crossings(inst: Instance, k: int, allowed: Windows, network: _Network) -> int:
    """Sum of the minimum cuts at all borders, in nanoseconds, rounded down."""
    from ortools.graph.python import max_flow

    times = np.where(_of_host(inst), 1, 2)[network.net] * inst.net_cost[network.net]
    scale = max(1, min(SCALE, (1 << 60) // (int(times.sum()) + 1)))
    span = _spans(inst, allowed)[network.net]
    share = np.where(span > 0, times * scale // np.maximum(span, 1), 0)
    infinite = int(share.sum()) + 1
    source, sink = network.nodes, network.nodes + 1
    total = 0
    for border in range(1, k):
        before = np.flatnonzero(allowed.last < border)
        after = np.flatnonzero(allowed.first >= border)
        if not len(before) or not len(after):
            continue
        forced = len(network.tails) + len(before) + len(after)
        flow = max_flow.SimpleMaxFlow()
        flow.add_arcs_with_capacity(
            np.concatenate([network.tails, np.full(len(before), source), after, network.net_tails]),
            np.concatenate([network.heads, before, np.full(len(after), sink), network.net_heads]),
            np.concatenate([np.full(forced, infinite), share]),
        )
        if flow.solve(source, sink) == flow.OPTIMAL:
            total += flow.optimal_flow()
    return total // scale


def _spans(inst: Instance, allowed: Windows) -> IntArray:
    """Return the most borders that each tensor can cross."""
    out = np.zeros(inst.m, dtype=np.int64)
    for t in range(inst.m):
        readers = inst.net_cons[inst.net_ptr[t] : inst.net_ptr[t + 1]]
        if len(readers):
            producer = inst.net_prod[t]
            first = allowed.first[readers].min() if producer == HOST else allowed.first[producer]
            out[t] = max(0, int(allowed.last[readers].max() - first))
    return out


def _network(inst: Instance) -> _Network:
    """Build what does not depend on the border.

    A node's producers are in the downset with it. A produced tensor crosses when its producer is inside and
    some reader is not; a tensor of the host when some of its readers are inside and some are not.
    """
    above, below = inst.edges()
    tails, heads = below.tolist(), above.tolist()
    net: list[int] = []
    net_tails: list[int] = []
    net_heads: list[int] = []
    fresh = inst.n
    for t in range(inst.m):
        readers = inst.net_cons[inst.net_ptr[t] : inst.net_ptr[t + 1]].tolist()
        producer = int(inst.net_prod[t])
        if not inst.net_cost[t] or not readers or (producer == HOST and len(readers) == 1):
            continue
        net.append(t)
        if producer == HOST:
            tails += readers
            heads += [fresh] * len(readers)
            producer, fresh = fresh, fresh + 1
        net_tails.append(producer)
        if len(readers) == 1:
            net_heads.append(readers[0])
            continue
        net_heads.append(fresh)
        tails += [fresh] * len(readers)
        heads += readers
        fresh += 1
    return _Network(_ints(tails), _ints(heads), _ints(net), _ints(net_tails), _ints(net_heads), fresh)


def _ints(values: list[int]) -> IntArray:
    return np.array(values, dtype=np.int64)
