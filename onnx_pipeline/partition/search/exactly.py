"""Partitions that leave no stage empty: whether there is one, the first one, and orders cut into k segments.

Contraction, free sources and the dominance rules of the exact search may empty a stage, so all of this works
on the uncontracted instance.
"""

from __future__ import annotations

import heapq

import numpy as np

from onnx_pipeline.graph.costgraph import IntArray
from onnx_pipeline.graph.target import INFEASIBLE
from onnx_pipeline.partition.bounds.windows import pins_only
from onnx_pipeline.partition.instance.csr import invert
from onnx_pipeline.partition.instance.instance import Instance
from onnx_pipeline.partition.jit import kernel
from onnx_pipeline.partition.search.orders import in_degrees, kahn
from onnx_pipeline.partition.search.slicing import CLASH, joint_pin
from onnx_pipeline.partition.search.tapes import Tape, extend, make_tape, occupy, overflow
from onnx_pipeline.stop import Stop, never

#: Entries n k of the table behind a cut; beyond them only the first partition and its refinement are left.
TABLE_LIMIT = 1 << 25


def place(inst: Instance, k: int, *, every: bool = False) -> IntArray | None:
    """Return the stages of a partition that meets the pins, each node as early as possible.

    Parameters
    ----------
    inst : Instance
        Uncontracted, so that nodes pinned to one stage are one node.
    k : int
    every : bool
        Leave no stage empty.

    Returns
    -------
    int64[n] or None
        None if there is no such partition.

    Notes
    -----
    Pins leave every node a window of stages, whose ends never decrease along an edge. Every stage without a
    pin needs a node of its own: a matching of stages and intervals, which is largest when each stage in turn
    takes the node whose window closes first (Glover, *Maximum matching in a convex bipartite graph*, 1967).
    Ties go to the earlier node of a topological order; then no stage takes an ancestor of a node that an
    earlier stage took, and all other nodes fit in between.
    """
    allowed = pins_only(inst, k)
    order = np.asarray(kahn(inst, in_degrees(inst), np.zeros(inst.n)), dtype=np.int64)
    stage = allowed.first.copy()
    if every and not _one_for_each(inst, k, allowed.last, order, stage):
        return None
    heads, tails = inst.edges()
    ptr, before = invert(inst.n, tails, heads)
    for v in order:
        stage[v] = max(stage[v], before_stage(stage, before[ptr[v] : ptr[v + 1]]))
    return stage


def before_stage(stage: IntArray, nodes: IntArray) -> int:
    """Latest stage of some nodes, 0 for none."""
    return int(stage[nodes].max(initial=0))


def _one_for_each(inst: Instance, k: int, last: IntArray, order: IntArray, stage: IntArray) -> bool:
    """Move one node into every stage without a pin; return whether each got one."""
    pinned = set(inst.pin[inst.pin >= 0].tolist())
    if k - len(pinned) > int((inst.pin < 0).sum()):
        return False
    place_of = np.empty(inst.n, dtype=np.int64)
    place_of[order] = np.arange(inst.n)
    waiting = sorted((int(stage[v]), int(v)) for v in np.flatnonzero(inst.pin < 0))[::-1]
    open_windows: list[tuple[int, int, int]] = []
    for s in range(k):
        while waiting and waiting[-1][0] <= s:
            v = waiting.pop()[1]
            heapq.heappush(open_windows, (int(last[v]), int(place_of[v]), v))
        while open_windows and open_windows[0][0] < s:
            heapq.heappop(open_windows)
        if s in pinned:
            continue
        if not open_windows:
            return False
        stage[heapq.heappop(open_windows)[2]] = s
    return True


@kernel
def _feasible_exactly(tape, k, limit, ends):  # type: ignore[no-untyped-def]
    """Cut the order into exactly k segments of cost <= limit; return the largest cost, or -1."""
    n = tape.work.shape[0]
    live, x, top = np.empty(n, np.int64), np.zeros(3, np.int64), np.int64(0)
    parent = np.full((k + 1, n + 1), np.int64(-1))
    value = np.zeros((k + 1, n + 1), np.int64)
    parent[0, 0] = 0
    for i in range(n):
        inner, out, held, pin = np.int64(tape.alpha), np.int64(0), np.int64(0), np.int64(-1)
        for j in range(i, n):
            inner, out, held = extend(tape, i, j, inner, out, held)
            if tape.counted:
                top = occupy(tape, i, j, live, x)
            fixed = inner + overflow(tape, held + top)
            pin = joint_pin(pin, tape.pin[j])
            if fixed > limit or pin == CLASH:
                break
            if fixed + out > limit:
                continue
            for b in range(k):
                if parent[b, i] >= 0 and parent[b + 1, j + 1] < 0 and (pin < 0 or pin == b):
                    parent[b + 1, j + 1] = i
                    value[b + 1, j + 1] = fixed + out
    if parent[k, n] < 0:
        return np.int64(-1)
    worst = np.int64(0)
    j = n
    for b in range(k, 0, -1):
        ends[b - 1] = j
        worst = max(worst, value[b, j])
        j = parent[b, j]
    return worst


def slice_exactly(tape: Tape, k: int, low: int, high: int, ends: IntArray, stop: Stop = never) -> bool:
    """Best cut of the order into exactly k non-empty segments.

    Parameters
    ----------
    tape : Tape
    k : int
    low, high : int
        A lower bound, and the largest bottleneck that counts, in ticks.
    ends : int64[k], output
        End position of each segment.
    stop : Stop
        Checked between passes; what is found until then counts.

    Returns
    -------
    bool
        False if no cut was found.
    """
    n = len(tape.work)
    if n < k or n * k > TABLE_LIMIT:
        return False
    # A pass at a large limit is quadratic: come from below.
    limit = min(high, low + low // 50)
    while (best := int(_feasible_exactly(tape, k, limit, ends))) < 0:
        if limit >= high or stop():
            return False
        low = limit + 1
        limit = min(high, 2 * limit + 1)
    trial = ends.copy()
    while low < best and not stop():
        middle = low + (best - 1 - low) // 2
        value = int(_feasible_exactly(tape, k, middle, trial))
        if value < 0:
            low = middle + 1
        else:
            best = value
            ends[:] = trial
    return True


def slice_to_fill(
    inst: Instance, order: IntArray, k: int, low: int, high: int, stop: Stop
) -> IntArray | None:
    """Stages of the best cut of an order into exactly k segments of cost at most ``high``, if there is one.

    A limit beyond every finite cost asks for any cut at all, one that breaks a hard limit included.
    """
    ends = np.zeros(k, dtype=np.int64)
    high = 2 * INFEASIBLE if high >= INFEASIBLE else high
    if not slice_exactly(make_tape(inst, order), k, low, high, ends, stop):
        return None
    stage = np.empty(inst.n, dtype=np.int64)
    stage[order] = np.repeat(np.arange(k), np.diff(ends, prepend=0))
    return stage
