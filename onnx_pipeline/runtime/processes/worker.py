"""A worker in a process of its own: ``python -c "...; main(control, status)"``.

It reads requests from a pipe, tensors from shared memory, and passes the request on to the next stage's
process, or to the session's. When any of its neighbours or the parent is gone, so is it.
"""

from __future__ import annotations

import os
import pickle
import select
import signal
import sys
import threading
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from onnx_pipeline.errors import InputError, PipelineError
from onnx_pipeline.ort.call import Runner, to_ort
from onnx_pipeline.ort.errors import reason
from onnx_pipeline.runtime.placement import StageSpec, confine, load
from onnx_pipeline.runtime.processes.pipes import Receiver, Sender
from onnx_pipeline.runtime.processes.rings import PlaceRow, Ring, aligned, place_of
from onnx_pipeline.runtime.stats import now
from onnx_pipeline.runtime.threads import describe

#: A request between processes: number, ticket, the stage to run, places of tensors by name, spans, and which
#: stage failed and why.
Message = tuple[int, int, int, dict[str, PlaceRow], list[tuple[int, ...]], tuple[int, str] | None]
Made = tuple[dict[str, PlaceRow], int, int]


@dataclass(frozen=True)
class StagePart:
    """What a worker process is told of one of its stages.

    Attributes
    ----------
    spec : StageSpec
    inputs, outputs : sequence of str
        Inputs and outputs of the stage.
    defaults : sequence of str
        Further inputs that not every request brings.
    released : frozenset of str
        Tensors that the stage is the last to read.
    writes : mapping of int to sequence of str
        Tensors it puts into each ring.
    keeps : frozenset of str
        Outputs that only the same worker reads.
    fixed : bool
        The shapes of all outputs are known.
    """

    spec: StageSpec
    inputs: Sequence[str]
    outputs: Sequence[str]
    defaults: Sequence[str]
    released: frozenset[str]
    writes: Mapping[int, Sequence[str]]
    keeps: frozenset[str]
    fixed: bool


@dataclass(frozen=True)
class WorkerSpec:
    """What a worker process is told; numbers of descriptors are the same in both processes.

    Attributes
    ----------
    parts : sequence of StagePart
        Its stages, ascending.
    source, sink : int
        Pipes from the process before and to the process after.
    room_before, room_after : int
        Pipes that carry a byte per request taken from the queue: written (-1 for nobody cares) and read.
    depth : int
    rings : mapping of int to (int, int, bool)
        Descriptor and slots of every ring it reads or writes, and whether slots are by ticket.
    """

    parts: Sequence[StagePart]
    source: int
    sink: int
    room_before: int
    room_after: int
    depth: int
    rings: Mapping[int, tuple[int, int, bool]]


