"""Exhaustive search over ideals: is there a partition with every stage cost <= limit?

A partition is a chain of ideals (downsets) I_0 = {} < I_1 < ... < I_k = V; stage b is I_{b+1} \\ I_b. The
search goes breadth first by the number of stages used. From an ideal I it enumerates every larger ideal J
once: walk the available nodes in a fixed order and decide include / exclude; excluding a node excludes its
descendants. Costs change in O(degree) per decision. Let L = limit - alpha, S = J \\ I, R the number of stages
left after S, D the descendants of excluded nodes.

* **P1** work(S) + what S pays whatever is still included (tensors with a member in I, or in D, or of the host)
  + overflow > L: no extension fits.
* **P2** keep J only if work(V \\ J) + live(J) + overflow(all parameters still needed, R M) <= R L, where
  live(J) sums c over tensors with a member outside J that also have one inside or belong to the host: some
  later stage pays each of them.
* **P3** work(D) + c(tensors with a member in J and one in D) > R L: the excluded part cannot be finished.
* **P4** v is in a stage <= k - ceil(work(descendants of v) / L), so it cannot be excluded later than that.
* **Saturation** drop J if an available x outside J has cost(S + x) <= limit, and taking x out of any later
  stage q cannot raise q: sum of c over nets of x without member in J, at least two members and not of the host
  <= work(x) + sum of c over nets of x whose other members are all in J. Then every completion of J becomes
  one of J + x, which is enumerated from the same I.

Visited ideals are found by Zobrist hash with full comparison; an ideal counts at the first level at which it
appears. The search is exact: it ends with a partition, with "none", or by saying that its budget ran out.

The enumeration is this project's own; ideals as states are classical in exact pipeline partitioning
(Tarnawski et al. 2020, section 5).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from numba import njit

from onnx_pipeline.graph import BoolArray, IntArray
from onnx_pipeline.partition.hypergraph import Hypergraph

WordArray = npt.NDArray[np.uint64]

DONE, FOUND, BUDGET, GROW = range(4)


class Static(NamedTuple):
    """What the search precomputes once per hypergraph."""

    words: int
    desc: WordArray  # [n, words] descendants, the node included
    word_work: IntArray  # [n, words] work of the descendants in each word
    desc_work: IntArray  # [n]
    rank: IntArray  # [n] position among available nodes: most work below first
    zobrist: WordArray  # [n]


class Table(NamedTuple):
    """Visited ideals and the hash table over them; ``count`` and friends live in ``counters``."""

    ideals: WordArray  # [capacity, words]
    keys: WordArray  # [capacity] Zobrist hashes
    parent: IntArray  # [capacity]
    slots: IntArray  # [2 * capacity, power of two] index or -1
    score: IntArray  # [capacity] work inside minus live, for the beam


@njit(cache=True, nogil=True, inline="always")
def _bit(low):  # type: ignore[no-untyped-def]
    """Index of the only bit of a word."""
    i = 0
    if low & np.uint64(0xFFFFFFFF00000000):
        i += 32
    if low & np.uint64(0xFFFF0000FFFF0000):
        i += 16
    if low & np.uint64(0xFF00FF00FF00FF00):
        i += 8
    if low & np.uint64(0xF0F0F0F0F0F0F0F0):
        i += 4
    if low & np.uint64(0xCCCCCCCCCCCCCCCC):
        i += 2
    if low & np.uint64(0xAAAAAAAAAAAAAAAA):
        i += 1
    return i


@njit(cache=True, nogil=True)
def _descendants(h, order, words):  # type: ignore[no-untyped-def]
    n = h.work.shape[0]
    desc = np.zeros((n, words), np.uint64)
    word_work = np.zeros((n, words), np.int64)
    for i in range(n - 1, -1, -1):
        v = order[i]
        desc[v, v >> 6] |= np.uint64(1) << np.uint64(v & 63)
        for a in range(h.succ_ptr[v], h.succ_ptr[v + 1]):
            for w in range(words):
                desc[v, w] |= desc[h.succ[a], w]
        for w in range(words):
            x = desc[v, w]
            while x:
                low = x & (~x + np.uint64(1))
                word_work[v, w] += h.work[(w << 6) + _bit(low)]
                x ^= low
    return desc, word_work


@njit(cache=True, nogil=True)
def _topological(h):  # type: ignore[no-untyped-def]
    n = h.work.shape[0]
    waiting, order = np.empty(n, np.int64), np.empty(n, np.int64)
    for v in range(n):
        waiting[v] = h.pred_ptr[v + 1] - h.pred_ptr[v]
    size = 0
    for v in range(n):
        if waiting[v] == 0:
            order[size] = v
            size += 1
    done = 0
    while done < size:
        v = order[done]
        done += 1
        for a in range(h.succ_ptr[v], h.succ_ptr[v + 1]):
            waiting[h.succ[a]] -= 1
            if waiting[h.succ[a]] == 0:
                order[size] = h.succ[a]
                size += 1
    return order


def prepare(h: Hypergraph) -> Static:
    """Precompute descendants and hashes; O(n^2 / 64) words of memory."""
    n = len(h.work)
    words = max(1, -(-n // 64))
    desc, word_work = _descendants(h, _topological(h), words)
    desc_work = word_work.sum(axis=1)
    rank = np.empty(n, dtype=np.int64)
    rank[np.argsort(-desc_work, kind="stable")] = np.arange(n)
    zobrist = np.random.default_rng(0).integers(1, 2**63, n, dtype=np.uint64)
    return Static(words, desc, word_work, desc_work, rank, zobrist)


def new_table(words: int, capacity: int) -> Table:
    """Return an empty table that holds the empty ideal."""
    slots = 1 << int(2 * capacity - 1).bit_length()
    table = Table(
        np.zeros((capacity, words), dtype=np.uint64),
        np.zeros(capacity, dtype=np.uint64),
        np.full(capacity, -1, dtype=np.int64),
        np.full(slots, -1, dtype=np.int64),
        np.zeros(capacity, dtype=np.int64),
    )
    table.slots[0] = 0
    return table


def grow(table: Table, count: int) -> Table:
    """Return a table of twice the capacity with the same ideals."""
    bigger = new_table(table.ideals.shape[1], 2 * len(table.keys))
    for old, new in ((table.ideals, bigger.ideals), (table.keys, bigger.keys), (table.parent, bigger.parent)):
        new[:count] = old[:count]
    bigger.score[:count] = table.score[:count]
    bigger.slots[:] = -1
    rehash(bigger, count)
    return bigger


@njit(cache=True, nogil=True)
def rehash(table, count):  # type: ignore[no-untyped-def]
    """Enter the first ``count`` ideals into empty slots."""
    mask = np.uint64(table.slots.shape[0] - 1)
    for i in range(count):
        s = np.int64(table.keys[i] & mask)
        while table.slots[s] >= 0:
            s = (s + 1) & np.int64(mask)
        table.slots[s] = i


@njit(cache=True, nogil=True)
def _insert(table, count, current, key, parent, score):  # type: ignore[no-untyped-def]
    """Add an ideal unless it is there; return whether it was new."""
    mask = np.int64(table.slots.shape[0] - 1)
    s = np.int64(key & np.uint64(mask))
    words = current.shape[0]
    while True:
        i = table.slots[s]
        if i < 0:
            break
        if table.keys[i] == key:
            same = True
            for w in range(words):
                if table.ideals[i, w] != current[w]:
                    same = False
                    break
            if same:
                return False
        s = (s + 1) & mask
    table.slots[s] = count
    for w in range(words):
        table.ideals[count, w] = current[w]
    table.keys[count] = key
    table.parent[count] = parent
    table.score[count] = score
    return True


class State(NamedTuple):
    """Where the enumeration stands; scalars live in ``x`` under the names below."""

    x: IntArray  # [12] scalars
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
    dropped: WordArray  # [n + 1, words] D after each exclusion on the path
    dropped_work: IntArray  # [n + 1]
    must_by: IntArray  # [n] P4: latest stage of each node


def new_state(h: Hypergraph, words: int) -> State:
    """Allocate the enumeration's working memory once per question."""
    n, m, groups = len(h.work), len(h.cost), len(h.group_bytes)

    def ints(size: int) -> IntArray:
        return np.zeros(size, dtype=np.int64)

    return State(
        ints(12), ints(m), ints(m), ints(groups), ints(groups), ints(n), np.zeros(words, dtype=np.uint64),
        ints(m), np.zeros(m, dtype=np.bool_), ints(m), ints(m), ints(n), ints(n + 1), ints(n + 1), ints(n + 1),
        np.zeros((n + 1, words), dtype=np.uint64), ints(n + 1), ints(n),
    )  # fmt: skip


