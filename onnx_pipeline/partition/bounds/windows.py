"""Stage windows: which stages a node can be in, if every stage costs at most T.

If v is in stage s, then all its ancestors are in stages 0..s and all its descendants in s..k-1. Let before(v)
be a lower bound on what any set of stages that holds v and its ancestors pays in total, without alpha. Then
before(v) <= (s + 1) (T - alpha), and with after(v) for the descendants

    ceil(before(v) / (T - alpha)) - 1 <= s <= k - ceil(after(v) / (T - alpha)).

*By sets.* The work of v and its ancestors, and once each: tensors of the host that one of them reads, and
tensors for the host that one of them produces. Above ``SET_NODES`` nodes the heaviest path stands in for the
set, which is still a lower bound.

*By cuts.* The stages up to s hold a downset A with v in it, and pay work(A) + c(tensors that A splits or the
host touches): the least such sum over downsets with v is one minimum cut. Never weaker, one maximum flow per
node.

*Parameters.* With room and a(g) of :mod:`blocks`, s stages that hold the groups G pay at least
sum a(g) - s * room for overflow, so (before(v) + sum a) / (T - alpha + room) bounds s + 1 as well; with a
hard limit, (sum a) / room does. *Pins* are carried on along the edges.
"""

from __future__ import annotations

import math
from fractions import Fraction
from typing import NamedTuple

import numpy as np

from onnx_pipeline.graph.costgraph import HOST, IntArray
from onnx_pipeline.partition.bounds.mincut import network
from onnx_pipeline.partition.instance.csr import invert
from onnx_pipeline.partition.instance.instance import Instance
from onnx_pipeline.partition.jit import kernel
from onnx_pipeline.partition.search.orders import in_degrees, kahn
from onnx_pipeline.stop import Stop, never

#: Above this many nodes sets of ancestors are replaced by paths.
SET_NODES = 30_000


class Windows(NamedTuple):
    """First and last stage of every node; empty where first > last."""

    first: IntArray
    last: IntArray

    @property
    def empty(self) -> bool:
        """Whether some node has no stage left."""
        return bool((self.first > self.last).any())

    def around(self, stage: int) -> Windows:
        """Windows in the chain before / ``stage`` / after."""
        return Windows(np.sign(self.first - stage) + 1, np.sign(self.last - stage) + 1)


class Reach(NamedTuple):
    """What the two sides of each node pay at least; independent of k and T.

    ``before`` and ``after`` are nanoseconds without overflow, ``held_before`` and ``held_after`` the sizes
    a(g) of the parameter groups of ancestors and descendants.
    """

    before: IntArray
    after: IntArray
    held_before: IntArray
    held_after: IntArray


def parameters(inst: Instance) -> tuple[list[int], int]:
    """Return a(g) of every group and the room of a stage.

    In nanoseconds, a(g) = floor(bytes / B) and room = ceil(M / B); with a hard limit, in bytes.
    """
    if not len(inst.group_bytes):
        return [], 0
    if inst.ns_per_byte < 0:
        return inst.group_bytes.tolist(), math.floor(inst.memory)
    # A hard limit (negative) is left to the search: a bound may always take 0 for the overflow.
    rate = Fraction(max(0.0, inst.ns_per_byte))
    # One more for a limit that is no whole number: the objective then rounds before it multiplies.
    room = math.ceil(Fraction(inst.memory) * rate) + (inst.memory % 1 > 0)
    return [math.floor(b * rate) for b in inst.group_bytes.tolist()], room


