"""A stage in a process of its own: ``python -c "...; main(control, status)"``.

It reads requests from a pipe, tensors from shared memory, and passes the request on to the next stage's
process itself. When any of its neighbours or the parent is gone, so is it.
"""

from __future__ import annotations

import os
import pickle
import select
import signal
import sys
import threading
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

#: A request between processes: number, places of tensors by name, spans, and which stage failed and why.
Message = tuple[int, dict[str, PlaceRow], list[tuple[int, ...]], tuple[int, str] | None]
Made = tuple[dict[str, PlaceRow], int, int]


@dataclass(frozen=True)
class WorkerSpec:
    """What a worker process is told; numbers of descriptors are the same in both processes.

    Attributes
    ----------
    spec : StageSpec
    inputs, outputs : sequence of str
        Inputs and outputs of the stage.
    defaults : sequence of str
        Further inputs that not every request brings.
    released : frozenset of str
        Tensors that the stage is the last to read.
    source, sink : int
        Pipes from the stage before and to the stage after.
    room_before, room_after : int
        Pipes that carry a byte per request taken from the queue: written (-1 for nobody cares) and read.
    depth : int
    rings : mapping of int to (int, int)
        Descriptor and slots of every ring it reads or writes.
    writes : mapping of int to sequence of str
        Tensors it puts into each ring.
    fixed : bool
        The shapes of all outputs are known.
    """

    spec: StageSpec
    inputs: Sequence[str]
    outputs: Sequence[str]
    defaults: Sequence[str]
    released: frozenset[str]
    source: int
    sink: int
    room_before: int
    room_after: int
    depth: int
    rings: Mapping[int, tuple[int, int]]
    writes: Mapping[int, Sequence[str]]
    fixed: bool


def main(control: int, status: int) -> None:
    """Run a stage until its input ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent, which closes the pipes
    pipe, report = Receiver(control), Sender(status)
    try:
        told: WorkerSpec = pickle.loads(pipe.receive())
        threading.Thread(target=_watch_parent, args=(control,), daemon=True).start()
        confine(told.spec.cores)
        try:
            session = load(told.spec)
        except PipelineError as error:
            report.send(pickle.dumps(error))
            sys.exit(1)
        except Exception as error:
            report.send(pickle.dumps(InputError(told.spec.path, reason(error))))
            sys.exit(1)
        stage = _Stage(told, session)
        report.send(pickle.dumps(describe(session)))
        stage.serve()
    except (EOFError, BrokenPipeError, ConnectionError):
        sys.exit(0)  # a neighbour is gone


def _watch_parent(control: int) -> None:
    """End this process when the parent is gone: its end of the pipe closes, however it died."""
    parent = os.getppid()
    poll = select.poll()
    poll.register(control, select.POLLIN | select.POLLHUP)
    while True:
        # The parent's own forks may hold the pipe open: look who the parent is, too.
        if poll.poll(1000) or os.getppid() != parent:
            os._exit(0)


class _Stage:
    """Runs requests one after another."""

    def __init__(self, told: WorkerSpec, session: Any) -> None:
        self._told = told
        self._runner = Runner(session, told.outputs)
        self._source = Receiver(told.source)
        self._sink = Sender(told.sink)
        self._rings = {index: Ring(index, *ring) for index, ring in told.rings.items()}
        self._room = told.depth
        self._bound = _Bound(self._runner, told, self._rings) if _can_bind(session, told) else None

    def serve(self) -> None:
        """Take, run and pass on requests until the previous stage has ended."""
        told = self._told
        while True:
            idle = now()
            message: Message | None = self._source.receive()
            if message is None:  # the session closes
                self._sink.send(None)
                return
            if told.room_before >= 0:
                os.write(told.room_before, b"\0")
            start = now()
            number, places, spans, error = message
            nbytes = copy = 0
            if error is None:
                try:
                    made, nbytes, copy = self._run(places)
                except Exception as problem:
                    error = (told.spec.index, reason(problem))
                else:
                    places.update(made)
                    for name in told.released:
                        places.pop(name, None)
            end = now()
            self._wait_for_room()
            spans.append((told.spec.index, idle, start, end, now(), nbytes, copy))
            self._sink.send((number, places, spans, error))

    def _run(self, places: Mapping[str, PlaceRow]) -> Made:
        """Run one request; return where its outputs are, their bytes and the time to copy them."""
        told = self._told
        inputs = {name: places[name] for name in told.inputs}
        given = {name: places[name] for name in told.defaults if name in places}
        if given:  # a binding would keep them for the next request
            return self._run_plain(inputs | given)
        if self._bound is not None:
            try:
                return self._bound.run(inputs)
            except Exception:  # a declared shape may be wrong, which is no reason to fail
                made = self._run_plain(inputs)
                self._bound = None
                return made
        return self._run_plain(inputs)

    def _run_plain(self, inputs: Mapping[str, PlaceRow]) -> Made:
        told = self._told
        values = self._runner({name: self._read(name, place) for name, place in inputs.items()})
        done = now()
        results = dict(zip(told.outputs, values, strict=True))
        made: dict[str, PlaceRow] = {}
        for ring, names in told.writes.items():
            written = self._rings[ring].write([results[name] for name in names])
            made.update(zip(names, written, strict=True))
        return made, sum(place_of(row).nbytes for row in made.values()), now() - done

    def _read(self, name: str, row: PlaceRow) -> Any:
        place = place_of(row)
        value = self._rings[place.ring].read(place)
        foreign = self._runner.foreign.get(name)
        return value if foreign is None else to_ort(value, foreign)

    def _wait_for_room(self) -> None:
        if not self._room:
            freed = len(os.read(self._told.room_after, 4096))
            if not freed:
                raise EOFError
            self._room += freed
        self._room -= 1


class _Bound:
    """Runs of a stage whose output shapes are fixed: onnxruntime writes straight into shared memory."""

    def __init__(self, runner: Runner, told: WorkerSpec, rings: Mapping[int, Ring]) -> None:
        self._runner, self._rings = runner, rings
        self._binding = runner.session.io_binding()
        args = {value.name: value for value in runner.session.get_outputs()}
        self._layout: list[tuple[Ring, int, list[tuple[str, int, int, str, tuple[int, ...]]]]] = []
        self._nbytes = 0
        for ring, names in told.writes.items():
            size, row = 0, []
            for name in names:
                dtype, shape = np.dtype(_NUMPY[args[name].type]), tuple(args[name].shape)
                nbytes = int(np.prod(shape, dtype=np.int64)) * dtype.itemsize
                row.append((name, size, nbytes, dtype.str, shape))
                size += aligned(nbytes)
                self._nbytes += nbytes
            self._layout.append((rings[ring], size, row))

    def run(self, inputs: Mapping[str, PlaceRow]) -> Made:
        """Run one request."""
        binding = self._binding
        for name, (index, slot, offset, nbytes, dtype, shape) in inputs.items():
            assert dtype is not None  # what is bound is a tensor
            address = self._rings[index].address(slot, offset + nbytes) + offset
            binding.bind_input(name, "cpu", 0, _TYPES[dtype], shape, address)
        made: dict[str, PlaceRow] = {}
        for ring, size, row in self._layout:
            slot = ring.take()
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


def _can_bind(session: Any, told: WorkerSpec) -> bool:
    """Return whether all outputs have fixed shapes and a reader, and everything a type that can be bound."""
    written = {name for names in told.writes.values() for name in names}
    known = all(v.type in _NUMPY for v in (*session.get_inputs(), *session.get_outputs()))
    return told.fixed and known and written == set(told.outputs)
