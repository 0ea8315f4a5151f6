"""Where the time goes: per request and stage, added up, and as percentiles."""

from __future__ import annotations

import math
import threading
import time
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

#: Finished requests whose latency and timeline are kept; all else is a sum, so memory does not grow.
KEPT = 4096
TIMELINES = 1024
NS = 1e9

now = time.perf_counter_ns


class Span(NamedTuple):
    """One request in one stage; times are nanoseconds of ``time.perf_counter_ns``.

    Attributes
    ----------
    stage : int
    idle : int
        When the stage began to wait for this request.
    start : int
        When it had the request.
    end : int
        When its outputs were there.
    sent : int
        When the next stage had room for them.
    nbytes : int
        Size of the tensors that the stage handed over.
    copy : int
        Nanoseconds between start and end that went into copying them; 0 when only references move.
    replica : int
        Which replica of the stage had it.
    """

    stage: int
    idle: int
    start: int
    end: int
    sent: int
    nbytes: int
    copy: int
    replica: int = 0


class Timeline(NamedTuple):
    """What happened to one request, ``submitted`` and ``done`` in nanoseconds."""

    number: int
    submitted: int
    done: int
    spans: tuple[Span, ...]


class Note(NamedTuple):
    """Whether a replica is there, and how the last worker that it lost ended."""

    alive: bool
    note: str


@dataclass(frozen=True)
class ReplicaStats:
    """One replica of a stage; seconds and bytes are sums.

    Attributes
    ----------
    index : int
    requests : int
    busy_seconds, wait_input_seconds, wait_output_seconds : float
    transfer_bytes : int
    transfer_seconds : float
    alive : bool
        Whether its worker is there.
    note : str
        How the last worker that it lost ended; empty for none.
    """

    index: int
    requests: int
    busy_seconds: float
    wait_input_seconds: float
    wait_output_seconds: float
    transfer_bytes: int
    transfer_seconds: float
    alive: bool = True
    note: str = ""


@dataclass(frozen=True)
class StageStats:
    """One stage since the session was made (or its statistics were reset); seconds and bytes are sums.

    Where stages share a device, waiting is that of its worker, counted for the stage that it ended with.
    """

    index: int
    file: str
    requests: int
    busy_seconds: float
    wait_input_seconds: float
    wait_output_seconds: float
    transfer_bytes: int
    transfer_seconds: float
    replicas: tuple[ReplicaStats, ...] = ()


@dataclass(frozen=True)
class Stats:
    """Statistics of a session.

    Attributes
    ----------
    backend : str
    requests, failed, in_flight : int
        Requests finished, failed and in flight.
    seconds : float
        From the first submission to the last completion.
    throughput_per_second : float
        Finished requests over ``seconds``.
    latency_seconds : dict
        ``p50``, ``p95``, ``p99`` of the last requests (at most 4096), from admission to completion.
    stages : tuple of StageStats
    """

    backend: str
    requests: int
    failed: int
    in_flight: int
    seconds: float
    throughput_per_second: float
    latency_seconds: dict[str, float | None]
    stages: tuple[StageStats, ...]

    def to_json(self) -> dict[str, Any]:
        """Return a JSON document."""
        return asdict(self)


def percentile(values: Sequence[float], share: float) -> float | None:
    """Return the smallest value that at least ``share`` of all values do not exceed; None for no values."""
    ranked = sorted(values)
    return ranked[max(0, math.ceil(share * len(ranked)) - 1)] if ranked else None


def latencies(values: Sequence[float]) -> dict[str, float | None]:
    """Return the percentiles that everything here reports."""
    return {f"p{p}": percentile(values, p / 100) for p in (50, 95, 99)}


class Recorder:
    """Adds up what finished requests tell; safe to use from several threads.

    Parameters
    ----------
    files : sequence of str
        Of the stages.
    replicas : sequence of int, optional
        Of each stage, one by default.
    """

    def __init__(self, files: Sequence[str], replicas: Sequence[int] | None = None) -> None:
        self._files = tuple(files)
        self._replicas = tuple(replicas or (1 for _ in files))
        self._lock = threading.Lock()
        self.reset()

    def reset(self) -> None:
        """Forget everything."""
        with self._lock:
            self._began = now()
            self._first: int | None = None
            self._last = 0
            self._done = self._failed = 0
            self._latencies: deque[float] = deque(maxlen=KEPT)
            self._timelines: deque[Timeline] = deque(maxlen=TIMELINES)
            self._sums = [[[0] * 6 for _ in range(count)] for count in self._replicas]

    def add(self, number: int, submitted: int, spans: Sequence[Span], failed: bool) -> None:
        """Record a finished request."""
        done = now()
        with self._lock:
            self._first = submitted if self._first is None else min(self._first, submitted)
            self._last = done
            if failed:
                self._failed += 1
            else:
                self._done += 1
                self._latencies.append((done - submitted) / NS)
            self._timelines.append(Timeline(number, submitted, done, tuple(spans)))
            for span in spans:
                row = self._sums[span.stage][span.replica]
                row[0] += 1
                row[1] += span.end - span.start - span.copy
                row[2] += span.start - max(span.idle, self._began)
                row[3] += span.sent - span.end
                row[4] += span.nbytes
                row[5] += span.copy

    def timelines(self) -> list[Timeline]:
        """Return the last finished requests, oldest first."""
        with self._lock:
            return list(self._timelines)

    def stats(self, backend: str, in_flight: int, notes: Mapping[tuple[int, int], Note]) -> Stats:
        """Return everything so far; notes are those of the backend."""
        with self._lock:
            seconds = 0.0 if self._first is None else (self._last - self._first) / NS
            return Stats(
                backend,
                self._done,
                self._failed,
                in_flight,
                seconds,
                self._done / seconds if seconds else 0.0,
                latencies(self._latencies),
                tuple(
                    _stage_stats(index, file, rows, notes)
                    for index, (file, rows) in enumerate(zip(self._files, self._sums, strict=True))
                ),
            )


def _stage_stats(
    index: int, file: str, rows: Sequence[Sequence[int]], notes: Mapping[tuple[int, int], Note]
) -> StageStats:
    replicas = tuple(
        ReplicaStats(number, *_figures(row), *notes.get((index, number), ()))
        for number, row in enumerate(rows)
    )
    return StageStats(index, file, *_figures([sum(column) for column in zip(*rows, strict=True)]), replicas)


def _figures(row: Sequence[int]) -> tuple[int, float, float, float, int, float]:
    requests, busy, waited, blocked, nbytes, copied = row
    return requests, busy / NS, waited / NS, blocked / NS, nbytes, copied / NS
