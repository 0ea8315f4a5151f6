"""Exhaustive search over ideals: is there a partition with every stage cost <= limit?

A partition is a chain of ideals (downsets) I_0 = {} < I_1 < ... < I_k = V; stage b is I_{b+1} \\ I_b. The
search goes breadth first by the number of stages used. From an ideal I it enumerates every larger ideal J
once: walk the available nodes in a fixed order and decide include / exclude; excluding a node excludes its
descendants. Costs change in O(degree) per decision. Let L = limit - alpha, S = J \\ I, R the number of stages
left after S, D the descendants of excluded nodes.

* **P1** work(S) + what S pays whatever is still included (tensors with a member in I or in D, or of the
  host)
  + overflow > L: no extension fits.
* **P2** keep J only if work(V \\ J) + live(J) + overflow(all parameters still needed, R M) <= R L, where
  live(J) sums c over tensors with a member outside J that also have one inside or belong to the host: some
  later stage pays each of them.
* **P3** work(D) + c(tensors with a member in J and one in D) > R L: the excluded part cannot be finished.
* **P4** v is in a stage <= k - ceil(work(descendants of v) / L), so it cannot be excluded later than that. A
  pinned node is included in its own stage only and excluded only before.
* **Saturation** drop J if an available unpinned x outside J has cost(S + x) <= limit, and taking x out of any
  later stage q cannot raise q: sum of c over nets of x without member in J, two members or more, not of the
  host <= work(x) + sum of c over nets of x whose other members are all in J. Then every completion of J is
  one of J + x too, which is enumerated from the same I.

The activations of S count as the largest need of a node in it, a lower bound of peak(S) that only grows
with S: "none" holds for the true objective too, a partition has to be evaluated by it.

Visited ideals are found by Zobrist hash with full comparison; an ideal counts at the first level at which it
appears. The search is exact: it ends with a partition, with "none", or by saying that its budget ran out.

The enumeration is this project's own; ideals as states are classical in exact pipeline partitioning
(Tarnawski et al. 2020, section 5).
"""

from __future__ import annotations

import numpy as np

from onnx_pipeline.graph.costgraph import IntArray
from onnx_pipeline.graph.target import INFEASIBLE
from onnx_pipeline.partition.ideals.state import (
    ACTIVE,
    CROSSING,
    DOOMED,
    FIXED,
    FLAGS,
    HELD,
    INSIDE,
    INSIDE_WORK,
    LIVE,
    NEEDED,
    PENDING,
    WORK,
    drop,
    include,
    load,
    remove,
    unflag,
)
from onnx_pipeline.partition.ideals.table import insert
from onnx_pipeline.partition.jit import inner, kernel
from onnx_pipeline.partition.search.tapes import overflow

DONE, FOUND, BUDGET, GROW = range(4)
#: Where a search stands: the ideal to go on from, ideals in all, decisions left, level and end of its ideals.
FIRST, COUNT, BUDGET_LEFT, LEVEL, LAST = range(5)
EVERYTHING = 1 << 60


@inner
def rest(h, s, total_work, left):  # type: ignore[no-untyped-def]
    """P2: what the stages after S pay together at least."""
    rest = total_work - s.x[INSIDE_WORK] + s.x[LIVE]
    if s.x[NEEDED] > left * h.memory and h.ns_per_byte < 0:
        return np.int64(2 * INFEASIBLE)
    if s.x[NEEDED] > left * h.memory:
        # Each stage rounds its overflow down on its own.
        rest += max(0, np.int64((s.x[NEEDED] - left * h.memory) * h.ns_per_byte) - left)
    return rest


@inner
def dominated(h, s, avail, choice, depth, size, room):  # type: ignore[no-untyped-def]
    """Saturation: whether some available node outside J can join S at no later loss."""
    base = s.x[WORK] + s.x[FIXED] + s.x[PENDING]
    for p in range(size):
        y = avail[p]
        if (p < depth and choice[p] == 1) or h.pin[y] >= 0:
            continue
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
        if cost + overflow(h, held + max(s.x[ACTIVE], h.need[y])) <= room:
            return True
    return False


@inner
def _too_late(ideal, must_by, level):  # type: ignore[no-untyped-def]
    """Whether a node outside the ideal should have been placed before this level."""
    for v in range(must_by.shape[0]):
        if must_by[v] < level and not (ideal[v >> 6] >> np.uint64(v & 63) & np.uint64(1)):
            return True
    return False


@inner
def frontier(h, s, rank):  # type: ignore[no-untyped-def]
    """List the nets that are live at I and the nodes available after I; return both counts."""
    borders = np.int64(0)
    for t in range(h.cost.shape[0]):
        if 0 < s.in_j[t] < h.net_ptr[t + 1] - h.net_ptr[t]:
            s.border[borders] = t
            borders += 1
    size = np.int64(0)
    for v in range(h.work.shape[0]):
        if s.waiting[v] == 0 and not (s.current[v >> 6] >> np.uint64(v & 63) & np.uint64(1)):
            at = size  # insertion by rank: few nodes are available at once
            while at > 0 and rank[s.avail[at - 1]] > rank[v]:
                s.avail[at] = s.avail[at - 1]
                at -= 1
            s.avail[at] = v
            size += 1
    return borders, size


