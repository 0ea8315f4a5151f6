"""What a border between two stages on this host costs: waking the next stage, and moving a tensor to it."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from multiprocessing import get_context
from multiprocessing.shared_memory import SharedMemory
from queue import SimpleQueue
from threading import Thread
from typing import Any

import numpy as np

_REPEATS = 7
_ROUND_TRIPS = 60
#: Who waits for a tensor sleeps meanwhile, and waking up is most of a hand-over.
_IDLE_SECONDS = 1e-3
#: A tensor as it crosses a border: larger than a core's own cache, smaller than what cores share.
_TENSOR_BYTES = 1 << 22
#: A link faster than this counts as unlimited.
_UNLIMITED = 1e12


def thread_handover() -> float:
    """Return seconds from putting an item into a queue to a waiting thread having it."""
    there: SimpleQueue[object] = SimpleQueue()
    back: SimpleQueue[object] = SimpleQueue()

    def echo() -> None:
        while (item := there.get()) is not None:
            back.put(item)

    thread = Thread(target=echo, daemon=True)
    thread.start()

    def trip() -> None:
        there.put(1)
        back.get()

    try:
        return _waking(trip) / 2
    finally:
        there.put(None)
        thread.join()


def process_handover() -> float:
    """Return seconds from releasing a semaphore to a waiting process running."""
    context = get_context("spawn")
    there, back = context.Semaphore(0), context.Semaphore(0)
    process = context.Process(target=_echo_process, args=(there, back, _ROUND_TRIPS + 1), daemon=True)
    process.start()
    there.release()
    back.acquire()  # the process is up

    def trip() -> None:
        there.release()
        back.acquire()

    seconds = _waking(trip) / 2
    process.join(timeout=10)
    return seconds


def _echo_process(there: Any, back: Any, trips: int) -> None:
    for _ in range(trips):
        there.acquire()
        back.release()


def thread_bandwidth() -> float:
    """Return bytes/second at which a core reads what another one has just written, beyond its own speed."""
    data = np.zeros(_TENSOR_BYTES // 8)
    ready: SimpleQueue[int | None] = SimpleQueue()
    done: SimpleQueue[int] = SimpleQueue()

    def produce() -> None:
        while ready.get() is not None:
            np.add(data, 1.0, out=data)
            done.put(1)

    thread = Thread(target=produce, daemon=True)
    thread.start()
    own, other = [], []
    for _ in range(4 * _REPEATS):
        np.add(data, 1.0, out=data)
        own.append(timed(data.sum))
        ready.put(1)
        done.get()
        other.append(timed(data.sum))
    ready.put(None)
    thread.join()
    extra = float(np.median(other) - np.median(own))
    # A difference within the scatter of reading one's own data means nothing.
    noise = float(np.quantile(own, 0.75) - np.quantile(own, 0.25))
    rate = _TENSOR_BYTES / extra if extra > max(noise, 1e-9) else math.inf
    return rate if rate < _UNLIMITED else math.inf


def process_bandwidth() -> float:
    """Return bytes/second of writing a tensor into shared memory and reading it there."""
    memory = SharedMemory(create=True, size=_TENSOR_BYTES)
    try:
        shared = np.ndarray((_TENSOR_BYTES // 8,), dtype=np.float64, buffer=memory.buf)
        source = np.ones_like(shared)
        other = np.ones(1 << 22)  # what else runs between two transfers

        times = []
        for _ in range(2 * _REPEATS):
            np.add(other, 1.0, out=other)
            start = time.perf_counter()
            shared[:] = source
            times.append(time.perf_counter() - start)
        del shared  # closing refuses while an array looks into it
        return _TENSOR_BYTES / float(np.median(times))
    finally:
        memory.close()
        memory.unlink()


def _waking(trip: Callable[[], object]) -> float:
    """Median seconds of a round trip to somebody who sleeps."""
    times = []
    for _ in range(_ROUND_TRIPS):
        time.sleep(_IDLE_SECONDS)
        times.append(timed(trip))
    return float(np.median(times))


def timed(step: Callable[[], object]) -> float:
    """Return the seconds that a step takes."""
    start = time.perf_counter()
    step()
    return time.perf_counter() - start