# Scalars of State: totals that the prunings need, all in nanoseconds or bytes.
WORK, INSIDE_WORK, INSIDE, FIXED, PENDING, LIVE, HELD, NEEDED, DOOMED, CROSSING, TOUCHED, FLAGS = range(12)


@njit(cache=True, nogil=True)
def _load(h, s, ideal):  # type: ignore[no-untyped-def]
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
            s.x[INSIDE_WORK] += h.work[v]
            s.x[INSIDE] += 1
            for a in range(h.node_ptr[v], h.node_ptr[v + 1]):
                s.in_j[h.node_net[a]] += 1
            for a in range(h.use_ptr[v], h.use_ptr[v + 1]):
                s.used_j[h.use_group[a]] += 1
            for a in range(h.succ_ptr[v], h.succ_ptr[v + 1]):
                s.waiting[h.succ[a]] -= 1
    for t in range(h.cost.shape[0]):
        if s.in_j[t] < h.net_ptr[t + 1] - h.net_ptr[t] and (s.in_j[t] > 0 or h.always[t]):
            s.x[LIVE] += h.cost[t]
    for g in range(h.group_bytes.shape[0]):
        if s.used_j[g] < h.group_users[g]:
            s.x[NEEDED] += h.group_bytes[g]


@njit(cache=True, nogil=True)
def _meets(h, t, dropped):  # type: ignore[no-untyped-def]
    """Whether net t has a member in D."""
    for a in range(h.net_ptr[t], h.net_ptr[t + 1]):
        v = h.members[a]
        if dropped[v >> 6] >> np.uint64(v & 63) & np.uint64(1):
            return True
    return False


