"""A graph laid out along an order, so that segments grow by one node in the time of its in-edges.

A *tape* is the graph rearranged along an order. For each in-edge of the node at position j it holds the
position of the previous reader of that tensor (its producer's position if there is none, -1 if that is the
host), and whether this is the last reader; with these a segment [i, j) grows by one node in O(indegree).

Activations grow along with it: what is live at every position of the segment, and its peak.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from onnx_pipeline.graph.costgraph import IntArray
from onnx_pipeline.graph.target import INFEASIBLE
from onnx_pipeline.partition.instance.instance import Instance
from onnx_pipeline.partition.jit import inner, kernel


class Tape(NamedTuple):
    """An instance laid out along a topological order; see the module's docstring."""

    work: IntArray  # [n] work of the node at each position
    gain: IntArray  # [n] c of its own outputs
    pin: IntArray  # [n] stage it must be in, or -1
    ptr: IntArray  # [n + 1] in-edges of each position
    prev: IntArray  # [p] previous reader (or producer) position, -1 for the host
    made: IntArray  # [p] producer position when this is the last reader, -1 otherwise
    cost: IntArray  # [p] c of the tensor
    group_ptr: IntArray  # [n + 1] parameter uses of each position
    group_prev: IntArray  # [q] position of the previous user, -1 if none
    group_bytes: IntArray  # [q]
    origin: IntArray  # [p] producer position, -1 for the host
    size: IntArray  # [p] bytes of the tensor
    own: IntArray  # [n] bytes of its own outputs
    need: IntArray  # [n] bytes that must be live at each position, whatever the segment
    counted: bool  # whether activations need memory
    memory: float
    ns_per_byte: float  # negative: a hard limit
    alpha: int


def make_tape(inst: Instance, order: IntArray) -> Tape:
    """Lay an instance out along a topological order: one O(n + m) sweep."""
    # The tuple gets its names here: a kernel that returned it with them would call Python, where Ctrl-C may
    # raise, and numba does not look whether that call failed.
    return Tape(*_fields(inst, order))


@inner
def lay_out(g, order):  # type: ignore[no-untyped-def]
    """:func:`make_tape` inside kernels."""
    n = g.work.shape[0]
    pos = np.empty(n, np.int64)
    for j in range(n):
        pos[order[j]] = j
    m = g.net_cost.shape[0]
    last = np.empty(m, np.int64)  # last reader; n when the host reads, so that it never closes
    seen = np.empty(m, np.int64)
    for t in range(m):
        last[t] = -1
        seen[t] = pos[g.net_prod[t]] if g.net_prod[t] >= 0 else -1
        if g.net_pin[t] or g.net_kept[t] or g.net_prod[t] < 0:
            last[t] = n
            continue
        for c in range(g.net_ptr[t], g.net_ptr[t + 1]):
            last[t] = max(last[t], pos[g.net_cons[c]])
    p = g.in_net.shape[0]
    work, gain, pin = np.empty(n, np.int64), np.zeros(n, np.int64), np.empty(n, np.int64)
    ptr, prev, made, cost = (
        np.empty(n + 1, np.int64),
        np.empty(p, np.int64),
        np.empty(p, np.int64),
        np.empty(p, np.int64),
    )
    origin, size, own = np.empty(p, np.int64), np.empty(p, np.int64), np.zeros(n, np.int64)
    need = np.empty(n, np.int64)
    q = g.use_group.shape[0]
    group_ptr, group_prev, group_bytes = (
        np.empty(n + 1, np.int64),
        np.empty(q, np.int64),
        np.empty(q, np.int64),
    )
    user = np.full(g.group_bytes.shape[0], -1, np.int64)
    e = h = 0
    counted = False
    for j in range(n):
        v = order[j]
        work[j], pin[j], ptr[j], group_ptr[j], need[j] = g.work[v], g.pin[v], e, h, g.need[v]
        counted = counted or need[j] > 0
        for a in range(g.in_ptr[v], g.in_ptr[v + 1]):
            t = g.in_net[a]
            prev[e], cost[e] = seen[t], g.net_cost[t]
            origin[e], size[e] = pos[g.net_prod[t]] if g.net_prod[t] >= 0 else -1, g.net_bytes[t]
            made[e] = origin[e] if last[t] == j else -1
            seen[t] = j
            e += 1
        for a in range(g.out_ptr[v], g.out_ptr[v + 1]):
            gain[j] += g.net_cost[g.out_net[a]]
            own[j] += g.net_bytes[g.out_net[a]]
        for a in range(g.use_ptr[v], g.use_ptr[v + 1]):
            s = g.use_group[a]
            group_prev[h], group_bytes[h] = user[s], g.group_bytes[s]
            user[s] = j
            h += 1
    ptr[n], group_ptr[n] = e, h
    return Tape(
        work,
        gain,
        pin,
        ptr,
        prev,
        made,
        cost,
        group_ptr,
        group_prev,
        group_bytes,
        origin,
        size,
        own,
        need,
        counted,
        g.memory,
        g.ns_per_byte,
        g.alpha,
    )


