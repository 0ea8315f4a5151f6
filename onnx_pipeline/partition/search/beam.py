"""The ideal search as a beam: a heuristic that builds stages one after the other.

Each level keeps the ``width`` ideals with the best score work(J) - beta * live(J) out of at most ``keep``
successors of each; the limit steps down from the incumbent as long as partitions are found.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from onnx_pipeline.graph.costgraph import IntArray
from onnx_pipeline.partition.ideals import expand
from onnx_pipeline.partition.ideals.question import IdealSearch
from onnx_pipeline.partition.ideals.state import new_state
from onnx_pipeline.partition.ideals.table import WordArray, new_table, rehash

#: Decisions spent on one ideal before the beam moves on.
EFFORT = 20_000


def beam(
    search: IdealSearch,
    limit: int,
    beta: float,
    stop: Callable[[], bool],
    width: int = 20,
    keep: int = 200,
) -> IntArray | None:
    """Look for a partition with every stage cost at most ``limit``.

    Parameters
    ----------
    search : IdealSearch
        The instance and its direction; without pins.
    limit : int
        In nanoseconds.
    beta : float
        Weight of live tensors in the score.
    stop : callable
        Asked after every ideal.
    width, keep : int
        Ideals kept per level, and successors looked at per ideal.

    Returns
    -------
    int64[n] or None
        Stages of the instance's nodes.
    """
    h, static = search.hyper, search.static
    state = new_state(h, static.words)
    counters = np.zeros(3, dtype=np.int64)
    table = new_table(static.words, width * keep + 2)
    count = 1
    trail: list[tuple[WordArray, IntArray]] = []
    for level in range(search.k):
        parents = count
        status = expand.DONE
        for start in range(parents):
            status = expand.expand(
                h, static, table, state, start, start + 1, count, level, search.k, limit, EFFORT, keep, beta,
                counters,
            )  # fmt: skip
            count = int(counters[1])
            state.paused[0] = 0  # enough of this ideal
            if status == expand.FOUND or stop():
                break
        if status == expand.FOUND:
            final = count - 1
            chain = [(table.ideals[final].copy(), level)]
            at = int(table.parent[final])
            for before in range(level - 1, -1, -1):
                members, parent = trail[before]
                chain.append((members[at], before))
                at = int(parent[at])
            return search.stages_of_chain(chain[::-1])
        if count == parents or stop():
            return None
        best = parents + np.argsort(-table.score[parents:count], kind="stable")[:width]
        trail.append((table.ideals[best].copy(), table.parent[best].copy()))
        fresh = new_table(static.words, width * keep + 2)
        for i, ideal in enumerate(best):
            fresh.ideals[i] = table.ideals[ideal]
            fresh.keys[i] = table.keys[ideal]
        count = len(best)
        fresh.slots[:] = -1
        rehash(fresh, count)
        table = fresh
    return None


def descend(
    search: IdealSearch,
    lower: Callable[[], int],
    upper: Callable[[], int],
    offer: Callable[[IntArray], object],
    stop: Callable[[], bool],
    patience: int = 3,
) -> None:
    """Run beams at falling limits until ``patience`` rounds over all betas find nothing.

    Parameters
    ----------
    search : IdealSearch
    lower, upper : callable
        Current bound and incumbent in nanoseconds.
    offer : callable
        Takes the stages of the instance's nodes.
    stop : callable
    patience : int
        Failed rounds in a row; each halves the step towards the incumbent.
    """
    step, failed = 0.25, 0
    while failed < patience and not stop():
        before = upper()
        limit = min(before - 1, int(before - step * (before - lower())))
        for beta in (0.5, 0.0, 1.0):
            stage = beam(search, limit, beta, stop)
            if stage is not None:
                offer(stage)
                break
            if stop():
                return
        if upper() < before:
            failed = 0
            step = min(0.5, 2 * step)
        else:
            failed += 1
            step /= 4
