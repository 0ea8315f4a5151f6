"""Which worker takes which request next: bookkeeping without threads, locks or time.

Requests wait before a stage, first come, first served. A worker that has nothing to do takes the one that
comes; of several, whoever has waited longest: equal replicas take turns, and slower ones get less. A worker
of several stages takes from the latest stage where a request waits ("last buffer first served"): what has
begun is finished before more is begun.

Requests of one sequence visit the same replica of a stage, the one that happened to take the first of them.

References
----------
S. H. Lu, P. R. Kumar, *Distributed Scheduling Based on Due Dates and Buffer Priorities*, 1991; J. G. Dai,
G. Weiss, *Stability and Instability of Fluid Models for Reentrant Lines*, 1996: with this order no device
falls behind that has enough time for its load.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Hashable, Iterator, Sequence
from typing import Generic, TypeVar

from onnx_pipeline.runtime.layout import Layout

T = TypeVar("T")
_Waiting = tuple[T, Hashable | None]


class Board(Generic[T]):
    """Requests that wait and workers that are free; whoever calls takes care of locks.

    A worker with room never leaves a request waiting that it could take: :meth:`offer` and :meth:`finished`
    see to that, and after everything else that changes who may take what, :meth:`settle` has to.

    Parameters
    ----------
    layout : Layout
    windows : sequence of int, optional
        Requests that each worker may have at once, one by default.
    """

    def __init__(self, layout: Layout, windows: Sequence[int] | None = None) -> None:
        self._layout = layout
        self._room = list(windows or [1] * len(layout.workers))
        self._alive = [True] * len(layout.workers)
        self._queues: list[deque[_Waiting[T]]] = [deque() for _ in range(layout.stages)]
        self._held = [0] * len(layout.workers)
        self._turns = [0] * len(layout.workers)
        self._turn = 0
        self._homes: dict[Hashable, dict[int, int]] = {}
        self._lost: set[Hashable] = set()

    def offer(self, stage: int, request: T, sequence: Hashable | None = None) -> int | None:
        """Return the worker that takes a request for a stage at once; None if it has to wait."""
        home = self._homes.get(sequence, {}).get(stage)
        able = [w for w in self._layout.serving[stage] if self._room[w] and self._alive[w]]
        able = [w for w in able if home in (None, w)]
        if not able:
            self._queues[stage].append((request, sequence))
            return None
        worker = min(able, key=lambda w: (self._held[w], self._turns[w]))
        self._assign(worker, stage, sequence)
        return worker

    def finished(self, worker: int) -> tuple[int, T] | None:
        """Note that a worker is done with a request; return what it takes now: stage and request."""
        self._room[worker] += 1
        self._held[worker] -= 1
        return self._take(worker)

    def lose(self, worker: int) -> list[T]:
        """Give nothing to a worker any more that lost what it had; return what waited for no other.

        The next :meth:`is_lost` of every sequence that had begun there tells of it.
        """
        self._alive[worker] = False
        self._room[worker] += self._held[worker]
        self._held[worker] = 0
        gone = {sequence for sequence, homes in self._homes.items() if worker in homes.values()}
        bound: list[T] = []
        for stage in self._layout.workers[worker]:
            queue = self._queues[stage]
            bound += [item for item, key in queue if self._homes.get(key, {}).get(stage) == worker]
            self._queues[stage] = deque(
                (item, key) for item, key in queue if self._homes.get(key, {}).get(stage) != worker
            )
        for sequence in gone:
            del self._homes[sequence]
        self._lost |= gone
        return bound

    def regain(self, worker: int) -> None:
        """Give to a worker again."""
        self._alive[worker] = True

    def settle(self) -> Iterator[tuple[int, int, T]]:
        """Yield what workers take now that may have what they might not before: worker, stage, request."""
        for worker, alive in enumerate(self._alive):
            while alive and self._room[worker] and (found := self._take(worker)) is not None:
                yield worker, *found

    def is_served(self, stage: int) -> bool:
        """Whether any worker of a stage is alive."""
        return any(self._alive[w] for w in self._layout.serving[stage])

    def is_lost(self, sequence: Hashable | None) -> bool:
        """Whether a sequence lost a worker since this was last asked; after that it begins anew."""
        if sequence in self._lost:
            self._lost.remove(sequence)
            return True
        return False

    def forget(self, sequence: Hashable) -> None:
        """Let a sequence end; the same key may begin another one. What still waits may go anywhere."""
        self._homes.pop(sequence, None)
        self._lost.discard(sequence)

    def _take(self, worker: int) -> tuple[int, T] | None:
        for stage in reversed(self._layout.workers[worker]):
            queue = self._queues[stage]
            for place, (request, sequence) in enumerate(queue):
                if self._homes.get(sequence, {}).get(stage, worker) == worker:
                    del queue[place]
                    self._assign(worker, stage, sequence)
                    return stage, request
        return None

    def _assign(self, worker: int, stage: int, sequence: Hashable | None) -> None:
        self._room[worker] -= 1
        self._held[worker] += 1
        self._turn += 1
        self._turns[worker] = self._turn
        if sequence is not None and len(self._layout.serving[stage]) > 1:
            self._homes.setdefault(sequence, {})[stage] = worker
