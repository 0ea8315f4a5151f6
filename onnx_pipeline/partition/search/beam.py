"""The ideal search as a beam: a heuristic that builds stages one after the other.

Each level keeps the ``WIDTH`` ideals with the best score work(J) - beta * live(J) out of at most ``KEEP``
successors of each; the limit steps down from the incumbent as long as partitions are found.
"""

from __future__ import annotations

import numpy as np

from onnx_pipeline.graph.costgraph import IntArray
from onnx_pipeline.partition.ideals import expand
from onnx_pipeline.partition.ideals.question import IdealSearch
from onnx_pipeline.partition.ideals.state import new_state
from onnx_pipeline.partition.ideals.table import Table, WordArray, new_table, rehash
from onnx_pipeline.partition.task import Task
from onnx_pipeline.stop import Stop

#: Decisions spent on one ideal before the beam moves on.
EFFORT = 20_000
#: Ideals kept per level, and successors looked at per ideal.
WIDTH, KEEP = 20, 200
#: Rounds over all weights without success, in a row, after which a descent ends.
PATIENCE = 3


def beam(search: IdealSearch, limit: int, beta: float, stop: Stop) -> IntArray | None:
    """Look for a partition with every stage cost at most ``limit``.

    Parameters
    ----------
    search : IdealSearch
        The instance and its direction; without pins.
    limit : int
        In nanoseconds.
    beta : float
        Weight of live tensors in the score.
    stop : Stop
        Checked after every ideal.

    Returns
    -------
    int64[n] or None
        Stages of the instance's nodes.
    """
    h, static = search.hyper, search.static
    state = new_state(h, static.words)
    counters = np.zeros(3, dtype=np.int64)
    table = new_table(static.words, WIDTH * KEEP + 2)
    count = 1
    trail: list[tuple[WordArray, IntArray]] = []  # ideals and their parents, per level
    for level in range(search.k):
        parents = count
        for start in range(parents):
            status = expand.expand(
                h, static, table, state, start, start + 1, count, level, search.k, limit, EFFORT, KEEP, beta,
                counters,
            )  # fmt: skip
            count = int(counters[1])
            state.paused[0] = 0  # enough of this ideal
            if status == expand.FOUND:
                trail.append((table.ideals[:count], table.parent[:count]))
                return search.stages_of_chain(_chain(trail, count - 1))
            if stop():
                return None
        if count == parents:
            return None
        best = parents + np.argsort(-table.score[parents:count], kind="stable")[:WIDTH]
        trail.append((table.ideals[best].copy(), table.parent[best].copy()))
        table, count = _table_of(table, best), len(best)
    return None


def _chain(trail: list[tuple[WordArray, IntArray]], at: int) -> list[tuple[WordArray, int]]:
    """Ideals from the first level to the last one's entry ``at``, each with its level."""
    chain = []
    for level in range(len(trail) - 1, -1, -1):
        ideals, parent = trail[level]
        chain.append((ideals[at], level))
        at = int(parent[at])
    return chain[::-1]


def _table_of(table: Table, best: IntArray) -> Table:
    """Return a table that holds nothing but these ideals."""
    fresh = new_table(table.ideals.shape[1], len(table.keys))
    fresh.ideals[: len(best)] = table.ideals[best]
    fresh.keys[: len(best)] = table.keys[best]
    fresh.slots[:] = -1
    rehash(fresh, len(best))
    return fresh


def descend(search: IdealSearch, task: Task, stop: Stop) -> None:
    """Run beams at falling limits until ``PATIENCE`` rounds over all weights find nothing.

    Each failed round divides the step towards the bound by four.
    """
    step, failed = 0.25, 0
    while failed < PATIENCE and not stop():
        before = task.upper
        limit = min(before - 1, int(before - step * (before - task.lower)))
        for beta in (0.5, 0.0, 1.0):
            stage = beam(search, limit, beta, stop)
            if stage is not None:
                task.offer(stage, "beam")
                break
            if stop():
                return
        if task.upper < before:
            failed = 0
            step = min(0.5, 2 * step)
        else:
            failed += 1
            step /= 4
