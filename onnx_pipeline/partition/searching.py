"""The searching side of a run: good orders, then annealing, a beam over ideals and evolution in turns."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from onnx_pipeline.graph.costgraph import IntArray
from onnx_pipeline.partition.ideals.ladder import Ladder
from onnx_pipeline.partition.instance.coarsen import coarsen
from onnx_pipeline.partition.search import slicing, tapes
from onnx_pipeline.partition.search.annealing import Annealer
from onnx_pipeline.partition.search.beam import descend
from onnx_pipeline.partition.search.brkga import brkga
from onnx_pipeline.partition.search.orders import starting_orders
from onnx_pipeline.partition.task import Task
from onnx_pipeline.stop import AnyOf, Deadline, Stop

#: Size up to which evolution is worth its time.
EVOLVE_LIMIT = 3_000
#: Instances above this size are sliced at the borders of runs.
COARSE_LIMIT = 4_000


class Searching:
    """Improves the partition of a task.

    Parameters
    ----------
    task : Task
    seed : int
    stop : Stop
        Ends every method within about 50 ms.
    """

    def __init__(self, task: Task, seed: int, stop: Stop) -> None:
        self.task = task
        self.seed = seed
        self.stop = stop
        self.rng = np.random.default_rng(seed)
        self.orders: list[IntArray] = []

    def start(self) -> None:
        """Slice good orders; they seed the evolution."""
        for name, order in starting_orders(self.task.inst, self.rng):
            self.orders.append(order)
            self._offer(order, name)
            if self.stop():
                return

    def turns(self, ladder: Ladder | None) -> Iterator[None]:
        """Anneal most of the time; every turn is longer than the one before.

        Parameters
        ----------
        ladder : Ladder, optional
            Its better direction is the one for beams over ideals, which pins forbid.
        """
        annealer = Annealer(self.task, self.seed)
        length = 0.2
        while True:
            annealer.turn(self._pause(2 * length))
            yield
            if ladder is not None and not (self.task.inst.pin >= 0).any():
                descend(ladder.searches[0], self.task, self._pause(length / 2))
                yield
            if self.task.inst.n <= EVOLVE_LIMIT:
                for _, order in brkga(self.task, self.orders, self.rng, self._pause(length)):
                    self._offer(order, "brkga")
                yield
            length *= 1.5

    def _pause(self, seconds: float) -> Stop:
        return AnyOf(self.stop, Deadline(seconds))

    def _offer(self, order: IntArray, method: str) -> None:
        """Slice an order, on large graphs at the borders of its runs, and offer the partition."""
        task, inst = self.task, self.task.inst
        if inst.n > COARSE_LIMIT:
            inst = coarsen(inst, order)
            order = np.arange(inst.n)
        low, high = max(task.lower, 1), task.upper - 1
        ends = np.zeros(task.k, dtype=np.int64)
        if high > 4 * low:
            # A pass at a large limit is quadratic: come from below.
            found, _ = slicing.evaluate(inst, order, task.k, low, low + low // 50, 2 * low, ends)
        else:
            found, _ = slicing.slice_order(tapes.make_tape(inst, order), task.k, low, high, ends)
        task.known.evaluations += 1
        if found:
            task.known.offer(inst.expand(slicing.stages_of(order, ends, found)), method)
