"""The walk over valid partitions that annealing takes: its books, and the kernels that keep them.

A move takes one node to another stage inside the window that its neighbours leave, [latest predecessor,
earliest successor], so the quotient stays acyclic and only two stages change cost. The energy is the sum of
squared excesses

    E = sum over stages of max(0, cost(S) - aim)^2,

zero when every stage is at most ``aim``. Moves that lower E are taken, others with probability
exp(-dE / temperature); the temperature falls geometrically.

Half of the moves start from the costliest stages, in the manner of Fiduccia and Mattheyses, *A linear-time
heuristic for improving network partitions*, DAC 1982, where cells leave the heavier side.

On devices that differ the hypergraph's work, cost and need have a row for every stage, and its memory, rate
and alpha are arrays; a node never moves to a stage that cannot run it.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from numba import types
from numba.extending import overload

from onnx_pipeline.graph.costgraph import IntArray
from onnx_pipeline.graph.target import INFEASIBLE
from onnx_pipeline.partition.instance.hypergraph import Hypergraph
from onnx_pipeline.partition.jit import inner, kernel
from onnx_pipeline.partition.search.tapes import streamed


class Walk(NamedTuple):
    """Working memory of the walk."""

    stage: IntArray  # [n]
    cost: IntArray  # [k] cost of each stage, overflow included
    held: IntArray  # [k] parameter bytes of each stage
    top: IntArray  # [k] largest need of a node in each stage
    filled: IntArray  # [k] number of nodes
    inside: npt.NDArray[np.int32]  # [m, k] members of each net in each stage
    users: npt.NDArray[np.int32]  # [g, k] users of each parameter group in each stage
    nodes: npt.NDArray[np.int32]  # [k, n] nodes of each stage, the first ``filled[s]`` entries
    slot: IntArray  # [n] place of each node in its row of ``nodes``
    rng: npt.NDArray[np.uint64]  # [1] xorshift state


def new_walk(h: Hypergraph, k: int, stage: IntArray, seed: int) -> Walk:
    """Set up a walk that starts from a valid partition."""
    m, groups = h.cost.shape[-1], len(h.group_bytes)
    walk = Walk(
        stage.astype(np.int64),
        np.zeros(k, dtype=np.int64),
        np.zeros(k, dtype=np.int64),
        np.zeros(k, dtype=np.int64),
        np.zeros(k, dtype=np.int64),
        np.zeros((m, k), dtype=np.int32),
        np.zeros((groups, k), dtype=np.int32),
        np.zeros((k, len(stage)), dtype=np.int32),
        np.zeros(len(stage), dtype=np.int64),
        np.array([seed * 2 + 0x9E3779B97F4A7C15 & (2**64 - 1)], dtype=np.uint64),
    )
    reset(h, walk)
    return walk


def _of(values: Any, s: Any) -> Any:
    """Value of stage s; where all devices are alike, it is the same for all."""
    return values if np.isscalar(values) else values[s]


@overload(_of)
def _of_compiled(values, s):  # type: ignore[no-untyped-def]
    if isinstance(values, types.Array):
        return lambda values, s: values[s]
    return lambda values, s: values


@inner
def _at(values, s, i):  # type: ignore[no-untyped-def]
    """Value of i in stage s; where all devices are alike, there is one row, and no index for it."""
    if values.ndim == 1:
        return values[i]
    return values[s, i]


@inner
def _runs(work, s, v):  # type: ignore[no-untyped-def]
    """Whether stage s can run node v."""
    if work.ndim == 1:
        return True
    return work[s, v] < INFEASIBLE


@inner
def _overflow(h, s, held):  # type: ignore[no-untyped-def]
    """Nanoseconds to stream what stage s does not hold of so many bytes."""
    return streamed(_of(h.memory, s), _of(h.ns_per_byte, s), held)


@kernel
def reset(h, w):  # type: ignore[no-untyped-def]
    """Recompute everything from ``w.stage``."""
    k = w.cost.shape[0]
    for s in range(k):
        w.cost[s] = w.held[s] = w.top[s] = w.filled[s] = 0
        for t in range(h.always.shape[0]):
            w.inside[t, s] = 0
        for g in range(h.group_bytes.shape[0]):
            w.users[g, s] = 0
    for v in range(w.stage.shape[0]):
        s = w.stage[v]
        w.cost[s] += _at(h.work, s, v)
        w.top[s] = max(w.top[s], _at(h.need, s, v))
        w.slot[v] = w.filled[s]
        w.nodes[s, w.filled[s]] = v
        w.filled[s] += 1
        for a in range(h.node_ptr[v], h.node_ptr[v + 1]):
            w.inside[h.node_net[a], s] += 1
        for a in range(h.use_ptr[v], h.use_ptr[v + 1]):
            w.users[h.use_group[a], s] += 1
    for s in range(k):
        for t in range(h.always.shape[0]):
            inside = w.inside[t, s]
            if inside > 0 and (h.always[t] or inside < h.net_ptr[t + 1] - h.net_ptr[t]):
                w.cost[s] += _at(h.cost, s, t)
        for g in range(h.group_bytes.shape[0]):
            if w.users[g, s] > 0:
                w.held[s] += h.group_bytes[g]
        w.cost[s] += _overflow(h, s, w.held[s] + w.top[s]) + (_of(h.alpha, s) if w.filled[s] else 0)


@inner
def random(rng):  # type: ignore[no-untyped-def]
    """Next 64 random bits (xorshift64*)."""
    x = rng[0]
    x ^= x >> np.uint64(12)
    x ^= x << np.uint64(25)
    x ^= x >> np.uint64(27)
    rng[0] = x
    return x * np.uint64(2685821657736338717)


@inner
def below(rng, n):  # type: ignore[no-untyped-def]
    """Random integer in range(n)."""
    return np.int64((random(rng) >> np.uint64(33)) % np.uint64(n))


@inner
def _top_without(h, w, v, a):  # type: ignore[no-untyped-def]
    """Largest need in stage a once v has left it."""
    if _at(h.need, a, v) < w.top[a] or w.top[a] == 0:
        return w.top[a]
    top = np.int64(0)
    for i in range(w.filled[a]):
        u = w.nodes[a, i]
        if u != v:
            top = max(top, _at(h.need, a, u))
            if top == w.top[a]:
                break
    return top


@inner
def _deltas(h, w, v, a, b):  # type: ignore[no-untyped-def]
    """Change of cost of stages a and b, and of their parameter bytes, when v moves from a to b."""
    da, db = -_at(h.work, a, v), _at(h.work, b, v)
    for e in range(h.node_ptr[v], h.node_ptr[v + 1]):
        t = h.node_net[e]
        ca, cb = _at(h.cost, a, t), _at(h.cost, b, t)
        in_a, in_b = w.inside[t, a], w.inside[t, b]
        size = h.net_ptr[t + 1] - h.net_ptr[t]
        if h.always[t]:
            if in_a == 1:
                da -= ca
            if in_b == 0:
                db += cb
        else:
            if in_a == size:
                da += ca  # size > 1: the rest stays behind
            elif in_a == 1:
                da -= ca
            if in_b == 0:
                db += cb
            elif in_b == size - 1:
                db -= cb
    ha, hb = np.int64(0), np.int64(0)
    for e in range(h.use_ptr[v], h.use_ptr[v + 1]):
        g = h.use_group[e]
        if w.users[g, a] == 1:
            ha -= h.group_bytes[g]
        if w.users[g, b] == 0:
            hb += h.group_bytes[g]
    da += _overflow(h, a, w.held[a] + ha + _top_without(h, w, v, a)) - _overflow(h, a, w.held[a] + w.top[a])
    top = max(w.top[b], _at(h.need, b, v))
    db += _overflow(h, b, w.held[b] + hb + top) - _overflow(h, b, w.held[b] + w.top[b])
    if w.filled[a] == 1:
        da -= _of(h.alpha, a)
    if w.filled[b] == 0:
        db += _of(h.alpha, b)
    return da, db, ha, hb


@inner
def _shift(h, w, v, a, b):  # type: ignore[no-untyped-def]
    """Move v from stage a to stage b; costs are the caller's."""
    w.top[a] = _top_without(h, w, v, a)
    w.top[b] = max(w.top[b], _at(h.need, b, v))
    w.filled[a] -= 1
    last = w.nodes[a, w.filled[a]]
    w.nodes[a, w.slot[v]] = last
    w.slot[last] = w.slot[v]
    w.slot[v] = w.filled[b]
    w.nodes[b, w.filled[b]] = v
    w.filled[b] += 1
    w.stage[v] = b
    for e in range(h.node_ptr[v], h.node_ptr[v + 1]):
        w.inside[h.node_net[e], a] -= 1
        w.inside[h.node_net[e], b] += 1
    for e in range(h.use_ptr[v], h.use_ptr[v + 1]):
        w.users[h.use_group[e], a] -= 1
        w.users[h.use_group[e], b] += 1