@njit(cache=True, nogil=True)
def _flag(h, s, t):  # type: ignore[no-untyped-def]
    """Net t reaches from J into D: some later stage pays it, and S too if no earlier stage touches it."""
    s.flagged[t] = True
    s.flag_stack[s.x[FLAGS]] = t
    s.x[FLAGS] += 1
    s.x[CROSSING] += h.cost[t]
    if not h.always[t] and s.in_j[t] == s.in_s[t]:
        s.x[DOOMED] += h.cost[t]


@njit(cache=True, nogil=True)
def _unflag(h, s, mark):  # type: ignore[no-untyped-def]
    """Take back all flags above ``mark``; to be called before memberships change."""
    while s.x[FLAGS] > mark:
        s.x[FLAGS] -= 1
        t = s.flag_stack[s.x[FLAGS]]
        s.flagged[t] = False
        s.x[CROSSING] -= h.cost[t]
        if not h.always[t] and s.in_j[t] == s.in_s[t]:
            s.x[DOOMED] -= h.cost[t]


@njit(cache=True, nogil=True)
def _include(h, s, v, dropped, avail, size):  # type: ignore[no-untyped-def]
    """Move v into S; newly available nodes are appended to ``avail``. Returns its new size."""
    s.x[WORK] += h.work[v]
    s.x[INSIDE_WORK] += h.work[v]
    s.x[INSIDE] += 1
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
                s.x[LIVE] += c
        s.in_s[t] += 1
        s.in_j[t] += 1
        if s.in_j[t] == h.net_ptr[t + 1] - h.net_ptr[t]:
            s.x[LIVE] -= c
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


