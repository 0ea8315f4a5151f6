"""The best cut of one order into stages with replicas: fewest devices for each prefix.

A segment of cost c takes as many devices as serve it in time, so with ``used[j]`` the fewest devices for the
first j nodes,

    used[j] = min over i < j of used[i] + devices(cost(i, j))

and the order is good enough if used[n] <= N. Pinned nodes name stages, so with pins the number of stages
passed, empty ones included, is part of the state.
"""

from __future__ import annotations

import numpy as np

from onnx_pipeline.partition.jit import inner, kernel
from onnx_pipeline.partition.search.slicing import CLASH, joint_pin, segments


@inner
def devices_for(capacity, cost):  # type: ignore[no-untyped-def]
    """Fewest devices that serve a cost in time; one more than there are if none do."""
    low, high = np.int64(1), np.int64(capacity.shape[0])
    while low < high:
        middle = (low + high) // 2
        if capacity[middle] >= cost:
            high = middle
        else:
            low = middle + 1
    return low


@kernel
def price_segments(tape, limit):  # type: ignore[no-untyped-def]
    """Costs of all segments whose monotone part is at most a limit: CSR by start position."""
    return segments(tape, limit)


@kernel
def divide(pins, start, buffer, capacity, stage):  # type: ignore[no-untyped-def]
    """Cut an order into stages that the devices serve in time.

    Parameters
    ----------
    pins : int64[n]
        Stage of the node at each position, or -1.
    start, buffer : int64
        From :func:`price_segments`.
    capacity : int64[N + 1]
        Largest cost that so many devices serve in time.
    stage : int64[n], output
        Stage of the node at each position; without pins numbers that only ascend.

    Returns
    -------
    bool
        Whether there is such a cut.
    """
    n, most = start.shape[0] - 1, capacity.shape[0] - 1
    pinned = False
    for j in range(n):
        pinned = pinned or pins[j] >= 0
    rounds, step = (most, 1) if pinned else (1, 0)
    used = np.full((rounds * step + 1, n + 1), most + 1, np.int64)
    parent = np.full((rounds * step + 1, n + 1), -1, np.int64)
    used[0, 0] = 0
    for s in range(rounds):
        into = s + step
        if pinned:
            for j in range(n + 1):  # an empty stage
                used[into, j] = used[s, j]
                parent[into, j] = j
        for i in range(n):
            if used[s, i] >= most:
                continue
            pin = np.int64(-1)
            for a in range(start[i], start[i + 1]):
                j = i + 1 + a - start[i]
                pin = joint_pin(pin, pins[j - 1])
                if pin == CLASH or (pin >= 0 and pin != s):
                    break
                total = used[s, i] + devices_for(capacity, buffer[a])
                if total < used[into, j]:
                    used[into, j] = total
                    parent[into, j] = i
    row, j = rounds * step, n
    if used[row, j] > most:
        return False
    while j > 0:
        i = parent[row, j]
        row -= step
        for at in range(i, j):
            stage[at] = row if pinned else i
        j = i
    return True