@inner
def _excess(cost, aim):  # type: ignore[no-untyped-def]
    return float(cost - aim) if cost > aim else 0.0


@kernel
def anneal(h, w, aim, limit, hot, cold, moves, exactly):  # type: ignore[no-untyped-def]
    """Walk until every stage costs at most ``limit`` or the moves are used up.

    Parameters
    ----------
    h : Hypergraph
    w : Walk
        Changed in place.
    aim, limit : int
        In nanoseconds; see the module's docstring.
    hot, cold : float
        First and last temperature, in squared nanoseconds.
    moves : int
    exactly : bool
        Leave no stage empty.

    Returns
    -------
    bool
        Whether every stage is within the limit.
    """
    n, k = w.stage.shape[0], w.cost.shape[0]
    above = 0
    worst = 0
    for s in range(k):
        if w.cost[s] > limit:
            above += 1
        if w.cost[s] > w.cost[worst]:
            worst = s
    temperature = hot
    cooling = (cold / hot) ** (1.0 / max(moves, 1))
    for step in range(moves):
        if above == 0:
            return True
        temperature *= cooling
        if step & 255 == 0:
            for s in range(k):
                if w.cost[s] > w.cost[worst]:
                    worst = s
        # Every second move takes a node of the costliest stage, every fourth of another stage above the aim.
        if step & 1:
            a = worst
            if step & 2:
                for _ in range(4):
                    other = below(w.rng, k)
                    if w.cost[other] > aim:
                        a = other
                        break
            if w.filled[a] == 0:
                continue
            v = np.int64(w.nodes[a, below(w.rng, w.filled[a])])
        else:
            v = below(w.rng, n)
            a = w.stage[v]
        if h.pin[v] >= 0 or (exactly and w.filled[a] == 1):
            continue
        low, high = np.int64(0), np.int64(k - 1)
        for e in range(h.pred_ptr[v], h.pred_ptr[v + 1]):
            low = max(low, w.stage[h.pred[e]])
        for e in range(h.succ_ptr[v], h.succ_ptr[v + 1]):
            high = min(high, w.stage[h.succ[e]])
        if low == high:
            continue
        b = low + below(w.rng, high - low)
        if b >= a:
            b += 1
        if not _runs(h.work, b, v):
            continue
        da, db, ha, hb = _deltas(h, w, v, a, b)
        change = (
            _excess(w.cost[a] + da, aim) ** 2
            - _excess(w.cost[a], aim) ** 2
            + _excess(w.cost[b] + db, aim) ** 2
            - _excess(w.cost[b], aim) ** 2
        )
        if change > 0:
            chance = np.float64(random(w.rng) >> np.uint64(11)) / 9007199254740992.0
            if chance >= np.exp(-change / temperature):
                continue
        above += (
            (w.cost[a] + da > limit) - (w.cost[a] > limit) + (w.cost[b] + db > limit) - (w.cost[b] > limit)
        )
        w.cost[a] += da
        w.cost[b] += db
        w.held[a] += ha
        w.held[b] += hb
        _shift(h, w, v, a, b)
        if w.cost[b] > w.cost[worst]:
            worst = b
    return above == 0
