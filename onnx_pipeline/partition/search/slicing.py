"""SliceGraph by threshold: the best cut of one topological order into k consecutive stages.

Instead of the O(n^2 k) dynamic program over all segments, ask "is there a cut with every segment at most
T?" in one forward pass, and search for the smallest such T. Work + input + overflow of a segment, peak of
its activations included, never falls as it grows, so a pass at T only touches segments whose monotone part is
at most T: about n / k nodes per start. The outgoing part may fall, so it never stops an extension.

Segments are grown on a tape, see :mod:`onnx_pipeline.partition.search.tapes`.

References
----------
Archer et al. 2024, section 4 (SliceGraph).
"""

from __future__ import annotations

import numpy as np

from onnx_pipeline.graph.target import INFEASIBLE
from onnx_pipeline.partition.jit import inner, kernel
from onnx_pipeline.partition.search.tapes import extend, lay_out, occupy, overflow

#: Pin of a segment whose nodes are pinned to different stages.
CLASH = -2


@kernel
def feasible(tape, k, limit, ends):  # type: ignore[no-untyped-def]
    """Cut the order into at most k segments of cost <= limit; fewest segments first.

    Parameters
    ----------
    tape : Tape
    k : int
    limit : int
        T in nanoseconds.
    ends : int64[k], output
        End position of each segment, when feasible.

    Returns
    -------
    (int, int)
        Number of segments (0 if there is none) and the largest cost among them.
    """
    n = tape.work.shape[0]
    live, x, top = np.empty(n, np.int64), np.zeros(3, np.int64), np.int64(0)
    count = np.full(n + 1, k + 1, np.int64)
    parent = np.empty(n + 1, np.int64)
    value = np.empty(n + 1, np.int64)
    count[0] = 0
    rest = np.int64(0)
    for j in range(n):
        rest += tape.work[j]
    for i in range(n):
        used = count[i] + 1
        # Work alone already needs more stages than are left. A product could overflow.
        if used <= k and rest // (k - used + 1) <= limit:
            inner, out, held, pin = np.int64(tape.alpha), np.int64(0), np.int64(0), np.int64(-1)
            for j in range(i, n):
                inner, out, held = extend(tape, i, j, inner, out, held)
                if tape.counted:
                    top = occupy(tape, i, j, live, x)
                fixed = inner + overflow(tape, held + top)
                pin = joint_pin(pin, tape.pin[j])
                # A pinned segment may leave stages before it empty, but not come too late.
                if fixed > limit or pin == CLASH or 0 <= pin < used - 1:
                    break
                stages = used if pin < 0 else pin + 1
                total = fixed + out
                if total <= limit and stages < count[j + 1]:
                    count[j + 1] = stages
                    parent[j + 1] = i
                    value[j + 1] = total
        rest -= tape.work[i]
    if count[n] > k:
        return 0, limit
    return count[n], _backtrack(count, parent, value, ends)


@inner
def _backtrack(count, parent, value, ends):  # type: ignore[no-untyped-def]
    """Write the segment ends, empty stages included; return the largest cost."""
    worst = np.int64(0)
    j = count.shape[0] - 1
    while j > 0:
        i = parent[j]
        worst = max(worst, value[j])
        ends[count[j] - 1] = j
        for s in range(count[i], count[j] - 1):
            ends[s] = i
        j = i
    return worst


@inner
def joint_pin(pin, other):  # type: ignore[no-untyped-def]
    """Pin of a segment and one more node."""
    if other < 0 or other == pin:
        return pin
    return other if pin < 0 else np.int64(CLASH)


