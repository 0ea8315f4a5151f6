"""The state of the ideal search: J = I + S, what S pays, what crosses, and how one node changes them."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from onnx_pipeline.graph.costgraph import BoolArray, IntArray
from onnx_pipeline.partition.ideals.table import WordArray, lowest_bit
from onnx_pipeline.partition.instance.hypergraph import Hypergraph
from onnx_pipeline.partition.jit import inner


class State(NamedTuple):
    """Where the enumeration stands; scalars live in ``x`` under the names below."""

    x: IntArray  # [13] scalars
    in_j: IntArray  # [m] members of each net in J
    in_s: IntArray  # [m] members in S
    used_j: IntArray  # [g]
    used_s: IntArray  # [g]
    waiting: IntArray  # [n] predecessors outside J
    current: WordArray  # [words] J
    touched: IntArray  # [m] nets with a member in S, in the order of touching
    flagged: BoolArray  # [m] nets known to be paid by S because of an exclusion, or live from I into D
    flag_stack: IntArray  # [m]
    border: IntArray  # [m] nets that are live at I
    avail: IntArray  # [n] nodes that are or were available on the current path
    choice: IntArray  # [n + 1] 1 = included, 0 = excluded, per depth
    size_before: IntArray  # [n + 1] available nodes before each inclusion
    flags_before: IntArray  # [n + 1]
    need_before: IntArray  # [n + 1] activations of S before each inclusion
    dropped: WordArray  # [n + 1, words] D after each exclusion on the path
    dropped_work: IntArray  # [n + 1]
    must_by: IntArray  # [n] P4: latest stage of each node
    paused: IntArray  # [7] where a paused enumeration stands; first entry 0 if it is not paused


def new_state(h: Hypergraph, words: int) -> State:
    """Allocate the enumeration's working memory once per question."""
    n, m, groups = len(h.work), len(h.cost), len(h.group_bytes)

    def ints(size: int) -> IntArray:
        return np.zeros(size, dtype=np.int64)

    return State(
        ints(13), ints(m), ints(m), ints(groups), ints(groups), ints(n), np.zeros(words, dtype=np.uint64),
        ints(m), np.zeros(m, dtype=np.bool_), ints(m), ints(m), ints(n), ints(n + 1), ints(n + 1),
        ints(n + 1), ints(n + 1), np.zeros((n + 1, words), dtype=np.uint64), ints(n + 1), ints(n), ints(7),
    )  # fmt: skip


# Scalars of State: totals that the prunings need, all in nanoseconds or bytes.
(
    WORK, INSIDE_WORK, INSIDE, FIXED, PENDING, LIVE, HELD, NEEDED, DOOMED, CROSSING, TOUCHED, FLAGS, ACTIVE,
) = range(13)  # fmt: skip


@inner
def load(h, s, ideal):  # type: ignore[no-untyped-def]
    """Set the state to J = I, S empty."""
    # Loops, here and below: numba compiles slice assignments ten times as slowly.
    for i in range(s.x.shape[0]):
        s.x[i] = 0
    for t in range(h.cost.shape[0]):
        s.in_j[t] = s.in_s[t] = 0
        s.flagged[t] = False
    for g in range(h.group_bytes.shape[0]):
        s.used_j[g] = s.used_s[g] = 0
    for w in range(ideal.shape[0]):
        s.current[w] = ideal[w]
    n = h.work.shape[0]
    for v in range(n):
        s.waiting[v] = h.pred_ptr[v + 1] - h.pred_ptr[v]
    for v in range(n):
        if ideal[v >> 6] >> np.uint64(v & 63) & np.uint64(1):
            s.x[INSIDE_WORK] += h.rest_work[v]
            s.x[INSIDE] += 1
            for a in range(h.node_ptr[v], h.node_ptr[v + 1]):
                s.in_j[h.node_net[a]] += 1
            for a in range(h.use_ptr[v], h.use_ptr[v + 1]):
                s.used_j[h.use_group[a]] += 1
            for a in range(h.succ_ptr[v], h.succ_ptr[v + 1]):
                s.waiting[h.succ[a]] -= 1
    for t in range(h.cost.shape[0]):
        if s.in_j[t] < h.net_ptr[t + 1] - h.net_ptr[t] and (s.in_j[t] > 0 or h.always[t]):
            s.x[LIVE] += h.rest_cost[t]
    for g in range(h.group_bytes.shape[0]):
        if s.used_j[g] < h.group_users[g]:
            s.x[NEEDED] += h.group_bytes[g]


@inner
def _meets(h, t, dropped):  # type: ignore[no-untyped-def]
    """Whether net t has a member in D."""
    for a in range(h.net_ptr[t], h.net_ptr[t + 1]):
        v = h.members[a]
        if dropped[v >> 6] >> np.uint64(v & 63) & np.uint64(1):
            return True
    return False


@inner
def _flag(h, s, t):  # type: ignore[no-untyped-def]
    """Net t reaches from J into D: some later stage pays it, and S too if no earlier stage touches it."""
    s.flagged[t] = True
    s.flag_stack[s.x[FLAGS]] = t
    s.x[FLAGS] += 1
    s.x[CROSSING] += h.rest_cost[t]
    if not h.always[t] and s.in_j[t] == s.in_s[t]:
        s.x[DOOMED] += h.cost[t]


