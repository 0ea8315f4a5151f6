"""The best cut of one order for a line of devices that differ.

What a segment costs, and whether it can run, depends on the kind of its device. The state of a cut is the
position and the configuration of the line (:mod:`.lines`). Of the latter, one number is minimised:

* order fixed: ``used[0, j]`` = fewest devices passed when the first j nodes are placed;
* order free: ``used[r, j]`` = fewest devices of the commonest kind, when the other kinds have used what row r
  says. Fewer leave more, so nothing is lost.

A cut within a limit exists if some ``used[r, n]`` does; the limit is bisected.
"""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

import numpy as np

from onnx_pipeline.graph.costgraph import IntArray
from onnx_pipeline.graph.fleet import FleetTarget
from onnx_pipeline.graph.target import INFEASIBLE
from onnx_pipeline.partition.fleets.instance import FleetInstance
from onnx_pipeline.partition.fleets.lines import Line
from onnx_pipeline.partition.jit import inner, kernel
from onnx_pipeline.partition.replicas.slicing import price_segments
from onnx_pipeline.partition.search.slicing import CLASH, joint_pin
from onnx_pipeline.partition.search.tapes import Tape, make_tape

#: Rows of the table, at most; more different devices in a free order are tried in fixed orders.
MOST_ROWS = 1 << 12


class Way(NamedTuple):
    """A line of devices, and what a stage on each kind does to row and number of the state.

    -1 stands for a move that no device is left for.
    """

    line: Line
    names: tuple[int, ...]  # [devices] the number in the fleet of each device of the line
    row: IntArray  # [kinds, rows]
    number: IntArray  # [kinds, most + 1]
    kind_of: IntArray  # [devices] for pins; empty with a free order


class Priced(NamedTuple):
    """An order, and what its segments cost on each kind, up to a limit."""

    order: IntArray  # [n]
    pins: IntArray  # [n] device of the node at each position, or -1
    start: IntArray  # [kinds, n + 1] into ``buffer``: segments by kind and first position
    buffer: IntArray


class Cut(NamedTuple):
    """Stages of the nodes, the device of each, and the largest load."""

    stage_of: IntArray
    device_of: tuple[int, ...]
    ticks: int


def way_of(fleet: FleetTarget, names: tuple[int, ...] | None = None) -> Way:
    """Translate a line of devices into tables.

    Parameters
    ----------
    fleet : FleetTarget
    names : tuple of int, optional
        An order of the fleet's devices that is kept; by default, what the fleet says.
    """
    if names is not None:
        fleet = replace(fleet, devices=tuple(fleet.devices[device] for device in names), free=False)
    line, names = Line(fleet), names or tuple(range(len(fleet.devices)))
    kinds = range(len(fleet.kinds))
    if not fleet.free:
        devices = fleet.devices
        after = [
            [next((d + 1 for d in range(c, len(devices)) if devices[d] == kind), -1) for kind in kinds]
            for c in range(len(devices) + 1)
        ]
        number = np.array(after, dtype=np.int64).T
        row = np.zeros((len(kinds), 1), dtype=np.int64)
        return Way(line, names, row, np.ascontiguousarray(number), np.array(devices, dtype=np.int64))
    counts = fleet.counts
    main = int(np.argmax(counts))
    rows = rows_of(fleet)
    row = np.tile(np.arange(rows, dtype=np.int64), (len(kinds), 1))
    number = np.tile(np.arange(counts[main] + 1, dtype=np.int64), (len(kinds), 1))
    number[main] = np.append(np.arange(1, counts[main] + 1), -1)
    radix = 1
    for kind in kinds:
        if kind != main:
            full = row[main] // radix % (counts[kind] + 1) == counts[kind]
            row[kind] = np.where(full, -1, row[main] + radix)
            radix *= counts[kind] + 1
    return Way(line, names, row, number, np.zeros(0, dtype=np.int64))


def rows_of(fleet: FleetTarget) -> int:
    """Return the number of rows that a free order needs."""
    counts = fleet.counts
    others = 1
    for count in counts:
        others *= count + 1
    return others // (max(counts) + 1)


def price_order(inst: FleetInstance, order: IntArray, limit: int) -> Priced:
    """Price the segments of an order on every kind whose monotone part is at most a limit."""
    limit = min(limit, INFEASIBLE - 1)
    start = np.zeros((len(inst.kinds), inst.n + 1), dtype=np.int64)
    buffers: list[IntArray] = []
    size = 0
    pins: IntArray = np.zeros(0, dtype=np.int64)
    for kind in inst.used:
        tape: Tape = make_tape(inst.kinds[kind], order)
        begins, buffer = price_segments(tape, limit)
        start[kind] = begins + size
        buffers.append(buffer[: begins[-1]])
        size += int(begins[-1])
        pins = tape.pin
    return Priced(order, pins, start, np.concatenate(buffers))