@njit(cache=True, nogil=True)
def _remove(h, s, v):  # type: ignore[no-untyped-def]
    """Undo :func:`_include`; flags it set must be gone."""
    s.x[WORK] -= h.work[v]
    s.x[INSIDE_WORK] -= h.work[v]
    s.x[INSIDE] -= 1
    s.current[v >> 6] &= ~(np.uint64(1) << np.uint64(v & 63))
    for a in range(h.node_ptr[v], h.node_ptr[v + 1]):
        t = h.node_net[a]
        c = h.cost[t]
        old = s.in_j[t] - s.in_s[t]
        if s.in_j[t] == h.net_ptr[t + 1] - h.net_ptr[t]:
            s.x[LIVE] += c
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
                s.x[LIVE] -= c
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


@njit(cache=True, nogil=True)
def _drop(h, static, s, v, before, after, border, borders):  # type: ignore[no-untyped-def]
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
                added += h.work[(w << 6) + _bit(low)]
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


@njit(cache=True, nogil=True)
def _overflow(h, held):  # type: ignore[no-untyped-def]
    return np.int64((held - h.memory) * h.ns_per_byte) if held > h.memory else np.int64(0)


@njit(cache=True, nogil=True)
def _rest(h, s, total_work, left):  # type: ignore[no-untyped-def]
    """P2: what the stages after S pay together at least."""
    rest = total_work - s.x[INSIDE_WORK] + s.x[LIVE]
    if s.x[NEEDED] > left * h.memory:
        # Each stage rounds its overflow down on its own.
        rest += max(0, np.int64((s.x[NEEDED] - left * h.memory) * h.ns_per_byte) - left)
    return rest


@njit(cache=True, nogil=True)
def _dominated(h, s, avail, choice, depth, size, room):  # type: ignore[no-untyped-def]
    """Saturation: whether some available node outside J can join S at no later loss."""
    base = s.x[WORK] + s.x[FIXED] + s.x[PENDING]
    for p in range(size):
        if p < depth and choice[p] == 1:
            continue
        y = avail[p]
        cost = base + h.work[y]
        loss = -h.work[y]
        for a in range(h.node_ptr[y], h.node_ptr[y + 1]):
            t = h.node_net[a]
            c = h.cost[t]
            last = s.in_j[t] + 1 == h.net_ptr[t + 1] - h.net_ptr[t]
            if s.in_s[t] == 0:
                if h.always[t] or not (last and s.in_j[t] == 0):
                    cost += c
            elif last and not h.always[t] and s.in_j[t] == s.in_s[t]:
                cost -= c
            if last:
                loss -= c
            elif s.in_j[t] == 0 and not h.always[t]:
                loss += c
        if loss > 0 or cost > room:
            continue
        held = s.x[HELD]
        for a in range(h.use_ptr[y], h.use_ptr[y + 1]):
            if s.used_s[h.use_group[a]] == 0:
                held += h.group_bytes[h.use_group[a]]
        if cost + _overflow(h, held) <= room:
            return True
    return False


