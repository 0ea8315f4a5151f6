"""Requests on their way through a pipeline: let in, handed to the stages, recorded when they leave."""

from __future__ import annotations

import asyncio
import itertools
import os
import weakref
from collections.abc import Callable, Hashable, Sequence
from concurrent.futures import Future
from typing import Any

from onnx_pipeline.errors import PipelineError
from onnx_pipeline.ort.call import to_numpy
from onnx_pipeline.runtime.gate import Gate
from onnx_pipeline.runtime.request import Backend, Finish, Request
from onnx_pipeline.runtime.stats import Recorder, Stats, Timeline, now


class Flow:
    """What is between a caller and the stages.

    A flow that nobody closes is closed when it goes, at the latest when the interpreter ends.

    Parameters
    ----------
    limit : int
        Requests inside at once.
    recorder : Recorder
    start : callable
        Starts the stages, which take every request to the function that it is given.

    Attributes
    ----------
    gate : Gate
    backend : Backend
    """

    def __init__(self, limit: int, recorder: Recorder, start: Callable[[Finish], Backend]) -> None:
        self.gate = Gate(limit)
        self._recorder = recorder
        self._numbers = itertools.count()
        self._closed = False
        self._process = os.getpid()
        self.backend = start(_finisher(self.gate, self._recorder))
        self._finalizer = weakref.finalize(self, _abandon, self.backend, self.gate, self._process)

    def check_open(self) -> None:
        """Refuse to go on after :meth:`close`, and in a fork: its threads and workers stayed behind.

        Raises
        ------
        PipelineError
        """
        if os.getpid() != self._process:
            message = "the pipeline session belongs to the process that forked this one"
            raise PipelineError(message, "open one of its own")
        if self._closed:
            raise PipelineError("the pipeline session is closed")

    def request(
        self,
        live: dict[str, Any],
        wanted: Sequence[str],
        results: dict[str, Any],
        sequence: Hashable | None = None,
    ) -> Request:
        """Return the next request, not inside yet; parameters as its attributes."""
        return Request(next(self._numbers), live, wanted, 0, results, sequence=sequence)

    def submit(self, request: Request) -> Future[list[Any]]:
        """Start a request once it may come in."""
        self.gate.wait()
        return self._start(request)

    async def run(self, request: Request) -> list[Any]:
        """Start a request once it may come in, and wait for it without blocking the event loop."""
        waiter = self.gate.enter()
        if waiter is not None:
            try:
                await asyncio.shield(asyncio.wrap_future(waiter))
            except BaseException:
                self.gate.give_up(waiter)
                raise
        return await asyncio.wrap_future(self._start(request))

    def stats(self) -> Stats:
        """Return what was done so far."""
        return self._recorder.stats(self.backend.name, self.gate.inside, self.backend.notes)

    def timelines(self) -> list[Timeline]:
        """Return when the last requests were in which stage."""
        return self._recorder.timelines()

    def forget(self) -> None:
        """Forget the statistics."""
        self._recorder.reset()

    def close(self, drain: bool = True, timeout: float | None = None) -> None:
        """Let no request in any more and release the stages; see :meth:`PipelineSession.close`."""
        if os.getpid() != self._process:  # not ours to close
            return
        closed = PipelineError("the pipeline session is closed")
        self.gate.close(closed)
        if self._closed:
            return
        self._closed = True
        reason: BaseException | None = closed
        try:
            if drain and self.gate.wait_idle(timeout):
                reason = None
        finally:
            self._finalizer.detach()
            self.backend.close(reason)

    def _start(self, request: Request) -> Future[list[Any]]:
        request.submitted = now()
        request.future.set_running_or_notify_cancel()
        future = request.future
        try:
            self.backend.put(request)
        except BaseException:
            self.gate.leave()
            raise
        return future


def _finisher(gate: Gate, recorder: Recorder) -> Finish:
    """Return what ends a request; it must not hold the flow, or none would ever go."""

    def finish(request: Request, error: BaseException | None) -> None:
        outputs: list[Any] = []
        if error is None:
            try:
                outputs = [to_numpy(request.results[name]) for name in request.wanted]
            except Exception as problem:
                error = problem
        request.results.clear()
        recorder.add(request.number, request.submitted, request.spans, error is not None)
        gate.leave()
        if error is None:
            request.future.set_result(outputs)
        else:
            request.future.set_exception(error)

    return finish


def _abandon(backend: Backend, gate: Gate, process: int) -> None:
    if os.getpid() != process:
        return
    reason = PipelineError("the pipeline session no longer exists")
    gate.close(reason)
    backend.close(reason)
