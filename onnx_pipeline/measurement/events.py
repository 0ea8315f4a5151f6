"""A pipeline as queues and workers, event by event; who takes what is decided by the runtime's own board."""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from onnx_pipeline.runtime.board import Board
from onnx_pipeline.runtime.layout import Layout

FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Times:
    """When everything happened; arrays of shape (requests,) or (requests, k).

    Attributes
    ----------
    enter, done : float64[requests]
        When requests came in and left.
    idle, start, end, sent : float64[requests, k]
        When the worker began to wait for the request, had it, had computed it, and had handed it over.
    worker : int64[requests, k]
        Whose it was.
    """

    enter: FloatArray
    done: FloatArray
    idle: FloatArray
    start: FloatArray
    end: FloatArray
    sent: FloatArray
    worker: npt.NDArray[np.int64]

    @classmethod
    def none_yet(cls, requests: int, stages: int) -> Times:
        """Zeros for everything."""
        idle, start, end, sent = (np.zeros((requests, stages)) for _ in range(4))
        worker = np.zeros((requests, stages), dtype=np.int64)
        return cls(np.zeros(requests), np.zeros(requests), idle, start, end, sent, worker)


@dataclass
class Service:
    """The rules of the runtime with times that are given.

    Of a worker at most ``depth`` requests wait for the next stage where that border is bounded; then it keeps
    the next one, and takes no other, until one of them is taken.

    Parameters
    ----------
    layout : Layout
    seconds : float64[requests, k]
    arrivals : float64[requests]
        Not decreasing.
    depth, limit : int
        Requests of a worker that may wait for the next stage, and inside at most.
    handover : float
        Seconds from one worker to the next, and from the last to the caller.
    """

    layout: Layout
    seconds: FloatArray
    arrivals: FloatArray
    depth: int
    limit: int
    handover: float
    _calendar: list[tuple[float, int, Callable[[float], None]]] = field(default_factory=list)

    def __post_init__(self) -> None:
        """Begin with empty queues."""
        workers = len(self.layout.workers)
        requests, self._stages = self.seconds.shape
        self.times = Times.none_yet(requests, self._stages)
        self._board: Board[int] = Board(self.layout)
        self._room = [self.depth] * workers
        self._blocked: dict[int, tuple[int, int]] = {}
        self._giver: dict[int, int] = {}
        self._since = [0.0] * workers
        self._inside = self._next = 0
        self._order = itertools.count()

    def run(self) -> Times:
        """Serve all requests."""
        for arrival in self.arrivals.tolist():
            self._at(arrival, self._admit)
        while self._calendar:
            now, _, happens = heapq.heappop(self._calendar)
            happens(now)
        return self.times

    def _at(self, when: float, happens: Callable[[float], None]) -> None:
        heapq.heappush(self._calendar, (when, next(self._order), happens))

    def _admit(self, now: float) -> None:
        """Let in who has arrived and fits."""
        while (
            self._next < len(self.arrivals) and self.arrivals[self._next] <= now and self._inside < self.limit
        ):
            request = self._next
            self._next += 1
            self._inside += 1
            self.times.enter[request] = now
            self._later(now, request, 0, self.handover)

    def _later(self, now: float, request: int, stage: int, delay: float) -> None:
        if delay:
            self._at(now + delay, lambda then: self._offer(then, request, stage))
        else:
            self._offer(now, request, stage)

    def _offer(self, now: float, request: int, stage: int) -> None:
        taker = self._board.offer(stage, request)
        if taker is not None:
            self._begin(now, taker, stage, request)

    def _begin(self, now: float, worker: int, stage: int, request: int) -> None:
        self.times.idle[request, stage] = self._since[worker]
        self.times.start[request, stage] = now
        self.times.worker[request, stage] = worker
        end = now + self.seconds[request, stage]
        self.times.end[request, stage] = end
        self._at(end, lambda then: self._end(then, worker, stage, request))
        giver = self._giver.pop(request, None)
        if giver is None:
            return
        self._room[giver] += 1
        if giver in self._blocked:
            self._hand(now, giver, *self._blocked.pop(giver))

    def _end(self, now: float, worker: int, stage: int, request: int) -> None:
        if self.layout.bounded[stage] and not self._room[worker]:
            self._blocked[worker] = (stage, request)
        else:
            self._hand(now, worker, stage, request)

    def _hand(self, now: float, worker: int, stage: int, request: int) -> None:
        """Let go of a request; only then take another one."""
        self.times.sent[request, stage] = self._since[worker] = now
        if stage + 1 == self._stages:
            self._at(now + self.handover, lambda then: self._done(then, request))
        else:
            if self.layout.bounded[stage]:
                self._room[worker] -= 1
                self._giver[request] = worker
            stays = stage + 1 in self.layout.workers[worker]
            self._later(now, request, stage + 1, 0.0 if stays else self.handover)
        found = self._board.finished(worker)
        if found is not None:
            self._begin(now, worker, *found)

    def _done(self, now: float, request: int) -> None:
        self.times.done[request] = now
        self._inside -= 1
        self._admit(now)
