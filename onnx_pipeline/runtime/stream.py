"""A stream of requests, lazy on both ends."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future
from queue import SimpleQueue
from typing import Any, TypeVar

T = TypeVar("T")


def stream(
    submit: Callable[[T], Future[list[Any]]],
    requests: Iterable[T],
    ordered: bool,
    window: int,
    return_exceptions: bool,
) -> Iterator[Any]:
    """Submit requests while results are read; see :meth:`~onnx_pipeline.PipelineSession.map`.

    Parameters
    ----------
    submit : callable
        Starts a request.
    requests : iterable
    ordered : bool
        Yield in the order of the requests.
    window : int
        Requests taken and not yielded yet.
    return_exceptions : bool
        Yield exceptions of requests instead of raising them.
    """
    pending = _InOrder() if ordered else _AsDone()
    source = iter(requests)
    failure: Exception | None = None
    more = True
    while more or pending.count:
        while pending.count and (not more or pending.ready() or pending.count >= window):
            yield _outcome(pending.take(), return_exceptions)
        if not more:
            continue
        try:
            request = next(source)
        except StopIteration:
            more = False
            continue
        except Exception as error:
            failure, more = error, False
            continue
        try:
            pending.add(submit(request))
        except Exception as error:
            if return_exceptions:
                future: Future[list[Any]] = Future()
                future.set_exception(error)
                pending.add(future)
            else:
                failure, more = error, False
    if failure is not None:
        raise failure


class _InOrder:
    """Futures in the order in which they were added."""

    def __init__(self) -> None:
        self._futures: deque[Future[list[Any]]] = deque()

    @property
    def count(self) -> int:
        return len(self._futures)

    def add(self, future: Future[list[Any]]) -> None:
        self._futures.append(future)

    def ready(self) -> bool:
        return self._futures[0].done()

    def take(self) -> Future[list[Any]]:
        return self._futures.popleft()


class _AsDone:
    """Futures in the order in which they finish."""

    def __init__(self) -> None:
        self._done: SimpleQueue[Future[list[Any]]] = SimpleQueue()
        self.count = 0

    def add(self, future: Future[list[Any]]) -> None:
        self.count += 1
        future.add_done_callback(self._done.put)

    def ready(self) -> bool:
        return not self._done.empty()

    def take(self) -> Future[list[Any]]:
        self.count -= 1
        return self._done.get()


def _outcome(future: Future[list[Any]], return_exceptions: bool) -> Any:
    if return_exceptions and isinstance(error := future.exception(), Exception):
        return error
    return future.result()
