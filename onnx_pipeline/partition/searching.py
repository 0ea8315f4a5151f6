"""The searching side of a run: good orders, then annealing, a beam over ideals and evolution in turns."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from onnx_pipeline.graph.costgraph import IntArray
from onnx_pipeline.partition.ideals.ladder import Ladder
from onnx_pipeline.partition.search.annealing import Annealer
from onnx_pipeline.partition.search.beam import descend
from onnx_pipeline.partition.search.brkga import DEFAULTS, brkga
from onnx_pipeline.partition.search.exactly import slice_to_fill
from onnx_pipeline.partition.search.lanes import cut, lay
from onnx_pipeline.partition.search.orders import starting_orders
from onnx_pipeline.partition.task import Task
from onnx_pipeline.stop import AnyOf, Asked, Stop

#: Looks at the stopping criterion per second, about, of annealing, a beam, and evolution on large instances.
#: Turns end after so many, not by the clock: the same seed makes the same turns.
ANNEAL_LOOKS, BEAM_LOOKS, EVOLVE_LOOKS = 120.0, 100.0, 20.0
#: Nodes of orders that evolution decodes between two looks, at most.
DECODED = 20_000
#: Entries of the annealer's tables, nodes and tensors times stages: about a gigabyte.
TABLE_LIMIT = 1 << 27
#: Size up to which evolution is worth its time.
EVOLVE_LIMIT = 3_000


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
        task, inst, exactly = self.task, self.task.inst, self.task.known.exactly
        annealer = Annealer(task, self.seed) if (inst.n + inst.m) * task.k <= TABLE_LIMIT else None
        evolving = EVOLVE_LOOKS * max(1.0, DECODED / (DEFAULTS.population * inst.n))
        length = 0.2
        while not self.stop():
            if annealer is not None:
                annealer.turn(self._pause(2 * length * ANNEAL_LOOKS))
            yield
            if ladder is not None and not exactly and not (inst.pin >= 0).any():
                descend(ladder.searches[0], task, self._pause(length / 2 * BEAM_LOOKS))
                yield
            if inst.n <= EVOLVE_LIMIT and not exactly:
                for _, order in brkga(task, self.orders, self.rng, self._pause(length * evolving)):
                    self._offer(order, "brkga")
                yield
            length *= 1.5

    def _pause(self, looks: float) -> Stop:
        return AnyOf(self.stop, Asked(looks))

    def _offer(self, order: IntArray, method: str) -> None:
        """Slice an order, on large graphs at the borders of its runs, and offer the partition."""
        task, lane = self.task, lay(self.task.inst, method, order)
        low, high = max(task.lower, 1), task.upper - 1
        task.known.evaluations += 1
        if task.known.exactly:
            stage = slice_to_fill(lane.inst, lane.order, task.k, low, high, self.stop)
            stage = None if stage is None else lane.inst.expand(stage)
        else:
            stage = cut(lane, task.k, low, high)
        if stage is not None:
            task.known.offer(stage, method)
