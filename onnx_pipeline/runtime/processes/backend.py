"""Stages in processes of their own: tensors pass through shared memory, requests from stage to stage."""

from __future__ import annotations

import contextlib
import threading
from collections import deque
from collections.abc import Sequence

from onnx_pipeline.errors import PipelineError, StageError
from onnx_pipeline.runtime.placement import StageSpec
from onnx_pipeline.runtime.processes.crew import GRACE, Crew
from onnx_pipeline.runtime.processes.worker import Message
from onnx_pipeline.runtime.request import Finish, Request, StageInfo
from onnx_pipeline.runtime.stats import Span
from onnx_pipeline.runtime.wiring import Wiring


class Processes:
    """One process per stage, and two threads here: one collects results, one watches the workers.

    Parameters
    ----------
    specs : sequence of StageSpec
    wiring : Wiring
    depth : int
        Requests that may wait between two stages.
    limit : int
        Requests inside at once.
    finish : Finish
    restart : bool
        Replace the workers when one has died.
    """

    name = "processes"

    def __init__(
        self,
        specs: Sequence[StageSpec],
        wiring: Wiring,
        depth: int,
        limit: int,
        finish: Finish,
        restart: bool = False,
    ) -> None:
        self._plan = (specs, wiring, depth, limit)
        self._finish, self._restart = finish, restart
        self._lock = threading.Lock()
        self._broken: BaseException | None = None
        self._inside: deque[Request] = deque()
        self._crew: Crew | None = Crew(*self._plan)
        self.infos: Sequence[StageInfo] = self._crew.infos
        self._collector = threading.Thread(target=self._collect, name="collector", daemon=True)
        self._collector.start()

    @property
    def workers(self) -> list[int]:
        """Process ids, by stage; none while the stages are being restarted."""
        crew = self._crew
        return [] if crew is None else [process.pid for process in crew.processes]

    def put(self, request: Request) -> None:
        """Copy the inputs into shared memory and tell the first stage; later, if the stages restart."""
        with self._lock:
            if self._broken is not None:
                raise self._broken
            self._inside.append(request)
            if self._crew is not None and (error := _send(self._crew, request)) is not None:
                self._inside.remove(request)
                raise error

    def close(self, reason: BaseException | None = None) -> None:
        """End the processes: at once if there is a reason, else as soon as each has noticed."""
        with self._lock:
            self._broken = reason or PipelineError("the pipeline session is closed")
            crew = self._crew
        if crew is not None:
            crew.stop(at_once=reason is not None)
        if threading.current_thread() is not self._collector:
            self._collector.join(2 * GRACE)

    def _collect(self) -> None:
        """Take results from the last stage; when the workers are gone, fail what was inside."""
        while (crew := self._crew) is not None:
            with contextlib.suppress(EOFError, OSError):
                while True:
                    self._deliver(crew, crew.receive())
            with self._lock:  # never held while something is waited for: callers may be event loops
                self._crew = None
                lost, self._inside = self._inside, deque()
            reason = self._broken or crew.autopsy()
            crew.stop(at_once=True)
            crew.close()
            for request in lost:
                self._end(request, reason)
            self._replace(reason)

    def _replace(self, reason: BaseException) -> None:
        """Start a new crew unless that is not wanted, and send it what has come in since."""
        crew: Crew | None = None
        if self._restart and self._broken is None:
            try:
                crew = Crew(*self._plan)
            except Exception as error:
                reason = error
        with self._lock:
            if crew is not None and self._broken is None:
                self._crew = crew
                found = [(request, _send(crew, request)) for request in self._inside]
                failed = [(request, problem) for request, problem in found if problem is not None]
                self._inside = deque(request for request, problem in found if problem is None)
            else:
                self._broken = broken = self._broken or reason
                failed, self._inside = [(request, broken) for request in self._inside], deque()
        if crew is not None and self._crew is None:
            crew.stop(at_once=True)
            crew.close()
        for request, problem in failed:
            self._end(request, problem)

    def _deliver(self, crew: Crew, message: Message) -> None:
        number, places, spans, error = message
        request = self._inside.popleft()  # without the lock: whoever holds it may wait for room in a pipe
        assert request.number == number
        request.spans.extend(map(Span._make, spans))
        failure: BaseException | None = None
        if error is None:
            request.results.update((name, crew.read(name, place)) for name, place in places.items())
        else:
            stage, reason = error
            failure = StageError(crew.specs[stage].path, stage, reason)
        self._end(request, failure)

    def _end(self, request: Request, error: BaseException | None) -> None:
        request.live.clear()
        with contextlib.suppress(Exception):  # a callback of the caller must not end the collector
            self._finish(request, error)


def _send(crew: Crew, request: Request) -> BaseException | None:
    """Hand a request to a crew; return why it cannot be handed over."""
    try:
        crew.send(request)
    except BrokenPipeError:
        pass  # the collector is about to fail everything inside
    except BaseException as error:
        return error
    return None
