"""Stages on threads of this process: tensors are handed over by reference."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Hashable, Mapping, Sequence
from queue import SimpleQueue
from typing import Any

from onnx_pipeline.errors import PipelineError, StageError
from onnx_pipeline.ort.call import Runner
from onnx_pipeline.ort.errors import reason
from onnx_pipeline.runtime.board import Board
from onnx_pipeline.runtime.layout import Layout
from onnx_pipeline.runtime.placement import StageSpec, confine, load
from onnx_pipeline.runtime.request import Finish, Request, StageInfo
from onnx_pipeline.runtime.stats import Note, Span, now
from onnx_pipeline.runtime.wiring import Wiring

#: Seconds that a stage may take to notice that it should stop.
GRACE = 5.0
#: A stage, a request, and the worker that handed it over, -1 for the caller.
_Job = tuple[int, Request, int]


class Threads:
    """One thread per worker, with a session for each of its stages; onnxruntime computes without the
    interpreter lock.

    The threads know this object only, never the session that made it, so that a forgotten session can go.

    Parameters
    ----------
    specs : sequence of StageSpec
    wiring : Wiring
    layout : Layout
    depth : int
        Requests of a worker that may wait for the next stage.
    finish : Finish
    """

    name = "threads"
    notes: Mapping[tuple[int, int], Note] = {}  # a thread does not die alone

    def __init__(
        self, specs: Sequence[StageSpec], wiring: Wiring, layout: Layout, depth: int, finish: Finish
    ) -> None:
        self._specs, self._wiring, self._layout, self._finish = specs, wiring, layout, finish
        sessions = [
            {stage: load(specs[stage].at(layout.replica[worker])) for stage in own}
            for worker, own in enumerate(layout.workers)
        ]
        self.infos: Sequence[StageInfo] = [
            describe(sessions[workers[0]][stage]) for stage, workers in enumerate(layout.serving)
        ]
        self._runners = [
            {stage: Runner(session, wiring.outputs[stage]) for stage, session in mine.items()}
            for mine in sessions
        ]
        self._reason: BaseException | None = None
        self._lock = threading.Lock()
        self._inside: set[Request] = set()
        self._board: Board[tuple[Request, int]] = Board(layout)
        self._inbox: list[SimpleQueue[_Job | None]] = [SimpleQueue() for _ in layout.workers]
        # What bounds the queues: whoever hands over takes one, and gets it back when the request is taken.
        self._room: list[SimpleQueue[None]] = [SimpleQueue() for _ in layout.workers]
        for room in self._room:
            for _ in range(depth):
                room.put(None)
        self._threads = [
            threading.Thread(target=self._work, args=(worker,), name=_name(layout, worker), daemon=True)
            for worker in range(len(layout.workers))
        ]
        for thread in self._threads:
            thread.start()

    def put(self, request: Request) -> None:
        """Queue a request for the first stage."""
        with self._lock:
            if self._reason is not None:
                raise self._reason
            self._inside.add(request)
        self._hand(0, request, -1)

    def forget(self, sequence: Hashable) -> None:
        """Let a sequence end."""
        with self._lock:
            self._board.forget(sequence)
            found = list(self._board.settle())
        for taker, stage, (request, giver) in found:
            self._inbox[taker].put((stage, request, giver))

    def close(self, reason: BaseException | None = None) -> None:
        """End the threads; kernels that run are interrupted at the next one if there is a reason."""
        with self._lock:
            self._reason = reason or PipelineError("the pipeline session is closed")
        if reason is not None:
            for runners in self._runners:
                for runner in runners.values():
                    runner.stop()
        for inbox, room in zip(self._inbox, self._room, strict=True):
            room.put(None)  # nobody goes on waiting for it
            inbox.put(None)
        for thread in self._threads:
            if thread is not threading.current_thread():
                thread.join(None if reason is None else GRACE)
        with self._lock:
            left = list(self._inside)
        for request in left:  # a kernel that never ends keeps its thread, but nobody waits for it
            self._done(request, self._reason)
        if not any(thread.is_alive() for thread in self._threads):
            self._runners = []

    def _work(self, worker: int) -> None:
        """Serve the stages of a worker."""
        confine(self._specs[self._layout.workers[worker][0]].at(self._layout.replica[worker]).cores)
        idle = now()
        job = self._inbox[worker].get()
        while job is not None:
            stage, request, giver = job
            if giver >= 0:
                self._room[giver].put(None)
            start = now()
            error = self._run(worker, stage, request)
            end = sent = now()
            if error is None and self._layout.bounded[stage]:
                self._room[worker].get()
                sent = now()
            nbytes = 0 if error else _nbytes(request, self._wiring.outputs[stage])
            replica = self._layout.replica[worker]
            request.spans.append(Span(stage, idle, start, end, sent, nbytes, 0, replica))
            if error is None and stage + 1 < self._wiring.stages:
                self._hand(stage + 1, request, worker if self._layout.bounded[stage] else -1)
            else:
                self._done(request, error)
            del request, error, job  # nothing may stay alive while this thread waits
            idle = now()
            job = self._next(worker)

    def _hand(self, stage: int, request: Request, giver: int) -> None:
        """Give a request to a worker of the stage that is free, or let it wait for one."""
        with self._lock:
            taker = self._board.offer(stage, (request, giver), request.sequence)
        if taker is not None:
            self._inbox[taker].put((stage, request, giver))

    def _next(self, worker: int) -> _Job | None:
        """Wait for what a worker does next; None for the end."""
        with self._lock:
            if self._reason is not None:
                return None
            found = self._board.finished(worker)
        if found is None:
            return self._inbox[worker].get()
        stage, (request, giver) = found
        return stage, request, giver

    def _run(self, worker: int, stage: int, request: Request) -> BaseException | None:
        """Run one stage of a request; return what went wrong."""
        if self._reason is not None:
            return self._reason
        wiring, live = self._wiring, request.live
        try:
            feeds = {name: live[name] for name in wiring.inputs[stage]}
            feeds |= {name: live[name] for name in wiring.defaults[stage] if name in live}
            values = self._runners[worker][stage](feeds)
        except BaseException as error:
            return self._reason or StageError(self._specs[stage].path, stage, reason(error))
        for name, value in zip(wiring.outputs[stage], values, strict=True):
            live[name] = value
            if wiring.last_reader.get(name) == wiring.stages:
                request.results[name] = value
        for name in wiring.released[stage]:
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


def _name(layout: Layout, worker: int) -> str:
    stages = ", ".join(map(str, layout.workers[worker]))
    return f"stage {stages}" + (f", replica {layout.replica[worker]}" if layout.replica[worker] else "")


def _nbytes(request: Request, names: Sequence[str]) -> int:
    values = (request.live.get(name, request.results.get(name)) for name in names)
    return sum(getattr(value, "nbytes", 0) for value in values)
