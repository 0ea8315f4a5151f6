"""Refinement: annealed walks from the best placement, for its devices and for others.

A walk (:mod:`onnx_pipeline.partition.search.walk`) moves nodes between devices in a given order: stage s is
what the s-th of them has. Where the order is free, runs take the devices in the order of the best placement,
the unused ones anywhere between, or in one with two of them swapped.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from onnx_pipeline.graph.costgraph import IntArray
from onnx_pipeline.graph.target import INFEASIBLE
from onnx_pipeline.partition.fleets.cutting import Cutter
from onnx_pipeline.partition.fleets.hypergraphs import fleet_hypergraphs
from onnx_pipeline.partition.fleets.slicing import way_of
from onnx_pipeline.partition.fleets.task import FleetTask
from onnx_pipeline.partition.instance.hypergraph import Hypergraph, place_free_sources
from onnx_pipeline.partition.search.annealing import EAGER, Cooling
from onnx_pipeline.partition.search.orders import in_degrees, kahn, order_of
from onnx_pipeline.partition.search.walk import Walk, new_walk
from onnx_pipeline.stop import Stop

#: A device for every position of the walk, and the position of every node.
Start = tuple[tuple[int, ...], IntArray]


class FleetAnnealer:
    """Anneals from the best placement known, at falling targets.

    Parameters
    ----------
    task : FleetTask
        Receives what is found.
    cutter : Cutter
        Cuts the orders that runs start from.
    seed : int
    """

    def __init__(self, task: FleetTask, cutter: Cutter, seed: int = 0) -> None:
        self.task, self.inst, self.fleet, self.seed = task, task.inst, task.inst.fleet, seed
        self._cutter = cutter
        # What a stage will probably need for activations, not what it must: this search proves nothing.
        usual = tuple(inst._replace(need=inst.usual) for inst in self.inst.kinds)
        self._hypers, self._index = fleet_hypergraphs(self.inst._replace(kinds=usual))
        self._cooling = Cooling(self.inst.n)
        self._rng = np.random.default_rng(seed)
        self._walk: Walk | None = None

    def turn(self, stop: Stop) -> None:
        """Anneal until ``stop()`` or until the best placement meets the bound."""
        task = self.task
        # On large graphs a run goes on from the one before: the objective takes too long for every step.
        late: Start | None = None
        upper = task.upper
        while task.lower < upper < INFEASIBLE and not stop():
            devices, stage = late or self._start()
            h = self._on(devices)
            if self._walk is None:
                self._walk = new_walk(h, len(devices), stage[self._index >= 0], self.seed)
            self._walk.stage[:] = stage[self._index >= 0]
            unit = (upper * len(devices) / self.inst.n) ** 2 + 1.0
            if not self._cooling.run(h, self._walk, self._cooling.limit(task.lower, upper), unit, stop):
                continue
            found = self._whole(self._walk.stage)
            upper = int(self._walk.cost.max())
            if self.inst.n > EAGER:
                late = devices, found
            else:
                self._offer(devices, found)
                upper = task.upper
        if late is not None:
            self._offer(*late)

    def _whole(self, stage: IntArray) -> IntArray:
        """Return stages of all nodes for those of the walk, in which free sources are left out."""
        return place_free_sources(self.inst.kinds[0], self._index, stage)

    def _offer(self, devices: tuple[int, ...], stage: IntArray) -> None:
        """Offer what a run found, and the best cut of its order."""
        if self.task.offer(stage, devices, "anneal"):
            self._cutter.offer(order_of(self.inst.common, stage), "annealed order")

    def _start(self) -> Start:
        """Return where the next run begins: every third leaves the valley of the best placement."""
        if self._cooling.runs % 3 != 2 or self.inst.n > EAGER:
            return self._best()
        way = self._cutter.ways[0]
        if self.fleet.free and self._cooling.runs % 2:
            order = order_of(self.inst.common, self.task.stage_of)
            way = way_of(self.fleet, self._swapped())
        else:
            keys = self._rng.random(self.inst.n)
            order = kahn(self.inst.common, in_degrees(self.inst.common), keys)
        found = self._cutter.best(order, way, 2 * self.task.upper)
        return self._best() if found is None else self._placed(found.stage_of, found.device_of)

    def _best(self) -> Start:
        return self._placed(self.task.stage_of, self.task.known.device_of)

    def _placed(self, stage_of: IntArray, device_of: tuple[int, ...]) -> Start:
        """Number the stages by the positions of their devices."""
        if not self.fleet.free:
            return tuple(range(len(self.fleet.devices))), np.array(device_of, dtype=np.int64)[stage_of]
        line = self._line(device_of)
        return line, np.array([line.index(device) for device in device_of], dtype=np.int64)[stage_of]

    def _line(self, used: tuple[int, ...]) -> tuple[int, ...]:
        """Return all devices: those in use in their order, the others anywhere between."""
        line = list(used)
        for device in sorted({*range(len(self.fleet.devices))} - {*used}):
            line.insert(int(self._rng.integers(0, len(line) + 1)), device)
        return tuple(line)

    def _swapped(self) -> tuple[int, ...]:
        """Return the order of the best placement's devices, with two of different kinds swapped."""
        line = list(self._line(self.task.known.device_of))
        kinds = [self.fleet.devices[device] for device in line]
        pairs = [(a, b) for b in range(len(line)) for a in range(b) if kinds[a] != kinds[b]]
        if pairs:
            a, b = pairs[int(self._rng.integers(0, len(pairs)))]
            line[a], line[b] = line[b], line[a]
        return tuple(line)

    def _on(self, devices: tuple[int, ...]) -> Hypergraph:
        """Return the hypergraph with rows for the devices."""
        each = [self._hypers[self.fleet.devices[device]] for device in devices]
        fields = ("work", "cost", "need", "memory", "ns_per_byte", "alpha")
        rows: dict[str, Any] = {name: np.array([getattr(hyper, name) for hyper in each]) for name in fields}
        return each[0]._replace(**rows)  # a row per stage, where plain problems have one