@inner
def unflag(h, s, mark):  # type: ignore[no-untyped-def]
    """Take back all flags above ``mark``; to be called before memberships change."""
    while s.x[FLAGS] > mark:
        s.x[FLAGS] -= 1
        t = s.flag_stack[s.x[FLAGS]]
        s.flagged[t] = False
        s.x[CROSSING] -= h.rest_cost[t]
        if not h.always[t] and s.in_j[t] == s.in_s[t]:
            s.x[DOOMED] -= h.cost[t]


@inner
def include(h, s, v, dropped, avail, size):  # type: ignore[no-untyped-def]
    """Move v into S; newly available nodes are appended to ``avail``. Returns its new size."""
    s.x[WORK] += h.work[v]
    s.x[INSIDE_WORK] += h.rest_work[v]
    s.x[INSIDE] += 1
    s.x[ACTIVE] = max(s.x[ACTIVE], h.need[v])
    s.current[v >> 6] |= np.uint64(1) << np.uint64(v & 63)
    for a in range(h.node_ptr[v], h.node_ptr[v + 1]):
        t = h.node_net[a]
        c = h.cost[t]
        old = s.in_j[t] - s.in_s[t]
        if s.in_s[t] == 0:
            s.touched[s.x[TOUCHED]] = t
            s.x[TOUCHED] += 1
            if h.always[t] or old > 0:
                s.x[FIXED] += c
            else:
                s.x[PENDING] += c
                s.x[LIVE] += h.rest_cost[t]
        s.in_s[t] += 1
        s.in_j[t] += 1
        if s.in_j[t] == h.net_ptr[t + 1] - h.net_ptr[t]:
            s.x[LIVE] -= h.rest_cost[t]
            if not h.always[t] and old == 0:
                s.x[PENDING] -= c
        elif old == 0 and not h.always[t] and not s.flagged[t] and _meets(h, t, dropped):
            _flag(h, s, t)
    for a in range(h.use_ptr[v], h.use_ptr[v + 1]):
        g = h.use_group[a]
        if s.used_s[g] == 0:
            s.x[HELD] += h.group_bytes[g]
        s.used_s[g] += 1
        s.used_j[g] += 1
        if s.used_j[g] == h.group_users[g]:
            s.x[NEEDED] -= h.group_bytes[g]
    for a in range(h.succ_ptr[v], h.succ_ptr[v + 1]):
        y = h.succ[a]
        s.waiting[y] -= 1
        if s.waiting[y] == 0:
            avail[size] = y
            size += 1
    return size


@inner
def remove(h, s, v, need):  # type: ignore[no-untyped-def]
    """Undo :func:`include`; flags it set must be gone. ``need`` is what S's activations needed before."""
    s.x[ACTIVE] = need
    s.x[WORK] -= h.work[v]
    s.x[INSIDE_WORK] -= h.rest_work[v]
    s.x[INSIDE] -= 1
    s.current[v >> 6] &= ~(np.uint64(1) << np.uint64(v & 63))
    for a in range(h.node_ptr[v], h.node_ptr[v + 1]):
        t = h.node_net[a]
        c = h.cost[t]
        old = s.in_j[t] - s.in_s[t]
        if s.in_j[t] == h.net_ptr[t + 1] - h.net_ptr[t]:
            s.x[LIVE] += h.rest_cost[t]
            if not h.always[t] and old == 0:
                s.x[PENDING] += c
        s.in_s[t] -= 1
        s.in_j[t] -= 1
        if s.in_s[t] == 0:
            s.x[TOUCHED] -= 1
            if h.always[t] or old > 0:
                s.x[FIXED] -= c
            else:
                s.x[PENDING] -= c
                s.x[LIVE] -= h.rest_cost[t]
    for a in range(h.use_ptr[v], h.use_ptr[v + 1]):
        g = h.use_group[a]
        if s.used_j[g] == h.group_users[g]:
            s.x[NEEDED] += h.group_bytes[g]
        s.used_s[g] -= 1
        s.used_j[g] -= 1
        if s.used_s[g] == 0:
            s.x[HELD] -= h.group_bytes[g]
    for a in range(h.succ_ptr[v], h.succ_ptr[v + 1]):
        s.waiting[h.succ[a]] += 1


@inner
def drop(h, static, s, v, before, after, border, borders):  # type: ignore[no-untyped-def]
    """Exclude v: D grows by its descendants. Returns the work added; flags nets that now reach into D.

    ``border[:borders]`` are the nets that are live at I.
    """
    added = np.int64(0)
    for w in range(before.shape[0]):
        new = static.desc[v, w] & ~before[w]
        after[w] = before[w] | new
        if new == static.desc[v, w]:
            added += static.word_work[v, w]
        else:
            while new:
                low = new & (~new + np.uint64(1))
                added += h.rest_work[(w << 6) + lowest_bit(low)]
                new ^= low
    for i in range(borders):
        t = border[i]
        if not s.flagged[t] and s.in_j[t] < h.net_ptr[t + 1] - h.net_ptr[t] and _meets(h, t, after):
            _flag(h, s, t)
    for i in range(s.x[TOUCHED]):
        t = s.touched[i]
        if (
            not s.flagged[t]
            and not h.always[t]
            and s.in_j[t] == s.in_s[t]
            and s.in_j[t] < h.net_ptr[t + 1] - h.net_ptr[t]
            and _meets(h, t, after)
        ):
            _flag(h, s, t)
    return added
