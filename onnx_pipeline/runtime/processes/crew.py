"""The worker processes of one start: made, instructed, watched and ended."""

from __future__ import annotations

import contextlib
import os
import pickle
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from multiprocessing.connection import wait
from pathlib import Path
from typing import Any

import numpy as np

import onnx_pipeline
from onnx_pipeline.errors import InputError, PipelineError, StageError, UsageError
from onnx_pipeline.runtime.inputs import numpy_type
from onnx_pipeline.runtime.placement import StageSpec
from onnx_pipeline.runtime.processes.pipes import Receiver, Sender
from onnx_pipeline.runtime.processes.rings import PlaceRow, Ring, anonymous_file, place_of, slots_needed
from onnx_pipeline.runtime.processes.worker import Message, WorkerSpec
from onnx_pipeline.runtime.request import Request, StageInfo
from onnx_pipeline.runtime.wiring import HOST, Wiring

#: Seconds that a worker may take to end by itself.
GRACE = 5.0
_ROOT = str(Path(onnx_pipeline.__file__).resolve().parent.parent)
_BOOT = (
    "import sys; sys.path.append({!r}); from onnx_pipeline.runtime.processes.worker import main; main({}, {})"
)


class Crew:
    """One process per stage, with pipes from each to the next and the shared memory between them.

    Raises
    ------
    InputError, UsageError
        If a stage cannot be loaded; what its worker raises.
    """

    def __init__(self, specs: Sequence[StageSpec], wiring: Wiring, depth: int, limit: int) -> None:
        self.specs, self._wiring = specs, wiring
        self.processes: list[subprocess.Popen[bytes]] = []
        self._controls: list[Sender] = []
        self._reports: list[Receiver] = []
        self._rings: dict[int, Ring] = {}
        self._fed = [(r, names) for r, (key, names) in enumerate(wiring.rings.items()) if key[0] == HOST]
        self._first, self._last, self._taken = Sender(-1), Receiver(-1), Sender(-1)
        self._stopping = False
        self._culprit: PipelineError | None = None
        opened: list[int] = []
        try:
            self._start(depth, limit, opened)
        except BaseException:
            self.stop(at_once=True)
            self._release()
            raise
        finally:
            for descriptor in opened:
                os.close(descriptor)
        self._watcher = threading.Thread(target=self._watch, name="watcher", daemon=True)
        self._watcher.start()

    def _start(self, depth: int, limit: int, opened: list[int]) -> None:
        """Start the workers; the descriptors in ``opened`` are theirs and the caller's to close."""

        def pipe() -> tuple[int, int]:
            ends = os.pipe()
            opened.extend(ends)
            return ends

        wiring, stages, keys = self._wiring, self._wiring.stages, list(self._wiring.rings)
        # Link i leads to stage i and the last one back here; room i leads the other way. The first stage
        # needs none, the caller's limit bounds its queue.
        links = [pipe() for _ in range(stages + 1)]
        rooms = [(-1, -1), *(pipe() for _ in range(stages))]
        sizes = [limit if p == HOST else slots_needed(depth, last - p, limit) for p, last in keys]
        files: list[int] = []
        for size in sizes:
            files.append(anonymous_file(size))
            opened.append(files[-1])
        for i, spec in enumerate(self.specs):
            used = [
                r
                for r, key in enumerate(keys)
                if key[0] == i or set(wiring.rings[key]) & set(wiring.reads(i))
            ]
            told = WorkerSpec(
                spec=spec,
                inputs=wiring.inputs[i],
                defaults=wiring.defaults[i],
                outputs=wiring.outputs[i],
                released=frozenset(wiring.released[i]),
                source=links[i][0],
                sink=links[i + 1][1],
                room_before=rooms[i][1],
                room_after=rooms[i + 1][0],
                depth=depth,
                rings={r: (files[r], sizes[r]) for r in used},
                writes={r: wiring.rings[key] for r, key in enumerate(keys) if key[0] == i},
                fixed=wiring.fixed[i],
            )
            self._spawn(told)
        self.infos = [self._greet(i) for i in range(stages)]
        # What this process goes on using is its own copy, all else belongs to the workers alone: only
        # then does a pipe end when the process at its other end does.
        for r, (producer, last) in enumerate(keys):
            if producer == HOST or last == stages:
                self._rings[r] = Ring(r, os.dup(files[r]), sizes[r])
        self._first.descriptor = os.dup(links[0][1])
        self._last.descriptor = os.dup(links[-1][0])
        self._taken.descriptor = os.dup(rooms[-1][1])

    def send(self, request: Request) -> None:
        """Hand a request to the first stage."""
        places: dict[str, PlaceRow] = {}
        for ring, names in self._fed:
            given = [name for name in names if name in request.live]  # the rest has default values
            if not given:
                continue
            written = self._rings[ring].write([request.live[name] for name in given])
            places.update(zip(given, written, strict=True))
        request.live.clear()
        self._first.send((request.number, places, [], None))

    def receive(self) -> Message:
        """Wait for a result of the last stage.

        Raises
        ------
        EOFError
            If the workers are gone.
        """
        message: Message | None = self._last.receive()
        if message is None:
            raise EOFError
        with contextlib.suppress(BrokenPipeError):
            os.write(self._taken.descriptor, b"\0")
        return message

    def read(self, name: str, row: PlaceRow) -> Any:
        """Return an output as an array of its own."""
        place = place_of(row)
        value = self._rings[place.ring].read(place)
        if place.dtype is None:
            return value
        array: np.ndarray[Any, Any] = value
        return array.view(numpy_type(self._wiring.dtypes[name])).copy()

    def autopsy(self) -> PipelineError:
        """Return why the workers are gone."""
        self._watcher.join(GRACE)
        return self._culprit or PipelineError("the worker processes have ended")

    def stop(self, at_once: bool) -> None:
        """End the processes and wait for that; without ``at_once`` each ends when the one before has."""
        self._stopping = True
        if at_once:
            self._kill()
        else:
            # A word, not only the end of the pipe: a fork of this process may hold it open.
            with contextlib.suppress(OSError):
                self._first.send(None)
            self._first.close()
        deadline = time.monotonic() + GRACE
        for process in self.processes:
            try:
                process.wait(max(0.0, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def close(self) -> None:
        """Release everything; the processes have ended."""
        self._watcher.join(GRACE)
        self._release()

    def _release(self) -> None:
        """Close all descriptors."""
        for sender in (*self._controls, self._first, self._taken):
            sender.close()
        for receiver in (*self._reports, self._last):
            receiver.close()
        for ring in self._rings.values():
            ring.close()

    def _spawn(self, told: WorkerSpec) -> None:
        """Start a worker and tell it what to do."""
        if not sys.executable:
            raise UsageError("backend 'processes' needs sys.executable, the Python interpreter to start")
        control, to_worker = os.pipe()
        from_worker, status = os.pipe()
        pipes = (control, status, told.source, told.sink, told.room_before, told.room_after)
        shared = [descriptor for descriptor, _ in told.rings.values()]
        self._controls.append(Sender(to_worker))
        self._reports.append(Receiver(from_worker))
        try:
            self.processes.append(
                subprocess.Popen(
                    [sys.executable, "-P", "-c", _BOOT.format(_ROOT, control, status)],
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    pass_fds=[fd for fd in (*pipes, *shared) if fd >= 0],
                    process_group=0,  # Ctrl-C is for this process only
                )
            )
        finally:
            os.close(control)
            os.close(status)
        with contextlib.suppress(BrokenPipeError):  # it died already: the greeting will say so
            self._controls[-1].send(pickle.dumps(told))

    def _greet(self, index: int) -> StageInfo:
        """Wait until a stage is loaded."""
        path = self.specs[index].path
        try:
            answer = pickle.loads(self._reports[index].receive())
        except EOFError:
            fate = _fate(self.processes[index])
            raise InputError(path, f"its worker process {fate} while loading") from None
        if isinstance(answer, PipelineError):
            raise answer
        info: StageInfo = answer
        return info

    def _watch(self) -> None:
        """Wait for the first worker to die; unless that is wanted, note which one and end the others."""
        wait([report.fileno() for report in self._reports])
        if self._stopping:
            return
        index = self._first_to_die()
        self._culprit = StageError(
            self.specs[index].path, index, f"its worker process {_fate(self.processes[index])}"
        )
        self._kill()

    def _first_to_die(self) -> int:
        """Return the worker with a bad end: the neighbours of a dead one leave in good order."""
        deadline = time.monotonic() + 1.0
        while time.monotonic() < deadline:
            codes = [process.poll() for process in self.processes]
            for index, code in enumerate(codes):
                if code:
                    return index
            time.sleep(0.005)
        return next((i for i, code in enumerate(codes) if code is not None), 0)

    def _kill(self) -> None:
        for process in self.processes:
            process.kill()


def _fate(process: subprocess.Popen[bytes]) -> str:
    try:
        code = process.wait(GRACE)
    except subprocess.TimeoutExpired:
        return "closed its pipes"
    if code == -signal.SIGKILL:
        return "was killed (SIGKILL; out of memory?)"
    if code < 0:
        return f"was killed ({signal.Signals(-code).name})"
    return f"ended with exit code {code}"
