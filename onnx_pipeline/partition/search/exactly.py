"""Partitions that leave no stage empty: orders cut into exactly k segments."""

from __future__ import annotations

import numpy as np

from onnx_pipeline.errors import InfeasibleError
from onnx_pipeline.graph.costgraph import IntArray
from onnx_pipeline.graph.target import INFEASIBLE
from onnx_pipeline.partition.jit import kernel
from onnx_pipeline.partition.search.orders import order_of, starting_orders
from onnx_pipeline.partition.search.slicing import CLASH, joint_pin, stages_of
from onnx_pipeline.partition.search.tapes import Tape, extend, make_tape, occupy, overflow
from onnx_pipeline.partition.task import Task


def fill_stages(task: Task, rng: np.random.Generator) -> None:
    """Replace the incumbent by the best partition found that leaves no stage empty.

    Parameters
    ----------
    task : Task
        Of the uncontracted instance: contraction may have merged what must part now.
    rng : numpy.random.Generator
        For random orders.

    Raises
    ------
    InfeasibleError
        If no order can be cut that way.
    """
    inst, k, known = task.inst, task.k, task.known
    if known.used == k:
        return
    orders = [order_of(inst, task.stage_of)]
    orders += [order for _, order in starting_orders(inst, rng)]
    low, high = task.lower, task.upper
    known.forget()
    for order in orders:
        ends = np.zeros(k, dtype=np.int64)
        if slice_exactly(make_tape(inst, order), k, low, high, ends):
            task.offer(stages_of(order, ends, k), "exactly k")
    if not len(known.stage_of):
        raise InfeasibleError(
            f"{k} stages cannot all be filled: the graph has {inst.n} nodes or groups of nodes"
        )


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


def slice_exactly(tape: Tape, k: int, low: int, high: int, ends: IntArray) -> bool:
    """Best cut of the order into exactly k non-empty segments.

    Parameters
    ----------
    tape : Tape
    k : int
    low, high : int
        A lower bound and a first guess, in nanoseconds.
    ends : int64[k], output
        End position of each segment.

    Returns
    -------
    bool
        False if the order has fewer than k nodes or cannot meet the pins.
    """
    while (best := int(_feasible_exactly(tape, k, high, ends))) < 0:
        if high >= 2 * INFEASIBLE:
            return False
        high = max(1, 2 * high) if high < INFEASIBLE else 2 * INFEASIBLE
    trial = ends.copy()
    while low < best:
        middle = low + (best - 1 - low) // 2
        value = int(_feasible_exactly(tape, k, middle, trial))
        if value < 0:
            low = middle + 1
        else:
            best = value
            ends[:] = trial
    return True
