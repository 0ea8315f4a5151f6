"""The worker processes of one start: made, instructed, watched and ended."""

from __future__ import annotations

import contextlib
import fcntl
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

import onnx_pipeline
from onnx_pipeline.errors import InputError, PipelineError, StageError, UsageError
from onnx_pipeline.runtime.placement import StageSpec
from onnx_pipeline.runtime.processes.pipes import Receiver, Sender
from onnx_pipeline.runtime.processes.units import Memory, Unit, keeps
from onnx_pipeline.runtime.processes.worker import Message, StagePart, WorkerSpec
from onnx_pipeline.runtime.request import StageInfo
from onnx_pipeline.runtime.wiring import Wiring

#: Seconds that a worker may take to end by itself.
GRACE = 5.0
#: Room in the pipe of a unit; onnxruntime's tensors have places of about 100 bytes.
PIPE_BYTES = 1 << 20
_ROOT = str(Path(onnx_pipeline.__file__).resolve().parent.parent)
_BOOT = (
    "import sys; sys.path.append({!r}); from onnx_pipeline.runtime.processes.worker import main; main({}, {})"
)


class Crew:
    """The processes of one start of a unit, with pipes from each to the next.

    :meth:`greet` has to be called once before anything else, :meth:`close` in the end.

    Parameters
    ----------
    unit : Unit
    specs : sequence of StageSpec
        Of all stages.
    wiring : Wiring
    memory : Memory
    depth : int
        Requests of a process that may wait for the next stage.
    """

    def __init__(
        self, unit: Unit, specs: Sequence[StageSpec], wiring: Wiring, memory: Memory, depth: int
    ) -> None:
        self.unit = unit
        self._specs = [[specs[stage].at(unit.replica) for stage in part] for part in unit.parts]
        self.processes: list[subprocess.Popen[bytes]] = []
        self._controls: list[Sender] = []
        self._reports: list[Receiver] = []
        self._first, self._last, self._taken = Sender(-1), Receiver(-1), Sender(-1)
        self._stopping = False
        self._culprit: PipelineError | None = None
        self._watcher = threading.Thread(target=self._watch, name="watcher", daemon=True)
        opened: list[int] = []
        try:
            self._start(wiring, memory, depth, opened)
        except BaseException:
            self.stop(at_once=True)
            self._release()
            raise
        finally:
            for descriptor in opened:
                os.close(descriptor)

    def _start(self, wiring: Wiring, memory: Memory, depth: int, opened: list[int]) -> None:
        """Start the workers; the descriptors in ``opened`` are theirs and the caller's to close."""

        def pipe() -> tuple[int, int]:
            ends = os.pipe()
            opened.extend(ends)
            return ends

        unit, count = self.unit, len(self.unit.parts)
        # Link i leads to process i and the last one back here; room i leads the other way. The first process
        # needs none: what is sent to it, is bounded by others.
        links = [pipe() for _ in range(count + 1)]
        _widen(links[0][1])
        rooms = [(-1, -1), *(pipe() for _ in range(count))]
        for i, specs in enumerate(self._specs):
            parts = [_part(spec, wiring, unit, memory) for spec in specs]
            read = {name for part in parts for name in (*part.inputs, *part.defaults)}
            written = {ring for part in parts for ring in part.writes}
            used = [r for r, lane in enumerate(memory.lanes) if r in written or read & set(lane.names)]
            rings = memory.files(used)
            opened.extend(descriptor for descriptor, _, _ in rings.values())
            ends = (links[i][0], links[i + 1][1], rooms[i][1], rooms[i + 1][0])
            self._spawn(WorkerSpec(parts, *ends, depth, rings))
        # What this process goes on using is its own copy, all else belongs to the workers alone: only
        # then does a pipe end when the process at its other end does.
        self._first.descriptor = os.dup(links[0][1])
        self._last.descriptor = os.dup(links[-1][0])
        self._taken.descriptor = os.dup(rooms[-1][1])

    def greet(self) -> dict[int, StageInfo]:
        """Wait until all stages are loaded; return what they say of themselves.

        Raises
        ------
        InputError, UsageError
            If a stage cannot be loaded; what its worker raises.
        """
        infos: dict[int, StageInfo] = {}
        for index, part in enumerate(self.unit.parts):
            infos |= zip(part, self._greet(index), strict=True)
        self._watcher.start()
        return infos

    def send(self, message: Message) -> None:
        """Hand a request to the first process."""
        self._first.send(message)

    def receive(self) -> Message:
        """Wait for a request that leaves the last process; its room is still taken.

        Raises
        ------
        EOFError
            If the workers are gone.
        """
        message: Message | None = self._last.receive()
        if message is None:
            raise EOFError
        return message

    def give_room(self) -> None:
        """Let the last process hand over one more."""
        if self._taken.descriptor >= 0:
            with contextlib.suppress(BrokenPipeError):
                os.write(self._taken.descriptor, b"\0")

    def autopsy(self) -> PipelineError:
        """Return why the workers are gone."""
        self._watcher.join(GRACE)
        return self._culprit or PipelineError("the worker processes have ended")

    def dismiss(self, at_once: bool) -> None:
        """Tell the processes to end; without ``at_once`` each ends when the one before has."""
        self._stopping = True
        if at_once:
            self._kill()
        else:
            # A word, not only the end of the pipe: a fork of this process may hold it open.
            with contextlib.suppress(OSError):
                self._first.send(None)
            self._first.close()

    def stop(self, at_once: bool) -> None:
        """End the processes, see :meth:`dismiss`, and wait for that."""
        self.dismiss(at_once)
        deadline = time.monotonic() + GRACE
        for process in self.processes:
            try:
                process.wait(max(0.0, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def close(self) -> None:
        """Release everything; the processes have ended."""
        if self._watcher.ident is not None:
            self._watcher.join(GRACE)
        self._release()

    def _release(self) -> None:
        """Close all descriptors."""
        for sender in (*self._controls, self._first, self._taken):
            sender.close()
        for receiver in (*self._reports, self._last):
            receiver.close()

    def _spawn(self, told: WorkerSpec) -> None:
        """Start a worker and tell it what to do."""
        if not sys.executable:
            raise UsageError("backend 'processes' needs sys.executable, the Python interpreter to start")
        control, to_worker = os.pipe()
        from_worker, status = os.pipe()
        pipes = (control, status, told.source, told.sink, told.room_before, told.room_after)
        shared = [descriptor for descriptor, _, _ in told.rings.values()]
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

    def _greet(self, index: int) -> list[StageInfo]:
        """Wait until a process has loaded its stages."""
        try:
            answer = pickle.loads(self._reports[index].receive())
        except EOFError:
            fate = _fate(self.processes[index])
            raise InputError(self._specs[index][0].path, f"its worker process {fate} while loading") from None
        if isinstance(answer, PipelineError):
            raise answer
        infos: list[StageInfo] = answer
        return infos

    def _watch(self) -> None:
        """Wait for the first worker to die; unless that is wanted, note which one and end the others."""
        wait([report.fileno() for report in self._reports])
        if self._stopping:
            return
        index = self._first_to_die()
        unit, spec = self.unit, self._specs[index][0]
        shared = [str(stage) for stage in unit.parts[index][1:]]
        also = f", that of stage {', '.join(shared)} too," if shared else ""
        text = f"its worker process{also} {_fate(self.processes[index])}"
        self._culprit = StageError(spec.path, spec.index, text, None if unit.alone else unit.replica)
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


def _widen(pipe: int) -> None:
    """Make room for messages of thousands of tensors, where the system can."""
    with contextlib.suppress(AttributeError, OSError):
        fcntl.fcntl(pipe, fcntl.F_SETPIPE_SZ, PIPE_BYTES)


def _part(spec: StageSpec, wiring: Wiring, unit: Unit, memory: Memory) -> StagePart:
    """Return what a worker is told of a stage."""
    stage = spec.index
    return StagePart(
        spec=spec,
        inputs=wiring.inputs[stage],
        outputs=wiring.outputs[stage],
        defaults=wiring.defaults[stage],
        released=frozenset(wiring.released[stage]),
        writes={r: lane.names for r, lane in enumerate(memory.lanes) if lane.producer == stage},
        keeps=keeps(wiring, unit, stage),
        fixed=wiring.fixed[stage],
    )


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
