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
        self._changed = threading.Condition()
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
        """Copy the inputs into shared memory and tell the first stage."""
        with self._changed:
            self._changed.wait_for(lambda: self._crew is not None or self._broken is not None)
            if self._broken is not None:
                raise self._broken
            assert self._crew is not None
            self._inside.append(request)
            try:
                self._crew.send(request)
            except BrokenPipeError:
                pass  # the collector is about to fail everything inside
            except BaseException:
                self._inside.remove(request)
                raise

    def close(self, reason: BaseException | None = None) -> None:
        """End the processes: at once if there is a reason, else as soon as each has noticed."""
        with self._changed:
            self._broken = reason or PipelineError("the pipeline session is closed")
            crew = self._crew
            self._changed.notify_all()
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
            with self._changed:
                self._crew = None
                reason = self._broken or crew.autopsy()
                lost = list(self._inside)
                self._inside.clear()
                if not self._restart:
                    self._broken = reason
            crew.stop(at_once=True)
            crew.close()
            for request in lost:
                self._end(request, reason)
            self._replace()

    def _replace(self) -> None:
        """Start a new crew unless that is not wanted."""
        with self._changed:
            if self._broken is None:
                try:
                    self._crew = Crew(*self._plan)
                except Exception as error:
                    self._broken = error
            self._changed.notify_all()

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
