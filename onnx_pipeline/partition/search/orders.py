"""Topological orders: Kahn's algorithm with priorities, and a portfolio of good starting orders."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from onnx_pipeline.graph.costgraph import IntArray
from onnx_pipeline.partition.instance.instance import Instance
from onnx_pipeline.partition.jit import inner, kernel

#: Above this many nodes the greedy orders, which scan all available nodes, are left out.
GREEDY_LIMIT = 20_000


@kernel
def in_degrees(g):  # type: ignore[no-untyped-def]
    """Number of (tensor, producer inside the graph) pairs that each node waits for."""
    n = g.work.shape[0]
    waiting = np.zeros(n, np.int64)
    for v in range(n):
        for a in range(g.in_ptr[v], g.in_ptr[v + 1]):
            if g.net_prod[g.in_net[a]] >= 0:
                waiting[v] += 1
    return waiting


@inner
def _push(heap, size, keys, v):  # type: ignore[no-untyped-def]
    """Insert v into a binary heap ordered by (key, index)."""
    child = size
    while child > 0:
        up = (child - 1) >> 1
        w = heap[up]
        if keys[w] < keys[v] or (keys[w] == keys[v] and w < v):
            break
        heap[child] = w
        child = up
    heap[child] = v
    return size + 1


@inner
def _pop(heap, size, keys):  # type: ignore[no-untyped-def]
    """Remove and return the smallest element."""
    top = heap[0]
    size -= 1
    v = heap[size]
    hole = 0
    while True:
        child = 2 * hole + 1
        if child >= size:
            break
        right = child + 1
        if right < size:
            a, b = heap[right], heap[child]
            if keys[a] < keys[b] or (keys[a] == keys[b] and a < b):
                child = right
        w = heap[child]
        if keys[v] < keys[w] or (keys[v] == keys[w] and v < w):
            break
        heap[hole] = w
        hole = child
    heap[hole] = v
    return top, size


@kernel
def kahn(g, degrees, keys):  # type: ignore[no-untyped-def]
    """Topological order that always takes the available node with the smallest (key, index).

    Parameters
    ----------
    g : Instance
    degrees : int64[n]
        From :func:`in_degrees`; left unchanged.
    keys : float64[n]
        Priorities.

    Returns
    -------
    int64[n]
    """
    n = g.work.shape[0]
    waiting = degrees.copy()
    heap = np.empty(n, np.int64)
    order = np.empty(n, np.int64)
    size = 0
    for v in range(n):
        if waiting[v] == 0:
            size = _push(heap, size, keys, v)
    done = 0
    while size > 0:
        v, size = _pop(heap, size, keys)
        order[done] = v
        done += 1
        for a in range(g.out_ptr[v], g.out_ptr[v + 1]):
            t = g.out_net[a]
            for c in range(g.net_ptr[t], g.net_ptr[t + 1]):
                w = g.net_cons[c]
                waiting[w] -= 1
                if waiting[w] == 0:
                    size = _push(heap, size, keys, w)
    return order


@kernel
def levels(g, order):  # type: ignore[no-untyped-def]
    """Longest path from a source to each node, in edges; ``order`` is any topological order."""
    level = np.zeros(order.shape[0], np.int64)
    for v in order:
        for a in range(g.out_ptr[v], g.out_ptr[v + 1]):
            t = g.out_net[a]
            for c in range(g.net_ptr[t], g.net_ptr[t + 1]):
                w = g.net_cons[c]
                level[w] = max(level[w], level[v] + 1)
    return level


@kernel
def latest(g, order):  # type: ignore[no-untyped-def]
    """ALAP level: minus the longest path to a sink, in edges."""
    level = np.zeros(order.shape[0], np.int64)
    for i in range(order.shape[0] - 1, -1, -1):
        v = order[i]
        for a in range(g.out_ptr[v], g.out_ptr[v + 1]):
            t = g.out_net[a]
            for c in range(g.net_ptr[t], g.net_ptr[t + 1]):
                level[v] = min(level[v], level[g.net_cons[c]] - 1)
    return level


@kernel
def greedy(g, degrees, live_weight, recency_weight, work_weight):  # type: ignore[no-untyped-def]
    """List scheduling on what a cut right after the node would cost.

    Each step takes the available node with the smallest score: live_weight x the change of c over tensors
    that cross the cut, minus recency_weight x the step at which the node became available, plus
    work_weight x its work. (0, 1, 0) is depth-first (LIFO), (1, 0, 0) min-live, (0, -1, 0) breadth-first.
    """
    n = g.work.shape[0]
    m = g.net_cost.shape[0]
    waiting = degrees.copy()
    left = np.empty(m, np.int64)
    for t in range(m):
        left[t] = g.net_ptr[t + 1] - g.net_ptr[t] + (1 if g.net_pin[t] else 0)
    available = np.empty(n, np.int64)
    since = np.zeros(n, np.int64)
    size = 0
    for v in range(n):
        if waiting[v] == 0:
            available[size] = v
            size += 1
    order = np.empty(n, np.int64)
    for step in range(n):
        best, best_at = np.inf, 0
        for s in range(size):
            v = available[s]
            score = work_weight * g.work[v] - recency_weight * since[v]
            if live_weight != 0.0:
                live = np.int64(0)
                for a in range(g.out_ptr[v], g.out_ptr[v + 1]):
                    live += g.net_cost[g.out_net[a]]
                for a in range(g.in_ptr[v], g.in_ptr[v + 1]):
                    t = g.in_net[a]
                    if left[t] == 1 and g.net_prod[t] >= 0:
                        live -= g.net_cost[t]
                score += live_weight * live
            if score < best or (score == best and v < available[best_at]):
                best, best_at = score, s
        v = available[best_at]
        size -= 1
        available[best_at] = available[size]
        order[step] = v
        for a in range(g.in_ptr[v], g.in_ptr[v + 1]):
            left[g.in_net[a]] -= 1
        for a in range(g.out_ptr[v], g.out_ptr[v + 1]):
            t = g.out_net[a]
            for c in range(g.net_ptr[t], g.net_ptr[t + 1]):
                w = g.net_cons[c]
                waiting[w] -= 1
                if waiting[w] == 0:
                    available[size] = w
                    since[w] = step + 1
                    size += 1
    return order


def starting_orders(
    g: Instance, rng: np.random.Generator, randoms: int = 3
) -> Iterator[tuple[str, IntArray]]:
    """Yield (name, order): the best of these is optimal or close on most real graphs.

    Parameters
    ----------
    g : Instance
    rng : numpy.random.Generator
        For the random orders.
    randoms : int
        How many of them.
    """
    n = len(g.work)
    degrees = in_degrees(g)
    given = kahn(g, degrees, np.arange(n, dtype=np.float64))
    late = latest(g, given)
    yield "alap", kahn(g, degrees, late.astype(np.float64))
    yield "given", given
    yield "levels", kahn(g, degrees, levels(g, given).astype(np.float64))
    if n <= GREEDY_LIMIT:
        scale = float(np.mean(g.net_cost)) / 8 if len(g.net_cost) else 1.0
        yield "lifo", greedy(g, degrees, 0.0, 1.0, 0.0)
        yield "min-live", greedy(g, degrees, 1.0, 0.0, 0.0)
        yield "min-live-recent", greedy(g, degrees, 1.0, scale, 0.0)
        yield "min-live-work", greedy(g, degrees, 1.0, 0.0, -0.25)
    # The late half of the graph last, chains kept together: ALAP with the given order inside a level.
    yield "reverse", _reverse_order(g, late)
    for i in range(randoms):
        yield f"random-{i}", kahn(g, degrees, rng.random(n))


def _reverse_order(g: Instance, late: IntArray) -> IntArray:
    """Depth-first from the sinks, reversed: producers directly before their first consumer."""
    n = len(g.work)
    done = np.zeros(n, dtype=np.bool_)
    order: list[int] = []
    for root in np.argsort(late, kind="stable")[::-1]:
        stack: list[tuple[int, bool]] = [(int(root), False)]
        while stack:
            v, expanded = stack.pop()
            if expanded:
                order.append(v)
                continue
            if done[v]:
                continue
            done[v] = True
            stack.append((v, True))
            for t in g.in_net[g.in_ptr[v] : g.in_ptr[v + 1]]:
                u = int(g.net_prod[t])
                if u >= 0 and not done[u]:
                    stack.append((u, False))
    return np.array(order, dtype=np.int64)


def order_of(g: Instance, stage: IntArray) -> IntArray:
    """Return a topological order in which stages follow each other, for a valid partition."""
    return np.asarray(kahn(g, in_degrees(g), stage.astype(np.float64)), dtype=np.int64)


def keys_of(order: IntArray) -> npt.NDArray[np.float64]:
    """Random keys in [0, 1) whose Kahn decoding is the given topological order."""
    keys = np.empty(len(order))
    keys[order] = (np.arange(len(order)) + 0.5) / max(len(order), 1)
    return keys