def cut(priced: Priced, way: Way, low: int, high: int) -> Cut | None:
    """Return the best cut of an order with a largest load of at most ``high``, or None.

    Parameters
    ----------
    priced : Priced
        With segments up to ``high``.
    way : Way
    low : int
        A known lower bound in ticks; reaching it ends the search.
    high : int
    """
    n = len(priced.order)
    ends, kinds, numbers = (np.zeros(n, dtype=np.int64) for _ in range(3))
    segments, ticks = _best_cut(
        priced.pins, priced.start, priced.buffer, way.row, way.number, way.kind_of, low, high,
        ends, kinds, numbers,
    )  # fmt: skip
    if segments < 0:
        return None
    lengths = np.diff(ends[:segments], prepend=0)
    stage_of = np.empty(n, dtype=np.int64)
    stage_of[priced.order] = np.repeat(np.arange(segments), lengths)
    path = list(zip(kinds[:segments].tolist(), numbers[:segments].tolist(), strict=True))
    devices = way.line.devices(path)
    return Cut(stage_of, tuple(way.names[device] for device in devices), int(ticks))


@inner
def _within(pins, start, buffer, rows, numbers, kind_of, limit, used, came, kind_at):  # type: ignore[no-untyped-def]
    """Fill the table for a limit; return the smallest cost met above it."""
    kinds, n = start.shape[0], start.shape[1] - 1
    count, most = used.shape[0], numbers.shape[1] - 1
    for r in range(count):
        for j in range(n + 1):
            used[r, j] = most + 1
    used[0, 0] = 0
    above = np.int64(np.iinfo(np.int64).max)
    for i in range(n):
        reached = False
        for r in range(count):
            reached = reached or used[r, i] <= most
        if not reached:
            continue
        for kind in range(kinds):
            pin = np.int64(-1)
            for a in range(start[kind, i], start[kind, i + 1]):
                j = i + 1 + a - start[kind, i]
                pin = joint_pin(pin, pins[j - 1])
                if pin == CLASH or (pin >= 0 and kind_of[pin] != kind):
                    break
                if buffer[a] > limit:
                    above = min(above, buffer[a])
                    continue
                for r in range(count):
                    c = used[r, i]
                    if c > most:
                        continue
                    s = rows[kind, r]
                    after = numbers[kind, c]
                    if pin >= 0:  # exactly that device
                        after = pin + 1 if c <= pin else np.int64(-1)
                    if s >= 0 and after >= 0 and after < used[s, j]:
                        used[s, j] = after
                        came[s, j] = i * count + r
                        kind_at[s, j] = kind
    return above


@kernel
def _best_cut(pins, start, buffer, rows, numbers, kind_of, low, high, ends, kinds, taken):  # type: ignore[no-untyped-def]
    """Bisect the limit; write each segment's end, kind and number; return (segments or -1, largest cost)."""
    n = start.shape[1] - 1
    count, most = rows.shape[1], numbers.shape[1] - 1
    used = np.empty((count, n + 1), np.int64)
    came = np.empty((count, n + 1), np.int64)
    kind_at = np.empty((count, n + 1), np.int64)
    segments = np.int64(-1)
    limit = high
    while True:
        above = _within(pins, start, buffer, rows, numbers, kind_of, limit, used, came, kind_at)
        row = -1
        for r in range(count):
            if used[r, n] <= most:
                row = r
        if row >= 0:
            segments, worst, j = np.int64(0), np.int64(0), np.int64(n)
            while j > 0:
                i, before = came[row, j] // count, came[row, j] % count
                ends[segments], kinds[segments], taken[segments] = j, kind_at[row, j], used[row, j]
                at = start[kinds[segments], i] + j - i - 1
                worst = max(worst, buffer[at])
                segments += 1
                row, j = before, i
            high = worst
        elif segments < 0:
            return segments, high
        else:
            low = max(limit + 1, min(above, high))
        if low >= high:
            break
        limit = low + (high - 1 - low) // 2
    for s in range(segments // 2):
        e = segments - 1 - s
        ends[s], ends[e] = ends[e], ends[s]
        kinds[s], kinds[e] = kinds[e], kinds[s]
        taken[s], taken[e] = taken[e], taken[s]
    return segments, high
