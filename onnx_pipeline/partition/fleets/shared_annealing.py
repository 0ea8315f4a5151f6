"""Annealed walks over maps of nodes to devices, from several starts."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from onnx_pipeline.graph.costgraph import IntArray
from onnx_pipeline.partition.fleets.instance import FleetInstance
from onnx_pipeline.partition.fleets.known import FleetKnown
from onnx_pipeline.partition.fleets.shared_fabric import fabric
from onnx_pipeline.partition.fleets.shared_walk import Walk, anneal, largest, new_walk, squeeze
from onnx_pipeline.partition.search.orders import order_of, starting_orders
from onnx_pipeline.stop import Stop

#: Nodes moved in the first runs, fewer where there are few, in the longest, and between two looks at the
#: clock (about 30 ms).
EFFORT, EFFORT_PER_NODE, MOST_EFFORT, CHUNK = 200_000, 1_000, 20_000_000, 25_000
#: First temperatures, taken in turn, and the last one: as shares of the largest load, squared. The first one
#: is no less than that of a few nodes, which is much where they are few.
HOT, FEW, COLD = (0.03, 0.01, 0.1), 4, 0.0002
#: Orders that starts are made along, and pieces of the best map that a new start shuffles.
ORDERS, PIECES = ("given", "lifo", "reverse"), 8


class Start(NamedTuple):
    """A topological order and the device of every node."""

    order: IntArray
    device: IntArray


class SharedAnnealer:
    """Anneals maps of nodes to devices.

    Parameters
    ----------
    known : FleetKnown
        Receives what is found.
    inst : FleetInstance
        Whose nodes all run on some device.
    preferred : int64[n] or None
        Kind that each node should be on, as far as a bound can tell.
    seed : int
    """

    def __init__(
        self, known: FleetKnown, inst: FleetInstance, preferred: IntArray | None = None, seed: int = 0
    ) -> None:
        self.known, self.inst = known, inst
        self._fabric = fabric(inst)
        self._rng = np.random.default_rng(seed)
        self._starts = self._make_starts(preferred)
        self._best: tuple[int, Start] | None = None
        self._effort = max(min(EFFORT, EFFORT_PER_NODE * inst.n), 50 * inst.n)
        self._runs = 0

    def turn(self, stop: Stop) -> None:
        """Anneal until ``stop()``, at least once."""
        while True:
            start = next(self._starts, None)
            if start is None:
                assert self._best is not None
                # Every fourth run leaves the valley of the best map.
                start = self._shuffled(self._best[1]) if self._runs % 4 == 3 else self._best[1]
            self._run(start, stop)
            if stop():
                return

    def _run(self, start: Start, stop: Stop) -> None:
        """Walk from a start, and keep what is better."""
        f = self._fabric
        w = new_walk(f, start.order, start.device, int(self._rng.integers(1 << 31)))
        value, found = self._squeezed(w, w.device)
        squeeze(f, w)
        hot = value * max(HOT[self._runs % len(HOT)], FEW / self.inst.n)
        self._runs += 1
        done = 0
        chunk = min(CHUNK, self._effort)
        while done < self._effort and value > self.known.lower and not stop():
            # The temperature depends on the share done, so that a run can be paused for stop().
            first, last = (
                (hot * (value * COLD / hot) ** (x / self._effort)) ** 2 + 1.0 for x in (done, done + chunk)
            )
            if anneal(f, w, self.known.lower, first, last, chunk, value) < value:
                value, found = self._squeezed(w, w.best)
            squeeze(f, w)
            done += chunk
        if self._best is None or value < self._best[0]:
            self._best = value, found
            self._offer(found)
        else:
            self._effort = min(self._effort * 5 // 4, MOST_EFFORT)

    def _squeezed(self, w: Walk, device: IntArray) -> tuple[int, Start]:
        """Return the largest load of a map along the walk's order, once it is squeezed, and both."""
        copy = new_walk(self._fabric, w.order, device, 0)
        squeeze(self._fabric, copy)
        return int(largest(self._fabric, copy)), Start(copy.order, copy.device)

    def _offer(self, found: Start) -> None:
        """Offer the runs along an order as stages, if no device has too many."""
        along = found.device[found.order]
        begins = np.append(True, along[1:] != along[:-1])
        if np.bincount(along[begins]).max() > self._fabric.most:
            return
        stage = np.empty_like(found.order)
        stage[found.order] = np.cumsum(begins) - 1
        self.known.offer(self.inst.expand(stage), along[begins].tolist(), "annealing")

    def _make_starts(self, preferred: IntArray | None) -> Iterator[Start]:
        """Yield the best placement so far, then kinds that seem right, divided along good orders."""
        inst = self.inst
        if len(self.known.stage_of):
            stage = np.zeros(inst.n, dtype=np.int64)
            stage[inst.kinds[0].node_of] = self.known.stage_of
            yield Start(order_of(inst.kinds[0], stage), np.array(self.known.device_of)[stage])
        common = inst.kinds[inst.used[0]]._replace(work=inst.least_work)
        orders = dict(starting_orders(common, self._rng, 0))
        for order in (orders[name] for name in ORDERS if name in orders):
            for kinds in (preferred, self._fastest()):
                if kinds is not None:
                    yield Start(order, self._divided(order, kinds))

    def _fastest(self) -> IntArray:
        """Return the kind of every node when each kind does all it can that faster ones cannot.

        Fast is a kind whose devices together do what all kinds can run, or else what they can, soonest.
        """
        inst = self.inst
        runs = inst.runs[list(inst.used)]
        nodes = runs.all(axis=0) if runs.all(axis=0).any() else np.ones(inst.n, dtype=np.bool_)
        kinds = np.full(inst.n, -1, dtype=np.int64)
        times = {
            k: inst.kinds[k].work[nodes].astype(np.float64).sum() / inst.fleet.counts[k] for k in inst.used
        }
        for kind in sorted(inst.used, key=lambda k: -times[k]):
            kinds[inst.runs[kind]] = kind
        return kinds

    def _divided(self, order: IntArray, kinds: IntArray) -> IntArray:
        """Give every device of a kind the next share of its work along an order."""
        device = np.zeros(self.inst.n, dtype=np.int64)
        for kind in self.inst.used:
            nodes = order[kinds[order] == kind]
            devices = np.flatnonzero(np.array(self.inst.fleet.devices) == kind)
            work = self.inst.kinds[kind].work[nodes].astype(np.float64) + 1.0
            shares = (np.cumsum(work) - work / 2) / max(1.0, work.sum()) * len(devices)
            device[nodes] = devices[shares.astype(np.int64)]
        return device

    def _shuffled(self, best: Start) -> Start:
        """Return the best map with pieces of its order on random devices."""
        inst, rng = self.inst, self._rng
        device = best.device.copy()
        for _ in range(PIECES):
            first, length = int(rng.integers(inst.n)), int(rng.integers(1, 2 + inst.n // 4))
            piece = best.order[first : first + length]
            to = int(rng.integers(len(inst.fleet.devices)))
            device[piece[inst.runs[inst.fleet.devices[to], piece]]] = to
        return Start(best.order, device)
