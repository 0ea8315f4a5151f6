"""The walk of the exact search for fleets: from the ideals of one configuration, what one device may take.

The enumeration is that of :mod:`onnx_pipeline.partition.ideals.expand`, with the costs of the kind that the
next stage is on; :mod:`.ideals` says what is pruned, and why.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from onnx_pipeline.graph.costgraph import BoolArray, IntArray
from onnx_pipeline.graph.target import INFEASIBLE
from onnx_pipeline.partition.ideals.expand import BUDGET, DONE, FOUND, GROW, frontier
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
from onnx_pipeline.partition.ideals.table import find, insert
from onnx_pipeline.partition.jit import inner, kernel
from onnx_pipeline.partition.search.tapes import overflow

#: Where a walk stands: position among the ideals to go on from, ideals, states, decisions left.
AT, IDEALS, STATES, BUDGET_LEFT = range(4)


class States(NamedTuple):
    """Ideals with the configurations in which they are reached; a state's number is its index."""

    ideal: IntArray  # [capacity] number in the table
    configuration: IntArray  # [capacity]
    parent: IntArray  # [capacity]
    other: IntArray  # [capacity] the state of the same ideal before this one, or -1
    latest: IntArray  # [capacity] latest state of each ideal


class Step(NamedTuple):
    """A device for the next stage, and what is left after it."""

    used: IntArray  # [configurations, ...] what each has used up; no number larger wins
    configuration: int  # after the step
    device: int  # or -1 for any of its kind
    room: int  # what a stage on the device may cost, without alpha
    rooms: int  # what the devices left have room for together, weighed
    works: IntArray  # [kinds, n]
    costs: IntArray  # [kinds, m]
    left: BoolArray  # [kinds] whether later stages may be on a kind
    bound: BoolArray  # [n] nodes that no later stage can have, or that one of these needs
    memory: float  # see Rest, as the next two
    rate: float
    slack: int


@inner
def _beaten(states, used, ideal, configuration, itself):  # type: ignore[no-untyped-def]
    """Whether a state of an ideal, other than ``itself``, has used up no more than a configuration."""
    other = states.latest[ideal]
    while other >= 0:
        fewer = other != itself
        for a in range(used.shape[1]):
            fewer = fewer and used[states.configuration[other], a] <= used[configuration, a]
        if fewer:
            return True
        other = states.other[other]
    return False


@inner
def _reach(table, states, counts, current, key, parent, step):  # type: ignore[no-untyped-def]
    """Add a state unless another of the same ideal is as good; return whether it is new."""
    known = table.slots[find(table, current, key)]
    if known < 0:
        insert(table, counts[IDEALS], current, key, -1, 0, 0)
        known = counts[IDEALS]
        counts[IDEALS] += 1
        states.latest[known] = -1
    elif _beaten(states, step.used, known, step.configuration, -1):
        return False
    state = counts[STATES]
    states.ideal[state], states.configuration[state] = known, step.configuration
    states.parent[state], states.other[state] = parent, states.latest[known]
    states.latest[known] = state
    counts[STATES] += 1
    return True


@inner
def _rest(h, s, step, total):  # type: ignore[no-untyped-def]
    """P2: what the devices that are left pay together at least, weighed."""
    rest = total - s.x[INSIDE_WORK] + s.x[LIVE]
    if s.x[NEEDED] > step.memory:
        if step.rate < 0:
            return np.int64(2 * INFEASIBLE)
        rest += max(0, np.int64((s.x[NEEDED] - step.memory) * step.rate) - step.slack)
    return rest


@inner
def _movable(h, s, step, y):  # type: ignore[no-untyped-def]
    """Whether no stage on a device that is left pays more without node y, which moves into S."""
    for kind in range(step.left.shape[0]):
        if not step.left[kind] or step.works[kind, y] >= INFEASIBLE:
            continue
        loss = -step.works[kind, y]
        for a in range(h.node_ptr[y], h.node_ptr[y + 1]):
            t = h.node_net[a]
            if s.in_j[t] + 1 == h.net_ptr[t + 1] - h.net_ptr[t]:
                loss -= step.costs[kind, t]
            elif s.in_j[t] == 0 and not h.always[t]:
                loss += step.costs[kind, t]
        if loss > 0:
            return False
    return True


@inner
def _dominated(h, s, step, avail, choice, depth, size):  # type: ignore[no-untyped-def]
    """Saturation: whether some available node outside J can join S at no later loss."""
    base = s.x[WORK] + s.x[FIXED] + s.x[PENDING]
    for p in range(size):
        y = avail[p]
        if (p < depth and choice[p] == 1) or h.pin[y] >= 0:
            continue
        cost = base + h.work[y]
        if h.work[y] > step.room:
            continue
        for a in range(h.node_ptr[y], h.node_ptr[y + 1]):
            t = h.node_net[a]
            last = s.in_j[t] + 1 == h.net_ptr[t + 1] - h.net_ptr[t]
            if s.in_s[t] == 0:
                if h.always[t] or not (last and s.in_j[t] == 0):
                    cost += h.cost[t]
            elif last and not h.always[t] and s.in_j[t] == s.in_s[t]:
                cost -= h.cost[t]
        if cost > step.room or not _movable(h, s, step, y):
            continue
        held = s.x[HELD]
        for a in range(h.use_ptr[y], h.use_ptr[y + 1]):
            if s.used_s[h.use_group[a]] == 0:
                held += h.group_bytes[h.use_group[a]]
        if cost + overflow(h, held + max(s.x[ACTIVE], h.need[y])) <= step.room:
            return True
    return False