def reach_by_sets(inst: Instance) -> Reach:
    """Work and forced transfers of all ancestors and of all descendants, each node included."""
    order = _topological(inst)
    if inst.n > SET_NODES:
        return _reach_by_paths(inst, order)
    always = np.flatnonzero((inst.net_prod == HOST) | inst.net_pin)
    size, _ = parameters(inst)
    nodes = np.arange(inst.n)
    # Things that a set of stages pays for once if it holds any of their members: nodes, tensors, groups.
    owner, member = [nodes], [nodes]
    for i, t in enumerate(always.tolist(), inst.n):
        touched = inst.net_cons[inst.net_ptr[t] : inst.net_ptr[t + 1]]
        if inst.net_prod[t] != HOST:
            touched = np.append(touched, inst.net_prod[t])
        owner.append(np.full(len(touched), i))
        member.append(touched)
    owner.append(inst.use_group + (inst.n + len(always)))
    member.append(np.repeat(nodes, np.diff(inst.use_ptr)))
    count = inst.n + len(always) + len(size)
    ptr, flat = invert(count, np.concatenate(owner), np.concatenate(member))
    time, held = np.zeros(count, np.int64), np.zeros(count, np.int64)
    time[: inst.n + len(always)] = np.concatenate([inst.work, inst.net_cost[always]])
    held[inst.n + len(always) :] = size
    heads, tails = inst.edges()
    before, held_before = _set_weights(order, *invert(inst.n, tails, heads), ptr, flat, time, held)
    after, held_after = _set_weights(order[::-1], *invert(inst.n, heads, tails), ptr, flat, time, held)
    return Reach(before, after, held_before, held_after)


def reach_by_cuts(inst: Instance, reach: Reach, stop: Stop = never) -> Reach:
    """Strengthen by minimum cuts: ``n`` maximum flows each way; stopping early keeps the result valid."""
    from ortools.graph.python import max_flow

    sink, tails, heads, capacity = network(inst)
    infinite = inst.total_work + int(inst.net_cost.sum()) + 1
    above, below = inst.edges()
    sides = []
    for weights, source, target in ((reach.before, below, above), (reach.after, above, below)):
        flow = max_flow.SimpleMaxFlow()
        flow.add_arcs_with_capacity(
            np.concatenate([tails, source]),
            np.concatenate([heads, target]),
            np.concatenate([capacity, np.full(len(source), infinite)]),
        )
        out = weights.copy()
        for v in range(inst.n):
            if stop():
                break
            if flow.solve(v, sink) == flow.OPTIMAL:
                out[v] = max(out[v], flow.optimal_flow())
        sides.append(out)
    return reach._replace(before=sides[0], after=sides[1])


def windows(inst: Instance, reach: Reach, k: int, limit: int) -> Windows:
    """Return the stages that each node can be in when no stage costs more than ``limit`` nanoseconds.

    Parameters
    ----------
    inst : Instance
    reach : Reach
    k : int
        Number of stages.
    limit : int
        T, at least alpha.
    """
    time = limit - inst.alpha
    _, room = parameters(inst)

    def needed(weight: IntArray, held: IntArray) -> IntArray:
        if inst.ns_per_byte < 0:
            return np.maximum(_stages_needed(weight, time), _stages_needed(held, room))
        return np.maximum(_stages_needed(weight, time), _stages_needed(weight + held, time + room))

    first = needed(reach.before, reach.held_before) - 1
    last = k - needed(reach.after, reach.held_after)
    return _with_pins(inst, Windows(np.maximum(first, 0), np.minimum(last, k - 1)))


def window_bound(inst: Instance, k: int, upper: int, reach: Reach | None = None) -> int:
    """Return the least limit at which every node has a stage: a lower bound in nanoseconds.

    Parameters
    ----------
    inst : Instance
    k : int
        Number of stages.
    upper : int
        A known bottleneck; the bound is not looked for above it.
    reach : Reach, optional
        By cuts if not given.
    """
    if reach is None:
        reach = reach_by_cuts(inst, reach_by_sets(inst))
    low, high = inst.alpha, upper
    while low < high:
        middle = low + (high - low) // 2
        if windows(inst, reach, k, middle).empty:
            low = middle + 1
        else:
            high = middle
    return low


def pins_only(inst: Instance, k: int) -> Windows:
    """Every stage for every node, as far as pins allow."""
    return _with_pins(inst, Windows(np.zeros(inst.n, np.int64), np.full(inst.n, k - 1, np.int64)))