@kernel
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
        DONE; FOUND (the last ideal of the table is V); BUDGET; GROW (enlarge the table). After the last two
        the state is paused: call again from ``counters[0]`` with the same state to go on.
    """
    n = h.work.shape[0]
    left = k - level - 1
    room = limit - h.alpha
    # All stages left together. A product of large limits could overflow; no partition that keeps hard limits
    # comes near the cap.
    rooms = left * room if room <= INFEASIBLE // max(left, 1) else np.int64(INFEASIBLE)
    total_work = np.int64(0)
    for v in range(n):
        total_work += h.rest_work[v]
    border, avail, choice = s.border, s.avail, s.choice
    size_before, flags_before, need_before = s.size_before, s.flags_before, s.need_before
    dropped, dropped_work, must_by = s.dropped, s.dropped_work, s.must_by
    for v in range(n):
        must_by[v] = k + (-static.desc_work[v] // max(room, 1))
        if h.pin[v] >= 0:
            must_by[v] = min(must_by[v], h.pin[v])
    for start in range(first, last):
        if s.paused[0]:
            s.paused[0] = 0
            borders, size, base_count = s.paused[1], s.paused[2], s.paused[3]
            depth, drops, forward = s.paused[4], s.paused[5], s.paused[6] == 1
            key = table.keys[start]
            for d in range(depth):
                if choice[d] == 1:
                    key ^= static.zobrist[avail[d]]
        else:
            if _too_late(table.ideals[start], must_by, level):
                continue
            load(h, s, table.ideals[start])
            borders, size = frontier(h, s, static.rank)
            key = table.keys[start]
            base_count = count
            depth = drops = np.int64(0)
            forward = True
        while True:
            if budget <= 0 or count == table.keys.shape[0]:
                s.paused[0], s.paused[1], s.paused[2], s.paused[3] = 1, borders, size, base_count
                s.paused[4], s.paused[5], s.paused[6] = depth, drops, 1 if forward else 0
                counters[0], counters[1], counters[2] = start, count, max(budget, 0)
                return BUDGET if budget <= 0 else GROW
            if forward and depth < size:
                v = avail[depth]
                budget -= 1
                choice[depth], size_before[depth], flags_before[depth] = 1, size, s.x[FLAGS]
                need_before[depth] = s.x[ACTIVE]
                size = include(h, s, v, dropped[drops], avail, size)
                key ^= static.zobrist[v]
                depth += 1
                over = overflow(h, s.x[HELD] + s.x[ACTIVE])
                if (
                    0 <= h.pin[v] != level
                    or s.x[WORK] + s.x[FIXED] + s.x[DOOMED] + over > room
                    or (dropped_work[drops] + s.x[CROSSING] > rooms)
                ):
                    forward = False  # P1, P3
                    continue
                if (
                    s.x[WORK] + s.x[FIXED] + s.x[PENDING] + over > room
                    or rest(h, s, total_work, left) > rooms
                    or dominated(h, s, avail, choice, depth, size, room)
                ):
                    continue
                score = s.x[INSIDE_WORK] - np.int64(beta * s.x[LIVE])
                if insert(table, count, s.current, key, start, score, level):
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
                unflag(h, s, flags_before[depth])
                if choice[depth] == 0:
                    drops -= 1
                    continue
                remove(h, s, v, need_before[depth])
                key ^= static.zobrist[v]
                size = size_before[depth]
                if must_by[v] <= level:
                    continue  # P4
                budget -= 1
                dropped_work[drops + 1] = dropped_work[drops] + drop(
                    h, static, s, v, dropped[drops], dropped[drops + 1], border, borders
                )
                if dropped_work[drops + 1] + s.x[CROSSING] > rooms or (
                    s.x[WORK] + s.x[FIXED] + s.x[DOOMED] + overflow(h, s.x[HELD] + s.x[ACTIVE]) > room
                ):
                    unflag(h, s, flags_before[depth])  # P3, P1
                    continue
                drops += 1
                choice[depth] = 0
                depth += 1
                forward = True
            if not forward:
                break
    counters[0], counters[1], counters[2] = last, count, budget
    return DONE


def bottom() -> IntArray:
    """Return where a search begins: at the empty ideal, which takes no stage."""
    return np.array([0, 1, 0, 0, 1], dtype=np.int64)


@kernel
def climb(h, static, table, s, k, limit, budget, at):  # type: ignore[no-untyped-def]
    """Expand level after level, all in one call: most levels of most questions hold a few ideals.

    Parameters
    ----------
    h, static, table, s, k, limit, budget
        As for :func:`expand`.
    at : int64[5], changed
        Where the search stands, see ``FIRST`` and the names next to it.

    Returns
    -------
    int
        DONE when nothing is left to expand: there is no such partition; else as for :func:`expand`.
    """
    pinned = False
    for v in range(h.pin.shape[0]):
        pinned = pinned or h.pin[v] >= 0
    at[BUDGET_LEFT] = budget
    while at[LEVEL] < k:
        if at[FIRST] < at[LAST]:
            status = expand(
                h, static, table, s, at[FIRST], at[LAST], at[COUNT], at[LEVEL], k, limit, at[BUDGET_LEFT],
                EVERYTHING, 0.0, at,
            )  # fmt: skip
            if status != DONE:
                return status
        if at[LAST] == at[COUNT] and not pinned:
            break
        at[LEVEL] += 1
        # Stages before a pinned one may stay empty, so ideals of all levels go on.
        at[FIRST], at[LAST] = (0 if pinned else at[LAST]), at[COUNT]
    return DONE
