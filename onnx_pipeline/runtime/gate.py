"""A limit on requests in flight: those above it wait, first come, first served."""

from __future__ import annotations

import threading
import time
from collections import deque
from concurrent.futures import Future


class Gate:
    """A fair counting semaphore that threads and coroutines may wait for.

    Parameters
    ----------
    limit : int
        Requests inside at once.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.inside = 0
        self._waiters: deque[Future[None]] = deque()
        self._closed: BaseException | None = None
        self._changed = threading.Condition(threading.Lock())

    def enter(self) -> Future[None] | None:
        """Enter, or return a future that is done once the caller is inside.

        Raises
        ------
        BaseException
            What :meth:`close` was given.
        """
        with self._changed:
            if self._closed is not None:
                raise self._closed
            if self.inside < self.limit:
                self.inside += 1
                return None
            waiter: Future[None] = Future()
            self._waiters.append(waiter)
            return waiter

    def wait(self) -> None:
        """Enter; wait as long as it takes."""
        waiter = self.enter()
        if waiter is None:
            return
        try:
            waiter.result()
        except BaseException:
            self.give_up(waiter)
            raise

    def give_up(self, waiter: Future[None]) -> None:
        """Stop waiting; leave if the waiter has been admitted meanwhile."""
        if not waiter.cancel() and not waiter.cancelled() and waiter.exception() is None:
            self.leave()

    def leave(self) -> None:
        """Let the next one in."""
        with self._changed:
            while self._waiters:
                waiter = self._waiters.popleft()
                if waiter.set_running_or_notify_cancel():
                    waiter.set_result(None)
                    return
            self.inside -= 1
            if not self.inside:
                self._changed.notify_all()

    def close(self, reason: BaseException) -> None:
        """Admit nobody further; waiters get the reason."""
        with self._changed:
            self._closed = reason
            while self._waiters:
                waiter = self._waiters.popleft()
                if waiter.set_running_or_notify_cancel():
                    waiter.set_exception(reason)

    def wait_idle(self, timeout: float | None = None) -> bool:
        """Wait until nobody is inside; return whether that happened in time."""
        deadline = None if timeout is None else time.monotonic() + timeout
        with self._changed:
            while self.inside:
                # Bounded, because a wait without limit cannot be interrupted on every platform.
                left = 1.0 if deadline is None else min(1.0, deadline - time.monotonic())
                if left <= 0:
                    return False
                self._changed.wait(left)
        return True