@njit(cache=True, nogil=True)
def expand(h, static, table, s, first, last, count, level, k, limit, budget, keep, beta, counters):  # type: ignore[no-untyped-def]
    """Enumerate all successors of the ideals [first, last), which use ``level`` stages.

    Parameters
    ----------
    h, static, table, s : Hypergraph, Static, Table, State
    first, last : int
        Ideals to expand.
    count : int
        Number of ideals in the table.
    level, k : int
        Stages used by these ideals, and stages in all.
    limit : int
        Largest cost allowed, in nanoseconds.
    budget : int
        Decisions allowed.
    keep : int
        Successors kept per ideal (the beam); a large number for the exact search.
    beta : float
        Weight of live tensors in the beam's score.
    counters : int64[3], output
        Ideal to go on from, number of ideals, decisions left.

    Returns
    -------
    int
        DONE; FOUND (the last ideal of the table is V); BUDGET; GROW (enlarge the table). After the last two,
        call again from ``counters[0]``: ideals found twice are recognised.
    """
    n, m, words = h.work.shape[0], h.cost.shape[0], static.words
    left = k - level - 1
    room = limit - h.alpha
    total_work = np.int64(0)
    for v in range(n):
        total_work += h.work[v]
    border, avail, choice = s.border, s.avail, s.choice
    size_before, flags_before = s.size_before, s.flags_before
    dropped, dropped_work, must_by = s.dropped, s.dropped_work, s.must_by
    for v in range(n):
        must_by[v] = k + (-static.desc_work[v] // max(room, 1))
    for start in range(first, last):
        _load(h, s, table.ideals[start])
        borders = np.int64(0)
        for t in range(m):
            if 0 < s.in_j[t] < h.net_ptr[t + 1] - h.net_ptr[t]:
                border[borders] = t
                borders += 1
        size = np.int64(0)
        for v in range(n):
            if s.waiting[v] == 0 and not (s.current[v >> 6] >> np.uint64(v & 63) & np.uint64(1)):
                at = size  # insertion by rank: few nodes are available at once
                while at > 0 and static.rank[avail[at - 1]] > static.rank[v]:
                    avail[at] = avail[at - 1]
                    at -= 1
                avail[at] = v
                size += 1
        key = table.keys[start]
        base_count = count
        depth = drops = np.int64(0)
        forward = True
        while True:
            if budget <= 0:
                counters[0], counters[1], counters[2] = start, count, 0
                return BUDGET
            if forward and depth < size:
                v = avail[depth]
                budget -= 1
                choice[depth], size_before[depth], flags_before[depth] = 1, size, s.x[FLAGS]
                size = _include(h, s, v, dropped[drops], avail, size)
                key ^= static.zobrist[v]
                depth += 1
                over = _overflow(h, s.x[HELD])
                if s.x[WORK] + s.x[FIXED] + s.x[DOOMED] + over > room or (
                    dropped_work[drops] + s.x[CROSSING] > left * room
                ):
                    forward = False  # P1, P3
                    continue
                if (
                    s.x[WORK] + s.x[FIXED] + s.x[PENDING] + over > room
                    or _rest(h, s, total_work, left) > left * room
                    or _dominated(h, s, avail, choice, depth, size, room)
                ):
                    continue
                if count == table.keys.shape[0]:
                    counters[0], counters[1], counters[2] = start, count, budget
                    return GROW
                score = s.x[INSIDE_WORK] - np.int64(beta * s.x[LIVE])
                if _insert(table, count, s.current, key, start, score):
                    count += 1
                    if s.x[INSIDE] == n:
                        counters[0], counters[1], counters[2] = start, count, budget
                        return FOUND
                    if count - base_count >= keep:
                        break
                continue
            # Go back to the last inclusion and exclude that node instead.
            forward = False
            while depth > 0 and not forward:
                depth -= 1
                v = avail[depth]
                _unflag(h, s, flags_before[depth])
                if choice[depth] == 0:
                    drops -= 1
                    continue
                _remove(h, s, v)
                key ^= static.zobrist[v]
                size = size_before[depth]
                if must_by[v] <= level:
                    continue  # P4
                budget -= 1
                dropped_work[drops + 1] = dropped_work[drops] + _drop(
                    h, static, s, v, dropped[drops], dropped[drops + 1], border, borders
                )
                if dropped_work[drops + 1] + s.x[CROSSING] > left * room or (
                    s.x[WORK] + s.x[FIXED] + s.x[DOOMED] + _overflow(h, s.x[HELD]) > room
                ):
                    _unflag(h, s, flags_before[depth])  # P3, P1
                    continue
                drops += 1
                choice[depth] = 0
                depth += 1
                forward = True
            if not forward:
                break
    counters[0], counters[1], counters[2] = last, count, budget
    return DONE