def main(control: int, status: int) -> None:
    """Run a stage until its input ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent, which closes the pipes
    pipe, report = Receiver(control), Sender(status)
    try:
        told: WorkerSpec = pickle.loads(pipe.receive())
        threading.Thread(target=_watch_parent, args=(control,), daemon=True).start()
        confine(told.parts[0].spec.cores)
        sessions = [_load(part.spec, report) for part in told.parts]
        worker = _Worker(told, sessions)
        report.send(pickle.dumps([describe(session) for session in sessions]))
        worker.serve()
    except (EOFError, BrokenPipeError, ConnectionError):
        sys.exit(0)  # a neighbour is gone


def _load(spec: StageSpec, report: Sender) -> Any:
    """Load a stage; what goes wrong is for the parent to tell."""
    try:
        return load(spec)
    except PipelineError as error:
        report.send(pickle.dumps(error))
    except Exception as error:
        report.send(pickle.dumps(InputError(spec.path, reason(error))))
    sys.exit(1)


def _watch_parent(control: int) -> None:
    """End this process when the parent is gone: its end of the pipe closes, however it died."""
    parent = os.getppid()
    poll = select.poll()
    poll.register(control, select.POLLIN | select.POLLHUP)
    while True:
        # The parent's own forks may hold the pipe open: look who the parent is, too.
        if poll.poll(1000) or os.getppid() != parent:
            os._exit(0)


class _Worker:
    """Runs requests one after another, those first that have come furthest."""

    def __init__(self, told: WorkerSpec, sessions: Sequence[Any]) -> None:
        self._told = told
        self._source = Receiver(told.source)
        self._sink = Sender(told.sink)
        rings = {index: Ring(index, *ring) for index, ring in told.rings.items()}
        self._stages = {
            part.spec.index: _Stage(part, session, rings)
            for part, session in zip(told.parts, sessions, strict=True)
        }
        self._waiting: dict[int, deque[Message]] = {stage: deque() for stage in self._stages}
        self._first = told.parts[0].spec.index
        self._kept: dict[int, dict[str, Any]] = {}
        self._room = told.depth

    def serve(self) -> None:
        """Take, run and pass on requests until the previous process has ended."""
        told = self._told
        while True:
            idle = now()
            message = self._take()
            if message is None:  # the session closes
                self._sink.send(None)
                return
            if told.room_before >= 0:
                os.write(told.room_before, b"\0")
            start = now()
            number, ticket, index, places, spans, error = message
            stage = self._stages[index]
            nbytes = copy = 0
            if error is None:
                try:
                    nbytes, copy = stage.run(places, self._kept_of(ticket, index), ticket)
                except Exception as problem:
                    error = (index, reason(problem))
            end = sent = now()
            stays = error is None and index + 1 in self._stages
            if not stays:
                self._wait_for_room()
                sent = now()
            spans.append((index, idle, start, end, sent, nbytes, copy, stage.replica))
            onward: Message = (number, ticket, index + 1, places, spans, error)
            if stays:
                self._waiting[index + 1].append(onward)
            else:
                self._sink.send(onward)

    def _take(self) -> Message | None:
        """Wait for a request, or for None: the end."""
        if len(self._stages) == 1:
            only: Message | None = self._source.receive()
            return only
        while not any(self._waiting.values()) or self._source.ready():
            message: Message | None = self._source.receive()
            if message is None:
                return None
            self._waiting[message[2]].append(message)
        return next(queue for _, queue in sorted(self._waiting.items(), reverse=True) if queue).popleft()

    def _kept_of(self, ticket: int, stage: int) -> dict[str, Any]:
        """Return what a request keeps here; nothing is left of who had its ticket before."""
        if stage == self._first:
            self._kept[ticket] = {}
        return self._kept[ticket]

    def _wait_for_room(self) -> None:
        if not self._room:
            freed = len(os.read(self._told.room_after, 4096))
            if not freed:
                raise EOFError
            self._room += freed
        self._room -= 1


class _Stage:
    """One stage of a worker."""

    def __init__(self, part: StagePart, session: Any, rings: Mapping[int, Ring]) -> None:
        self._part, self._rings = part, rings
        self.replica = part.spec.replica
        self._runner = Runner(session, part.outputs)
        self._bound = _Bound(self._runner, part, rings) if _can_bind(session, part) else None

    def run(self, places: dict[str, PlaceRow], kept: dict[str, Any], ticket: int) -> tuple[int, int]:
        """Run one request; update where its tensors are. Return bytes made and the time to copy them."""
        part = self._part
        inputs = {name: places[name] for name in part.inputs if name not in kept}
        given = {name: places[name] for name in part.defaults if name in places}
        own = {name: kept[name] for name in (*part.inputs, *part.defaults) if name in kept}
        made, nbytes, copy = self._made(inputs, given, own, kept, ticket)
        places.update(made)
        for name in part.released:
            places.pop(name, None)
            kept.pop(name, None)
        return nbytes, copy

    def _made(
        self,
        inputs: Mapping[str, PlaceRow],
        given: Mapping[str, PlaceRow],
        own: Mapping[str, Any],
        kept: dict[str, Any],
        ticket: int,
    ) -> Made:
        if self._bound is None or given or own:  # a binding would keep them for the next request
            return self._plain({**inputs, **given}, own, kept, ticket)
        try:
            return self._bound.run(inputs, ticket)
        except Exception:  # a declared shape may be wrong, which is no reason to fail
            made = self._plain(inputs, own, kept, ticket)
            self._bound = None
            return made

    def _plain(
        self, inputs: Mapping[str, PlaceRow], own: Mapping[str, Any], kept: dict[str, Any], ticket: int
    ) -> Made:
        part = self._part
        values = self._runner({name: self._read(name, place) for name, place in inputs.items()} | dict(own))
        done = now()
        results = dict(zip(part.outputs, values, strict=True))
        kept.update((name, results[name]) for name in part.keeps)
        made: dict[str, PlaceRow] = {}
        for ring, names in part.writes.items():
            written = self._rings[ring].write([results[name] for name in names], ticket)
            made.update(zip(names, written, strict=True))
        stayed = sum(getattr(results[name], "nbytes", 0) for name in part.keeps)
        return made, stayed + sum(place_of(row).nbytes for row in made.values()), now() - done

    def _read(self, name: str, row: PlaceRow) -> Any:
        place = place_of(row)
        value = self._rings[place.ring].read(place)
        foreign = self._runner.foreign.get(name)
        return value if foreign is None else to_ort(value, foreign)


class _Bound:
    """Runs of a stage whose output shapes are fixed: onnxruntime writes straight into shared memory."""

    def __init__(self, runner: Runner, part: StagePart, rings: Mapping[int, Ring]) -> None:
        self._runner, self._rings = runner, rings
        self._binding = runner.session.io_binding()
        args = {value.name: value for value in runner.session.get_outputs()}
        self._layout: list[tuple[Ring, int, list[tuple[str, int, int, str, tuple[int, ...]]]]] = []
        self._nbytes = 0
        for ring, names in part.writes.items():
            size, row = 0, []
            for name in names:
                dtype, shape = np.dtype(_NUMPY[args[name].type]), tuple(args[name].shape)
                nbytes = int(np.prod(shape, dtype=np.int64)) * dtype.itemsize
                row.append((name, size, nbytes, dtype.str, shape))
                size += aligned(nbytes)
                self._nbytes += nbytes
            self._layout.append((rings[ring], size, row))

    def run(self, inputs: Mapping[str, PlaceRow], ticket: int) -> Made:
        """Run one request."""
        binding = self._binding
        for name, (index, slot, offset, nbytes, dtype, shape) in inputs.items():
            assert dtype is not None  # what is bound is a tensor
            address = self._rings[index].address(slot, offset + nbytes) + offset
            binding.bind_input(name, "cpu", 0, _TYPES[dtype], shape, address)
        made: dict[str, PlaceRow] = {}
        for ring, size, row in self._layout:
            slot = ring.take(ticket)
            start = ring.address(slot, size)
            for name, offset, nbytes, dtype, shape in row:
                binding.bind_output(name, "cpu", 0, _TYPES[dtype], shape, start + offset)
                made[name] = (ring.index, slot, offset, nbytes, dtype, shape)
        try:
            self._runner.session.run_with_iobinding(binding)
        except Exception:
            for ring, _, _ in self._layout:
                ring.give_back()
            raise
        return made, self._nbytes, 0


_NUMPY = {
    f"tensor({name})": dtype
    for name, dtype in {
        "float": "f4",
        "double": "f8",
        "float16": "f2",
        "bool": "?",
        **{f"{sign}int{8 * size}": f"{sign or 'i'}{size}" for sign in ("", "u") for size in (1, 2, 4, 8)},
    }.items()
}


_TYPES = {np.dtype(code).str: np.dtype(code).type for code in _NUMPY.values()}


def _can_bind(session: Any, part: StagePart) -> bool:
    """Return whether all outputs have fixed shapes and a place, and everything a type that can be bound."""
    written = {name for names in part.writes.values() for name in names}
    known = all(v.type in _NUMPY for v in (*session.get_inputs(), *session.get_outputs()))
    return part.fixed and known and written == set(part.outputs)