@kernel
def _fields(g, order):  # type: ignore[no-untyped-def]
    t = lay_out(g, order)
    return (
        t.work,
        t.gain,
        t.pin,
        t.ptr,
        t.prev,
        t.made,
        t.cost,
        t.group_ptr,
        t.group_prev,
        t.group_bytes,
        t.origin,
        t.size,
        t.own,
        t.need,
        t.counted,
        t.memory,
        t.ns_per_byte,
        t.alpha,
    )


@inner
def extend(tape, i, j, inner, out, held):  # type: ignore[no-untyped-def]
    """Add position j to the segment that starts at i: (work + input, output, parameter bytes)."""
    inner += tape.work[j]
    out += tape.gain[j]
    for e in range(tape.ptr[j], tape.ptr[j + 1]):
        if tape.prev[e] < i:
            inner += tape.cost[e]
        elif tape.made[e] >= i:
            out -= tape.cost[e]
    for e in range(tape.group_ptr[j], tape.group_ptr[j + 1]):
        if tape.group_prev[e] < i:
            held += tape.group_bytes[e]
    return inner, out, held


@inner
def occupy(tape, i, j, live, x):  # type: ignore[no-untyped-def]
    """Add position j to the activations of the segment that starts at i; return its peak in bytes.

    ``live[s] + x[0]`` is what is live at position s so far, ``x[1]`` what later positions inherit from the
    segment's own nodes, ``x[2]`` the peak. Reading a tensor from outside for the first time makes it live at
    every position so far, reading it again at those since. So the peak only grows with j, and adding a
    position takes its indegree, plus the distance to the last reader of each tensor from outside.
    """
    if j == i:
        x[0] = x[1] = x[2] = 0
    step = x[1] + tape.own[j]
    x[1] = step
    for e in range(tape.ptr[j], tape.ptr[j + 1]):
        size = tape.size[e]
        if tape.origin[e] >= i:
            if tape.made[e] >= 0:
                x[1] -= size
            continue
        step += size
        if tape.prev[e] < i:
            x[0] += size
            x[2] += size
        else:
            for s in range(tape.prev[e] + 1, j):
                live[s] += size
                x[2] = max(x[2], live[s] + x[0])
    step = max(step, tape.need[j])
    live[j] = step - x[0]
    x[2] = max(x[2], step)
    return x[2]


@inner
def overflow(g, held):  # type: ignore[no-untyped-def]
    """Nanoseconds to stream what does not fit of ``held`` bytes; g has memory and ns_per_byte."""
    return streamed(g.memory, g.ns_per_byte, held)


@inner
def streamed(memory, ns_per_byte, held):  # type: ignore[no-untyped-def]
    """Nanoseconds to stream what a memory does not hold of so many bytes."""
    if held <= memory:
        return np.int64(0)
    return np.int64((held - memory) * ns_per_byte) if ns_per_byte >= 0 else np.int64(INFEASIBLE)
