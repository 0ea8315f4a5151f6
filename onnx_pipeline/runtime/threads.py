"""Stages on threads of this process: tensors are handed over by reference."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Sequence
from queue import SimpleQueue
from typing import Any

from onnx_pipeline.errors import PipelineError, StageError
from onnx_pipeline.ort.call import Runner
from onnx_pipeline.ort.errors import reason
from onnx_pipeline.runtime.placement import StageSpec, confine, load
from onnx_pipeline.runtime.request import Finish, Request, StageInfo
from onnx_pipeline.runtime.stats import Span, now
from onnx_pipeline.runtime.wiring import Wiring

#: Seconds that a stage may take to notice that it should stop.
GRACE = 5.0


class Threads:
    """One session and one thread per stage; onnxruntime computes without the interpreter lock.

    The threads know this object only, never the session that made it, so that a forgotten session can go.

    Parameters
    ----------
    specs : sequence of StageSpec
    wiring : Wiring
    depth : int
        Requests that may wait between two stages.
    finish : Finish
    """

    name = "threads"

    def __init__(self, specs: Sequence[StageSpec], wiring: Wiring, depth: int, finish: Finish) -> None:
        self._specs, self._wiring, self._finish = specs, wiring, finish
        sessions = [load(spec) for spec in specs]
        self.infos: Sequence[StageInfo] = [describe(session) for session in sessions]
        self._runners = [Runner(s, names) for s, names in zip(sessions, wiring.outputs, strict=True)]
        self._reason: BaseException | None = None
        self._lock = threading.Lock()
        self._inside: set[Request] = set()
        self._inbox: list[SimpleQueue[Request | None]] = [SimpleQueue() for _ in specs]
        # What bounds the queue before each stage: whoever hands over takes one, who receives gives it back.
        self._room: list[SimpleQueue[None]] = [SimpleQueue() for _ in specs]
        for room in self._room:
            for _ in range(depth):
                room.put(None)
        self._threads = [
            threading.Thread(target=self._work, args=(i,), name=f"stage {i}", daemon=True)
            for i in range(wiring.stages)
        ]
        for thread in self._threads:
            thread.start()

    def put(self, request: Request) -> None:
        """Queue a request for the first stage."""
        with self._lock:
            if self._reason is not None:
                raise self._reason
            self._inside.add(request)
        self._inbox[0].put(request)

    def close(self, reason: BaseException | None = None) -> None:
        """End the threads; kernels that run are interrupted at the next one if there is a reason."""
        with self._lock:
            self._reason = reason or PipelineError("the pipeline session is closed")
        if reason is not None:
            for runner in self._runners:
                runner.stop()
        self._inbox[0].put(None)
        for thread in self._threads:
            if thread is not threading.current_thread():
                thread.join(None if reason is None else GRACE)
        with self._lock:
            left = list(self._inside)
        for request in left:  # a kernel that never ends keeps its thread, but nobody waits for it
            self._done(request, self._reason)
        if not any(thread.is_alive() for thread in self._threads):
            self._runners = []

    def _work(self, index: int) -> None:
        """Be stage ``index``."""
        confine(self._specs[index].cores)
        inbox, room = self._inbox[index], self._room[index] if index else None
        last = index == self._wiring.stages - 1
        while True:
            idle = now()
            request = inbox.get()
            if room is not None:
                room.put(None)
            if request is None:
                if not last:
                    self._inbox[index + 1].put(None)
                return
            start = now()
            error = self._run(index, request)
            end = sent = now()
            if error is None and not last:
                self._room[index + 1].get()
                sent = now()
            nbytes = 0 if error else _nbytes(request, self._wiring.outputs[index])
            request.spans.append(Span(index, idle, start, end, sent, nbytes, 0))
            if error is None and not last:
                self._inbox[index + 1].put(request)
            else:
                self._done(request, error)
            del request, error  # nothing may stay alive while this thread waits

    def _run(self, index: int, request: Request) -> BaseException | None:
        """Run one stage of a request; return what went wrong."""
        if self._reason is not None:
            return self._reason
        wiring, live = self._wiring, request.live
        try:
            feeds = {name: live[name] for name in wiring.inputs[index]}
            feeds |= {name: live[name] for name in wiring.defaults[index] if name in live}
            values = self._runners[index](feeds)
        except BaseException as error:
            return self._reason or StageError(self._specs[index].path, index, reason(error))
        for name, value in zip(wiring.outputs[index], values, strict=True):
            live[name] = value
            if wiring.last_reader.get(name) == wiring.stages:
                request.results[name] = value
        for name in wiring.released[index]:
            live.pop(name, None)
        return None

    def _done(self, request: Request, error: BaseException | None) -> None:
        with self._lock:
            if request not in self._inside:
                return
            self._inside.remove(request)
        request.live.clear()
        with contextlib.suppress(Exception):  # a callback of the caller must not end a stage
            self._finish(request, error)


def describe(session: Any) -> StageInfo:
    """Return what a session says of itself."""
    meta = session.get_modelmeta()
    names = ("producer_name", "graph_name", "domain", "description", "version", "custom_metadata_map")
    return StageInfo(tuple(session.get_providers()), {name: getattr(meta, name) for name in names})


def _nbytes(request: Request, names: Sequence[str]) -> int:
    values = (request.live.get(name, request.results.get(name)) for name in names)
    return sum(getattr(value, "nbytes", 0) for value in values)