@inner
def _bound_first(s, step, depth, size):  # type: ignore[no-untyped-def]
    """Bring an available node that must be in S to the front: nothing is decided before these."""
    for p in range(depth, size):
        if step.bound[s.avail[p]]:
            s.avail[depth], s.avail[p] = s.avail[p], s.avail[depth]
            return


@inner
def _hopeless(h, s, step, dropped_work):  # type: ignore[no-untyped-def]
    """P1 and P3: whether S costs too much, or what is excluded does, whatever is still included."""
    return (
        s.x[WORK] + s.x[FIXED] + s.x[DOOMED] + overflow(h, s.x[HELD] + s.x[ACTIVE]) > step.room
        or dropped_work + s.x[CROSSING] > step.rooms
    )


@kernel
def walk(h, static, table, states, s, todo, step, budget, at):  # type: ignore[no-untyped-def]
    """Enumerate what one device may take next, from each of some states.

    Parameters
    ----------
    h, static, table, states, s : Hypergraph, Static, Table, States, State
        The hypergraph is that of the device's kind, with what devices left pay in its ``rest_`` arrays.
    todo : int64[q]
        States to go on from.
    step : Step
    budget : int
        Decisions allowed.
    at : int64[4], changed
        Where the walk stands, see ``AT`` and the names next to it.

    Returns
    -------
    int
        DONE; FOUND (the last state is everything); BUDGET; GROW (enlarge table and states). After the last
        two call again with the same state.
    """
    n = h.work.shape[0]
    total = np.int64(0)
    for v in range(n):
        total += h.rest_work[v]
    border, avail, choice = s.border, s.avail, s.choice
    size_before, flags_before, need_before = s.size_before, s.flags_before, s.need_before
    dropped, dropped_work = s.dropped, s.dropped_work
    while at[AT] < todo.shape[0]:
        start = todo[at[AT]]
        ideal = states.ideal[start]
        key = table.keys[ideal]
        if s.paused[0]:
            s.paused[0] = 0
            borders, size, depth, drops, forward = (
                s.paused[1], s.paused[2], s.paused[4], s.paused[5], s.paused[6] == 1,
            )  # fmt: skip
            for d in range(depth):
                if choice[d] == 1:
                    key ^= static.zobrist[avail[d]]
        else:
            if _beaten(states, step.used, ideal, states.configuration[start], start):
                at[AT] += 1
                continue
            load(h, s, table.ideals[ideal])
            borders, size = frontier(h, s, static.rank)
            depth = drops = np.int64(0)
            forward = True
        bound = np.int64(0)
        for v in range(n):
            if step.bound[v] and not (s.current[v >> 6] >> np.uint64(v & 63) & np.uint64(1)):
                bound += 1
        while True:
            if budget <= 0 or at[STATES] == states.ideal.shape[0]:
                s.paused[0], s.paused[1], s.paused[2] = 1, borders, size
                s.paused[4], s.paused[5], s.paused[6] = depth, drops, 1 if forward else 0
                at[BUDGET_LEFT] = max(budget, 0)
                return BUDGET if budget <= 0 else GROW
            if forward and depth < size:
                if bound > 0:
                    _bound_first(s, step, depth, size)
                v = avail[depth]
                budget -= 1
                choice[depth], size_before[depth], flags_before[depth] = 1, size, s.x[FLAGS]
                need_before[depth] = s.x[ACTIVE]
                size = include(h, s, v, dropped[drops], avail, size)
                key ^= static.zobrist[v]
                depth += 1
                if 0 <= h.pin[v] != step.device or _hopeless(h, s, step, dropped_work[drops]):
                    forward = False
                    continue
                if bound > 0:
                    bound -= 1
                if bound > 0:
                    continue
                over = overflow(h, s.x[HELD] + s.x[ACTIVE])
                if (
                    s.x[WORK] + s.x[FIXED] + s.x[PENDING] + over > step.room
                    or _rest(h, s, step, total) > step.rooms
                    or _dominated(h, s, step, avail, choice, depth, size)
                ):
                    continue
                if _reach(table, states, at, s.current, key, start, step) and s.x[INSIDE] == n:
                    at[BUDGET_LEFT] = budget
                    return FOUND
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
                if step.bound[v]:
                    continue
                budget -= 1
                dropped_work[drops + 1] = dropped_work[drops] + drop(
                    h, static, s, v, dropped[drops], dropped[drops + 1], border, borders
                )
                if _hopeless(h, s, step, dropped_work[drops + 1]):
                    unflag(h, s, flags_before[depth])
                    continue
                drops += 1
                choice[depth] = 0
                depth += 1
                forward = True
            if not forward:
                break
        at[AT] += 1
    at[BUDGET_LEFT] = budget
    return DONE