@inner
def segments(tape, limit):  # type: ignore[no-untyped-def]
    """Costs of all segments whose monotone part is at most ``limit``: CSR by start position."""
    n = tape.work.shape[0]
    live, x, top = np.empty(n, np.int64), np.zeros(3, np.int64), np.int64(0)
    start = np.empty(n + 1, np.int64)
    buffer = np.empty(max(16 * n, 1024), np.int64)
    size = 0
    for i in range(n):
        start[i] = size
        inner, out, held = np.int64(tape.alpha), np.int64(0), np.int64(0)
        for j in range(i, n):
            inner, out, held = extend(tape, i, j, inner, out, held)
            if tape.counted:
                top = occupy(tape, i, j, live, x)
            fixed = inner + overflow(tape, held + top)
            if fixed > limit:
                break
            if size == buffer.shape[0]:
                grown = np.empty(2 * size, np.int64)
                for s in range(size):  # numba compiles slice assignments ten times as slowly
                    grown[s] = buffer[s]
                buffer = grown
            buffer[size] = fixed + out
            size += 1
    start[n] = size
    return start, buffer


@inner
def _feasible_buffered(pins, start, buffer, k, limit, count, parent, value):  # type: ignore[no-untyped-def]
    """Like :func:`feasible` on stored segment costs; returns the smallest cost met above ``limit``."""
    n = start.shape[0] - 1
    for j in range(n + 1):
        count[j] = k + 1
    count[0] = 0
    above = np.int64(np.iinfo(np.int64).max)
    for i in range(n):
        used = count[i] + 1
        if used > k:
            continue
        base = i + 1 - start[i]
        pin = np.int64(-1)
        for s in range(start[i], start[i + 1]):
            pin = joint_pin(pin, pins[base + s - 1])
            if pin == CLASH or 0 <= pin < used - 1:
                break
            stages = used if pin < 0 else pin + 1
            total = buffer[s]
            if total > limit:
                above = min(above, total)
            elif stages < count[base + s]:
                count[base + s] = stages
                parent[base + s] = i
                value[base + s] = total
    return above


@kernel
def slice_order(tape, k, low, high, ends):  # type: ignore[no-untyped-def]
    """Best cut of the order, if it is at most ``high``.

    Parameters
    ----------
    tape : Tape
    k : int
    low : int
        A known lower bound in nanoseconds; reaching it ends the search.
    high : int
        Only cuts with bottleneck <= high count.
    ends : int64[k], output
        End position of each used segment.

    Returns
    -------
    (int, int)
        Number of segments and bottleneck; (0, high + 1) if no cut is that good.
    """
    found, best = feasible(tape, k, high, ends)
    if found == 0:
        return 0, high + 1
    if best <= low:
        return found, best
    n = tape.work.shape[0]
    start, buffer = segments(tape, best - 1)
    count, parent, value = np.empty(n + 1, np.int64), np.empty(n + 1, np.int64), np.empty(n + 1, np.int64)
    while low < best:
        middle = low + (best - 1 - low) // 2
        above = _feasible_buffered(tape.pin, start, buffer, k, middle, count, parent, value)
        if count[n] <= k:
            found, best = count[n], _backtrack(count, parent, value, ends)
        else:
            low = max(middle + 1, min(above, best))
    return found, best


@kernel
def evaluate(g, order, k, low, high, cap, ends):  # type: ignore[no-untyped-def]
    """Bottleneck of an order: exact when it is at most ``cap``, else an upper bound within a few percent.

    Starts at ``high`` and widens it by 8 % until a cut exists, because passes at a large T are slow.

    Returns
    -------
    (int, int)
        Number of segments and bottleneck; no segments if the order cannot meet the pins.
    """
    tape = lay_out(g, order)
    limit = high
    while True:
        found, best = feasible(tape, k, limit, ends)
        # Beyond any finite cost only broken hard limits are left.
        if found > 0 or limit >= 2 * INFEASIBLE:
            break
        limit = limit + limit // 12 + 1 if limit < INFEASIBLE >> 10 else 2 * INFEASIBLE
    if found == 0:
        return 0, limit
    if low < best <= cap:
        return slice_order(tape, k, low, best, ends)
    return found, best


@kernel
def stages_of(order, ends, found):  # type: ignore[no-untyped-def]
    """Stage of every node from an order and its segment ends."""
    stage = np.empty(order.shape[0], np.int64)
    j = 0
    for s in range(found):
        while j < ends[s]:
            stage[order[j]] = s
            j += 1
    return stage
