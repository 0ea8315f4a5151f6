"""Good orders, cut for the devices of a fleet."""

from __future__ import annotations

from itertools import chain

import numpy as np

from onnx_pipeline.graph.costgraph import IntArray
from onnx_pipeline.graph.fleet import FleetTarget
from onnx_pipeline.graph.target import INFEASIBLE
from onnx_pipeline.partition.fleets.instance import FleetInstance, coarsen_fleet
from onnx_pipeline.partition.fleets.orders import grouping_orders
from onnx_pipeline.partition.fleets.slicing import MOST_ROWS, Cut, Way, cut, price_order, rows_of, way_of
from onnx_pipeline.partition.fleets.task import FleetTask
from onnx_pipeline.partition.search.lanes import COARSE_LIMIT
from onnx_pipeline.partition.search.orders import GREEDY_LIMIT, starting_orders
from onnx_pipeline.stop import Stop

#: Orders of the devices to try where there are too many kinds to count in any order.
SHUFFLES = 8
#: Limits come from below, from this many times the best bound on: segments up to a large one are many.
FAR, STEP = 2, 4


class Cutter:
    """Cuts orders of an instance for the devices of its fleet.

    Parameters
    ----------
    task : FleetTask
        Receives what is found.
    seed : int
    """

    def __init__(self, task: FleetTask, seed: int = 0) -> None:
        self.task, self.inst = task, task.inst
        self._rng = np.random.default_rng(seed)
        self.ways = _ways(self.inst.fleet, self._rng)

    def start(self, stop: Stop) -> None:
        """Cut good orders."""
        orders = starting_orders(self.inst.common, self._rng)
        first = next(orders)
        grouped = grouping_orders(self.inst, first[1]) if self.inst.n <= GREEDY_LIMIT else ()
        for name, order in chain([first], grouped, orders):
            self.offer(order, name)
            if stop():
                return

    def offer(self, order: IntArray, name: str) -> bool:
        """Cut an order; return whether it gave the best placement so far."""
        task = self.task
        inst, order = _coarse(self.inst, order)
        limit = task.upper if task.upper < INFEASIBLE else max(FAR * task.lower, 1 << 10)
        better = False
        while True:
            priced = price_order(inst, order, limit)
            for way in self.ways:
                found = cut(priced, way, task.lower, min(limit, task.upper - 1))
                if found is not None:
                    stages = inst.expand(found.stage_of)
                    better |= task.known.offer(stages, found.device_of, f"slicing, {name}")
            if better or limit >= task.upper:
                return better
            limit = min(task.upper, limit * STEP)

    def best(self, order: IntArray, way: Way, high: int) -> Cut | None:
        """Return the best cut of an order, in stages of the instance's nodes, if it is at most ``high``."""
        inst, order = _coarse(self.inst, order)
        found = cut(price_order(inst, order, high), way, self.task.lower, high)
        if found is None:
            return None
        return found._replace(stage_of=self.task.reduced(inst.expand(found.stage_of)))


def _coarse(inst: FleetInstance, order: IntArray) -> tuple[FleetInstance, IntArray]:
    """Return an instance and its order to cut: on large ones the runs between the cheapest borders."""
    if inst.n <= COARSE_LIMIT:
        return inst, order
    inst = coarsen_fleet(inst, order)
    return inst, np.arange(inst.n)


def _ways(fleet: FleetTarget, rng: np.random.Generator) -> list[Way]:
    """Return the fleet's own, or, where its devices differ in too many ways to be counted, some orders."""
    if not fleet.free or rows_of(fleet) <= MOST_ROWS:
        return [way_of(fleet)]
    return [way_of(fleet, tuple(rng.permutation(len(fleet.devices)).tolist())) for _ in range(SHUFFLES)]
