"""Crossings: what all stages pay together, transfers that load balance makes necessary included.

If every stage costs at most T, all of them together pay at most k (T - alpha). They pay at least all work,
every tensor of the host once, overflow beyond k M, and the tensors that cross borders between stages. The
stages before border b hold a downset: with the nodes whose window at T ends before b, without those whose
window begins at b or later. So what crosses b is at least a minimum cut between these two sets.

One tensor may cross several borders, and its payment counts once. A cut tensor is paid at least twice, by
its producer's stage and by a reader's (a tensor of the host, whose first payment is counted already, once
more). By the windows it can only cross the borders from the first stage of its producer to the last stage
of a reader. So 2 c (c) may be divided among these in any way, and

    work + host + overflow + sum over borders of their minimum cuts > k (T - alpha)

proves that no partition keeps T. Equal shares come first; then shares move to the borders where the tensor is
in the minimum cut, since they count for nothing elsewhere. This is multiplicative ascent on the dual of the
linear relaxation that pays a tensor for its largest difference of prefixes.

The simple bound is all this without windows, host and cuts; :mod:`windows` sees transfers only where
ancestors or descendants of one node force them.

References
----------
Arora, Hazan, Kale, *The multiplicative weights update method*, Theory of Computing 2012.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from onnx_pipeline.graph.costgraph import HOST, BoolArray, IntArray
from onnx_pipeline.partition.bounds.windows import (
    Reach,
    Windows,
    parameters,
    windows,
)
from onnx_pipeline.partition.instance.instance import Instance
from onnx_pipeline.stop import Stop, never

#: Shares of tensors at borders, m k, that are weighed at most.
SHARES_LIMIT = 4_000_000
#: Shares of a tensor's cost are counted in units of 1 / SCALE nanoseconds, less where that would overflow.
SCALE = 1 << 10
#: Steps of less than this part of the bound are not worth their maximum flows.
STEP = 2_000
#: Rounds of the ascent, and how far the first one moves shares; later ones move them less.
ROUNDS, RATE = 30, 2.0
#: A share never vanishes, so that it can come back.
LEAST_SHARE = 1e-6


class _Network(NamedTuple):
    """Arcs of the cut: always infinite ones, and one per tensor that carries its share of the cost."""

    tails: IntArray
    heads: IntArray
    net: IntArray  # tensors that can cross
    net_tails: IntArray
    net_heads: IntArray
    nodes: int

    def minimum_cut(self, before: IntArray, after: IntArray, share: IntArray) -> tuple[int, BoolArray]:
        """Return the least sum of shares that separates two sets of nodes, and whose shares these are."""
        from ortools.graph.python import max_flow

        source, sink = self.nodes, self.nodes + 1
        forced = len(self.tails) + len(before) + len(after)
        flow = max_flow.SimpleMaxFlow()
        flow.add_arcs_with_capacity(
            np.concatenate([self.tails, np.full(len(before), source), after, self.net_tails]),
            np.concatenate([self.heads, before, np.full(len(after), sink), self.net_heads]),
            np.concatenate([np.full(forced, int(share.sum()) + 1), share]),
        )
        if flow.solve(source, sink) != flow.OPTIMAL:
            return 0, np.zeros(len(share), dtype=np.bool_)
        inside = np.zeros(self.nodes + 2, dtype=np.bool_)
        inside[flow.get_source_side_min_cut()] = True
        return flow.optimal_flow(), inside[self.net_tails] & ~inside[self.net_heads]


class Crossings:
    """Lower bounds by crossings: what does not depend on the limit is computed once.

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
        self.fixed = paid_once(inst, k)
        self.least = paid_once_bound(inst, k)
        self.network = _network(inst)

    def refutes(self, limit: int, rounds: int = ROUNDS, stop: Stop = never) -> bool:
        """Whether no partition has a bottleneck of at most ``limit`` nanoseconds, as far as can be seen."""
        if limit < self.least:
            return True
        allowed = windows(self.inst, self.reach, self.k, limit)
        if allowed.empty:
            return True
        needed = self.k * (limit - self.inst.alpha) - self.fixed
        return any(crossing > needed for crossing in self._crossings(allowed, rounds, stop))

    def bound(self, low: int, upper: int, stop: Stop = never) -> int:
        """Return a lower bound in nanoseconds, looked for between a known bound and a known bottleneck.

        Stopping early keeps it valid.
        """
        best = min(self.least, upper)
        for rounds in (1, ROUNDS):  # equal shares come cheap
            low, high = max(low, best), upper
            while high - low > low // STEP and not stop():
                middle = low + (high - low) // 2
                if self.refutes(middle, rounds, stop):
                    low = best = middle + 1
                else:
                    high = middle
        return best

    def _crossings(self, allowed: Windows, rounds: int, stop: Stop) -> Iterator[int]:
        """Yield lower bounds of what crosses all borders together, in nanoseconds, rounded down."""
        inst, net = self.inst, self.network.net
        if self.k == 1:
            return
        times = np.where(_of_host(inst), 1, 2)[net] * inst.net_cost[net]
        scale = max(1, min(SCALE, (1 << 60) // (int(times.sum()) + 1)))
        borders = np.arange(1, self.k)
        sides = [(np.flatnonzero(allowed.last < b), np.flatnonzero(allowed.first >= b)) for b in borders]
        first, last = (side[net][:, None] for side in _reaches(inst, allowed))
        possible = (borders > first) & (borders <= last)
        weight = possible.astype(np.float64)
        for done in range(rounds):
            part = weight / np.maximum(weight.sum(axis=1, keepdims=True), LEAST_SHARE)
            # A little less than all of it: rounding of the parts must never add up to more.
            share = np.floor(part * (times * scale * (1 - 1e-9))[:, None]).astype(np.int64)
            total = 0
            for at, (before, after) in enumerate(sides):
                if stop():
                    return
                if len(before) and len(after):
                    value, cut = self.network.minimum_cut(before, after, share[:, at])
                    total += value
                    weight[cut, at] *= np.exp(RATE / np.sqrt(1 + done))
            yield total // scale
            weight /= np.maximum(weight.max(axis=1, keepdims=True), LEAST_SHARE)
            weight = np.where(possible, np.maximum(weight, LEAST_SHARE), 0.0)


def paid_once_bound(inst: Instance, k: int) -> int:
    """Return the bound without any border, in nanoseconds: no maximum flow, whatever the size."""
    return inst.alpha + -(-paid_once(inst, k) // k) if inst.n else 0


def paid_once(inst: Instance, k: int) -> int:
    """Return what all stages together pay at least without borders and overheads, in nanoseconds.

    Work, every tensor of the host once, and the overflow that k stages cannot avoid together.
    """
    total = inst.total_work + int(inst.net_cost[_of_host(inst)].sum())
    sizes, room = parameters(inst)
    return total + (max(0, sum(sizes) - k * room) if inst.ns_per_byte >= 0 else 0)


def _of_host(inst: Instance) -> BoolArray:
    return np.asarray((inst.net_prod == HOST) | inst.net_pin, dtype=np.bool_)


def _reaches(inst: Instance, allowed: Windows) -> tuple[IntArray, IntArray]:
    """Return the first stage that can hold each tensor's producer, and the last one that can read it."""
    first, last = np.zeros(inst.m, dtype=np.int64), np.zeros(inst.m, dtype=np.int64)
    for t in range(inst.m):
        readers = inst.net_cons[inst.net_ptr[t] : inst.net_ptr[t + 1]]
        if len(readers):
            producer = inst.net_prod[t]
            first[t] = allowed.first[readers].min() if producer == HOST else allowed.first[producer]
            last[t] = allowed.last[readers].max()
    return first, last


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