def _stages_needed(weights: IntArray, per_stage: int) -> IntArray:
    """ceil(weight / per_stage); without room for anything, more than any k for a positive weight."""
    if per_stage <= 0:
        return np.where(weights > 0, np.int64(1) << 40, 0).astype(np.int64)
    return -(-weights // per_stage)


def _with_pins(inst: Instance, free: Windows) -> Windows:
    """Hold pinned nodes to their stage, what comes before and after them to its side."""
    if not (inst.pin >= 0).any():
        return free
    first = np.maximum(free.first, inst.pin)
    last = np.where(inst.pin >= 0, np.minimum(free.last, inst.pin), free.last)
    order = _topological(inst)
    heads, tails = inst.edges()
    pred_ptr, pred = invert(inst.n, tails, heads)
    succ_ptr, succ = invert(inst.n, heads, tails)
    for v in order:
        first[v] = max(first[v], *first[pred[pred_ptr[v] : pred_ptr[v + 1]]], 0)
    for v in order[::-1]:
        last[v] = min(last[v], *last[succ[succ_ptr[v] : succ_ptr[v + 1]]], last[v])
    return Windows(first, last)


def _topological(inst: Instance) -> IntArray:
    return np.asarray(kahn(inst, in_degrees(inst), np.zeros(inst.n)), dtype=np.int64)


def _reach_by_paths(inst: Instance, order: IntArray) -> Reach:
    """The heaviest path to and from each node instead of all ancestors and descendants."""
    own = inst.work.copy()
    pinned = inst.net_pin & (inst.net_prod != HOST)
    np.add.at(own, inst.net_prod[pinned], inst.net_cost[pinned])
    heads, tails = inst.edges()
    nothing = np.zeros(inst.n, dtype=np.int64)
    before = _heaviest_paths(order, *invert(inst.n, tails, heads), own)
    after = _heaviest_paths(order[::-1], *invert(inst.n, heads, tails), own)
    return Reach(before, after, nothing, nothing)


@kernel
def _heaviest_paths(order, ptr, adjacent, own):  # type: ignore[no-untyped-def]
    out = own.copy()
    for v in order:
        best = 0
        for a in range(ptr[v], ptr[v + 1]):
            best = max(best, out[adjacent[a]])
        out[v] += best
    return out


@kernel
def _set_weights(order, ptr, adjacent, item_ptr, item_nodes, time, held):  # type: ignore[no-untyped-def]
    """Two weights of the items of v and everything that ``adjacent`` reaches from v, for every v.

    64 items at a time: one sweep spreads their bits along the order, tables add up the weights of 8 bits.
    """
    n, count = order.shape[0], time.shape[0]
    out_time, out_held = np.zeros(n, np.int64), np.zeros(n, np.int64)
    table_time, table_held = np.zeros((8, 256), np.int64), np.zeros((8, 256), np.int64)
    for base in range(0, count, 64):
        bits = np.zeros(n, np.uint64)
        for i in range(base, min(base + 64, count)):
            for a in range(item_ptr[i], item_ptr[i + 1]):
                bits[item_nodes[a]] |= np.uint64(1) << np.uint64(i - base)
        for x in range(1, 256):
            low = 0
            while not (x >> low) & 1:
                low += 1
            for j in range(8):
                i = base + 8 * j + low
                table_time[j, x] = table_time[j, x & (x - 1)] + (time[i] if i < count else 0)
                table_held[j, x] = table_held[j, x & (x - 1)] + (held[i] if i < count else 0)
        for v in order:
            word = bits[v]
            for a in range(ptr[v], ptr[v + 1]):
                word |= bits[adjacent[a]]
            bits[v] = word
            j = 0
            while word:
                out_time[v] += table_time[j, np.int64(word & np.uint64(255))]
                out_held[v] += table_held[j, np.int64(word & np.uint64(255))]
                word >>= np.uint64(8)
                j += 1
    return out_time, out_held
