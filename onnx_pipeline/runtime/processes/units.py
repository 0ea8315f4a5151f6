"""What runs apart from the rest: processes that only know each other, and the memory between all of them."""

from __future__ import annotations

import os
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from onnx_pipeline.runtime.inputs import numpy_type
from onnx_pipeline.runtime.layout import Layout
from onnx_pipeline.runtime.processes.rings import PlaceRow, Ring, anonymous_file, place_of, slots_needed
from onnx_pipeline.runtime.wiring import HOST, Wiring

#: Requests that a replica or a shared device has: one to work on, one that is there when it is done.
WINDOW = 2


@dataclass(frozen=True)
class Unit:
    """Processes that hand requests to each other: a run of stages with a worker each, or a single worker.

    A unit lives and dies as a whole; what enters and leaves it passes through the session's process.

    Attributes
    ----------
    parts : tuple of tuple of int
        Stages of every process.
    replica : int
    alone : bool
        Whether nobody else serves its stages.
    """

    parts: tuple[tuple[int, ...], ...]
    replica: int
    alone: bool

    @property
    def entries(self) -> tuple[int, ...]:
        """Stages at which requests come in."""
        return self.parts[0] if len(self.parts) == 1 else self.parts[0][:1]

    @property
    def stages(self) -> tuple[int, ...]:
        """All its stages."""
        return tuple(stage for part in self.parts for stage in part)

    @property
    def is_chain(self) -> bool:
        """Whether requests keep their order in it: no stage is passed twice or left out."""
        return self.alone and all(len(part) == 1 for part in self.parts)


def make_units(layout: Layout) -> list[Unit]:
    """Return the units of a pipeline: runs of plain stages, replicas, and shared devices."""
    units: list[Unit] = []
    for worker, own in enumerate(layout.workers):
        alone = len(layout.serving[own[0]]) == 1
        last = units[-1] if units else None
        if last is not None and layout.is_plain(own[0]) and last.is_chain and last.stages[-1] + 1 == own[0]:
            units[-1] = Unit((*last.parts, own), 0, True)
        else:
            units.append(Unit((own,), layout.replica[worker], alone))
    return units


class Lane(NamedTuple):
    """A ring to be: its tensors, its slots, and whether a request's ticket is its slot in it.

    Inside a chain a ring's slots are used in turn. Everywhere else requests overtake each other or wait in
    numbers, so every request has a slot of its own.
    """

    producer: int
    last: int
    names: tuple[str, ...]
    slots: int
    by_ticket: bool


def make_lanes(wiring: Wiring, units: Sequence[Unit], depth: int, limit: int) -> list[Lane]:
    """Return the rings that a pipeline needs; what never leaves a worker needs none."""
    kept = {name for unit in units for stage in unit.stages for name in keeps(wiring, unit, stage)}
    lanes = []
    for (producer, last), names in wiring.rings.items():
        left = tuple(name for name in names if name not in kept)
        if not left:
            continue
        ends = {producer, min(last, wiring.stages - 1)}
        in_turn = any(unit.is_chain and ends <= set(unit.stages) for unit in units)
        slots = slots_needed(depth, last - producer, limit) if in_turn else limit
        lanes.append(Lane(producer, last, left, slots, not in_turn))
    return lanes


def keeps(wiring: Wiring, unit: Unit, stage: int) -> frozenset[str]:
    """Return the outputs of a stage that only its own worker reads."""
    part = next(part for part in unit.parts if stage in part)
    own = {name for reader in part if reader > stage for name in wiring.reads(reader)}
    others = {name for reader in range(wiring.stages) if reader not in part for name in wiring.reads(reader)}
    return frozenset(name for name in wiring.outputs[stage] if name in own - others - set(wiring.results))


class Memory:
    """The rings of a pipeline as the session's process sees them; they outlive the workers."""

    def __init__(self, wiring: Wiring, lanes: Sequence[Lane]) -> None:
        self.lanes = lanes
        self._wiring = wiring
        self._lock = threading.Lock()
        self._rings: list[Ring] = []
        self._fed = [(r, lane.names) for r, lane in enumerate(lanes) if lane.producer == HOST]
        try:
            for index, lane in enumerate(lanes):
                file = anonymous_file(lane.slots)
                self._rings.append(Ring(index, file, lane.slots, lane.by_ticket))
        except BaseException:
            self.close()
            raise

    def files(self, used: Sequence[int]) -> dict[int, tuple[int, int, bool]]:
        """Return copies of the descriptors of some rings, for others to close, with slots and kind."""
        lanes = self.lanes
        return {r: (os.dup(self._rings[r].descriptor), lanes[r].slots, lanes[r].by_ticket) for r in used}

    def feed(self, live: Mapping[str, Any], ticket: int) -> dict[str, PlaceRow]:
        """Copy a request's inputs to where the stages read them; return where."""
        places: dict[str, PlaceRow] = {}
        with self._lock:
            for ring, names in self._fed:
                given = [name for name in names if name in live]  # the rest has default values
                if given:
                    written = self._rings[ring].write([live[name] for name in given], ticket)
                    places.update(zip(given, written, strict=True))
        return places

    def read(self, name: str, row: PlaceRow) -> Any:
        """Return an output as an array of its own."""
        place = place_of(row)
        value = self._rings[place.ring].read(place)
        if place.dtype is None:
            return value
        array: np.ndarray[Any, Any] = value
        return array.view(numpy_type(self._wiring.dtypes[name])).copy()

    def close(self) -> None:
        """Give everything back."""
        with self._lock:
            self._fed = []
            for ring in self._rings:
                ring.close()
