"""Stages in processes of their own: tensors pass through shared memory, requests from worker to worker."""

from __future__ import annotations

import contextlib
import threading
from collections import deque
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from onnx_pipeline.errors import PipelineError, StageError
from onnx_pipeline.runtime.board import Board
from onnx_pipeline.runtime.layout import Layout
from onnx_pipeline.runtime.placement import StageSpec
from onnx_pipeline.runtime.processes.crew import GRACE, Crew
from onnx_pipeline.runtime.processes.rings import PlaceRow
from onnx_pipeline.runtime.processes.units import WINDOW, Memory, Unit, make_lanes, make_units
from onnx_pipeline.runtime.processes.worker import Message
from onnx_pipeline.runtime.request import Finish, Request, StageInfo
from onnx_pipeline.runtime.stats import Note, Span
from onnx_pipeline.runtime.wiring import Wiring


@dataclass(eq=False)
class _Carried:
    """A request inside: its number among those inside, its tensors, and whose room it still takes."""

    request: Request
    ticket: int
    places: dict[str, PlaceRow]
    giver: Crew | None = None

    def release(self) -> None:
        """Give room back to the worker that handed it over: it waits no longer for the next stage."""
        if self.giver is not None:
            self.giver.give_room()
            self.giver = None


@dataclass(eq=False)
class _Desk:
    """What this process has to do with one unit; crew is None while there is none."""

    index: int
    unit: Unit
    reads: frozenset[str]
    crew: Crew | None = None
    inside: dict[int, _Carried] = field(default_factory=dict)
    outbox: deque[Message] = field(default_factory=deque)
    #: Held by who sends, and while a crew is replaced.
    sending: threading.Lock = field(default_factory=threading.Lock)


class Processes:
    """Stages with a worker each hand requests to each other; those of replicas and shared devices pass here.

    A plain pipeline is one unit: one process per stage, and two threads here, of which one collects results
    and one watches the workers. Otherwise there are so many per unit, and this process decides which worker
    takes a request. It knows where each of them is: when a worker dies, those that are with it fail, the
    others go on.

    Nobody waits in a circle. What a collector sends to a replica or a shared device is at most ``WINDOW``
    messages, which fit into its pipe. It may wait for the pipe of a chain of plain stages; but what comes out
    of a chain goes to no other chain, so its own collector does not wait, and its processes wait for room
    behind the chain at most, which :attr:`Layout.bounded` shows to come.

    Parameters
    ----------
    specs : sequence of StageSpec
    wiring : Wiring
    layout : Layout
    depth : int
        Requests of a worker that may wait for the next stage.
    limit : int
        Requests inside at once.
    finish : Finish
    restart : bool
        Start workers again that have died.
    """

    name = "processes"

    def __init__(
        self,
        specs: Sequence[StageSpec],
        wiring: Wiring,
        layout: Layout,
        depth: int,
        limit: int,
        finish: Finish,
        restart: bool = False,
    ) -> None:
        units = make_units(layout)
        self._wiring, self._bounded, self._specs = wiring, layout.bounded, specs
        self._finish, self._restart = finish, restart
        self._memory = Memory(wiring, make_lanes(wiring, units, depth, limit))
        self._plan = (specs, wiring, self._memory, depth)
        self._lock = threading.Lock()
        self._broken: BaseException | None = None
        self._notes: dict[tuple[int, int], Note] = {}
        self._inside: dict[int, _Carried] = {}
        self._tickets = list(range(limit))
        windows = [limit if unit.is_chain else WINDOW for unit in units]
        self._board: Board[_Carried] = Board(
            Layout(tuple(unit.entries for unit in units), layout.stages), windows
        )
        self._desks = [_Desk(i, unit, _reads(wiring, unit)) for i, unit in enumerate(units)]
        self.infos: Sequence[StageInfo] = self._open()
        self._left = len(units)
        self._collectors = [
            threading.Thread(target=self._collect, args=(desk,), name="collector", daemon=True)
            for desk in self._desks
        ]
        for collector in self._collectors:
            collector.start()

    def _open(self) -> list[StageInfo]:
        """Start all units together, then wait for all of them."""
        infos: dict[int, StageInfo] = {}
        try:
            for desk in self._desks:
                desk.crew = Crew(desk.unit, *self._plan)
            for desk in self._desks:
                assert desk.crew is not None
                infos |= desk.crew.greet()
        except BaseException:
            for desk in self._desks:
                if desk.crew is not None:
                    desk.crew.stop(at_once=True)
                    desk.crew.close()
            self._memory.close()
            raise
        return [infos[stage] for stage in range(self._wiring.stages)]

    @property
    def workers(self) -> list[int]:
        """Process ids, by stage and replica; those that are being restarted are left out."""
        crews = [desk.crew for desk in self._desks]
        return [process.pid for crew in crews if crew is not None for process in crew.processes]

    @property
    def notes(self) -> Mapping[tuple[int, int], Note]:
        """What happened to replicas."""
        with self._lock:
            return dict(self._notes)

    def put(self, request: Request) -> None:
        """Copy the inputs into shared memory and tell the first stage; later, if it is being restarted."""
        with self._lock:
            if self._broken is not None:
                raise self._broken
            if self._board.is_lost(request.sequence):
                text = f"a replica that had begun the sequence {request.sequence!r} is gone"
                raise PipelineError(text, "begin the sequence again")
            ticket = self._tickets.pop()
        try:
            places = self._memory.feed(request.live, ticket)
        except BaseException:
            with self._lock:
                self._tickets.append(ticket)
            raise
        request.live.clear()
        with self._lock:
            if self._broken is not None:
                self._tickets.append(ticket)
                raise self._broken
            carried = self._inside[request.number] = _Carried(request, ticket, places)
            busy = self._offer(0, carried)
        self._flush(busy)

    def forget(self, sequence: Hashable) -> None:
        """Let a sequence end."""
        with self._lock:
            self._board.forget(sequence)
            busy = self._settle()
        self._flush(busy)

    def close(self, reason: BaseException | None = None) -> None:
        """End the processes: at once if there is a reason, else as soon as each has noticed."""
        with self._lock:
            self._broken = reason or PipelineError("the pipeline session is closed")
        self._stop(at_once=reason is not None)
        for collector in self._collectors:
            if threading.current_thread() is not collector:
                collector.join(2 * GRACE)
        self._fail(list(self._inside.values()), self._broken)

    def _stop(self, at_once: bool) -> None:
        crews = [crew for desk in self._desks if (crew := desk.crew) is not None]
        for crew in crews:
            crew.dismiss(at_once)
        for crew in crews:
            crew.stop(at_once)

    def _collect(self, desk: _Desk) -> None:
        """Take requests from a unit; when its workers are gone, fail what was with them."""
        while (crew := desk.crew) is not None:
            with contextlib.suppress(EOFError, OSError):
                while True:
                    self._deliver(desk, crew, crew.receive())
            reason = self._broken or crew.autopsy()
            crew.stop(at_once=True)
            self._bury(desk, crew, reason)
            if self._broken is None and self._restart:
                self._replace(desk)
        with self._lock:
            self._left -= 1
            last = not self._left
        if last:
            self._memory.close()

    def _deliver(self, desk: _Desk, crew: Crew, message: Message) -> None:
        """Pass a request on that leaves a unit: to the next stage or to the caller."""
        number, _, stage, places, spans, error = message
        busy: list[_Desk] = []
        with self._lock:
            carried = desk.inside.pop(number)
            carried.request.spans.extend(map(Span._make, spans))
            carried.places.update(places)
            ended = error is not None or stage == self._wiring.stages
            failure = None if ended else self._broken
            if not ended and failure is None:
                carried.giver = crew if self._bounded[stage - 1] else None
                busy += self._offer(stage, carried)
            if ended or not self._bounded[stage - 1]:
                crew.give_room()
            if (found := self._board.finished(desk.index)) is not None:
                busy.append(self._assign(desk.index, *found))
        self._flush(busy)
        if error is not None:
            failure = StageError(self._specs[error[0]].path, *error)
        if ended or failure is not None:
            self._end(carried, failure)

    def _offer(self, stage: int, carried: _Carried) -> list[_Desk]:
        """Give a request to a unit that is free, if there is one; return whose outbox got something."""
        taker = self._board.offer(stage, carried, carried.request.sequence)
        return [] if taker is None else [self._assign(taker, stage, carried)]

    def _settle(self) -> list[_Desk]:
        """Give out what may now be taken by others; return whose outbox got something."""
        return [self._assign(*found) for found in self._board.settle()]

    def _assign(self, index: int, stage: int, carried: _Carried) -> _Desk:
        desk, request = self._desks[index], carried.request
        carried.release()
        desk.inside[request.number] = carried
        places = {name: place for name, place in carried.places.items() if name in desk.reads}
        desk.outbox.append((request.number, carried.ticket, stage, places, [], None))
        return desk

    def _flush(self, desks: Iterable[_Desk]) -> None:
        """Send what lies in outboxes; without the lock, since there may be no room in a pipe."""
        for desk in desks:
            # Workers that are gone take nothing: their collector is about to fail everything inside.
            with desk.sending, contextlib.suppress(OSError, IndexError):
                while desk.crew is not None:
                    desk.crew.send(desk.outbox.popleft())

    def _bury(self, desk: _Desk, crew: Crew, reason: BaseException) -> None:
        """Forget a crew whose processes have ended, and fail what it had."""
        with desk.sending, self._lock:
            desk.crew = None
            crew.close()
            lost = list(desk.inside.values())
            desk.inside.clear()
            desk.outbox.clear()
            lost += self._board.lose(desk.index)
            busy = self._settle()
            if self._broken is None:
                text = reason.reason if isinstance(reason, StageError) else str(reason)
                self._notes |= {(stage, desk.unit.replica): Note(False, text) for stage in desk.unit.stages}
        self._flush(busy)
        self._give_up_unless_served(reason, self._restart)
        self._fail(lost, self._broken or reason)

    def _replace(self, desk: _Desk) -> None:
        """Start a crew again and give it what has come in since."""
        crew: Crew | None = None
        problem: BaseException | None = None
        try:
            crew = Crew(desk.unit, *self._plan)
            crew.greet()
        except Exception as error:
            problem = error
        keys = [(stage, desk.unit.replica) for stage in desk.unit.stages]
        busy: list[_Desk] = []
        with self._lock:
            welcome = problem is None and self._broken is None
            for key in keys:
                self._notes[key] = Note(welcome, self._notes[key].note if problem is None else str(problem))
            if welcome:
                desk.crew = crew
                self._board.regain(desk.index)
                busy = self._settle()
        self._flush(busy)
        if crew is not None and not welcome:
            crew.stop(at_once=True)
            crew.close()
        if problem is not None:
            self._give_up_unless_served(problem)

    def _give_up_unless_served(self, reason: BaseException, hope: bool = False) -> None:
        """End everything if a stage has no worker left and, without hope, will not get one."""
        with self._lock:
            served = all(self._board.is_served(stage) for desk in self._desks for stage in desk.unit.entries)
            if served or hope or self._broken is not None:
                return
            self._broken = reason
            away = {number for desk in self._desks for number in desk.inside}
            waiting = [carried for number, carried in self._inside.items() if number not in away]
        self._stop(at_once=True)
        self._fail(waiting, reason)

    def _fail(self, lost: Iterable[_Carried], reason: BaseException) -> None:
        for carried in lost:
            self._end(carried, reason)

    def _end(self, carried: _Carried, failure: BaseException | None) -> None:
        """Take a request to the caller: with its results, or with what went wrong."""
        request = carried.request
        if failure is None:
            for name, place in carried.places.items():
                if self._wiring.last_reader.get(name) == self._wiring.stages:
                    request.results[name] = self._memory.read(name, place)
        with self._lock:
            if self._inside.pop(request.number, None) is None:
                return
            self._tickets.append(carried.ticket)
            carried.release()
        with contextlib.suppress(Exception):  # a callback of the caller must not end the collector
            self._finish(request, failure)


def _reads(wiring: Wiring, unit: Unit) -> frozenset[str]:
    """Return what a unit may have to be told the place of."""
    return frozenset(name for stage in unit.stages for name in wiring.reads(stage))
