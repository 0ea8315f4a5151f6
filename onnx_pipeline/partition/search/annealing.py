"""Refinement: annealed walks from the incumbent, at a falling target.

The next target is a little below the incumbent. A run walks (see :mod:`walk`) until every stage costs at most
the target or its moves are used up; the distance of the next target grows with success and shrinks without.
"""

from __future__ import annotations

import numpy as np

from onnx_pipeline.graph.costgraph import IntArray
from onnx_pipeline.partition.instance.hypergraph import Hypergraph, hypergraph, place_free_sources
from onnx_pipeline.partition.search.exactly import slice_to_fill
from onnx_pipeline.partition.search.orders import in_degrees, kahn
from onnx_pipeline.partition.search.slicing import evaluate, stages_of
from onnx_pipeline.partition.search.walk import Walk, anneal, new_walk, reset
from onnx_pipeline.partition.task import Task
from onnx_pipeline.stop import Stop

#: Moves of the first runs, of the longest, and between two looks at the clock (about 10 ms).
MOVES, MAX_MOVES, CHUNK = 300_000, 20_000_000, 30_000
#: (first temperature, aim as a share of the limit), taken in turn: tight aims suit load balance, loose ones
#: tensor-heavy graphs. Temperatures are in units of the squared mean cost of a node.
SCHEDULES = ((1.0, 0.98), (5.0, 0.9), (0.3, 0.95), (3.0, 0.98))
COLD = 0.05
#: Up to this size every improvement is offered at once; above, the objective is too slow for that.
EAGER = 5_000


class Cooling:
    """How far below the incumbent the next run aims, how hot it begins and how long it is.

    Parameters
    ----------
    nodes : int
    exactly : bool
        Leave no stage empty.

    Attributes
    ----------
    step : float
        Relative distance of the next limit below the incumbent; adapts to success.
    runs : int
        Number of runs so far.
    """

    def __init__(self, nodes: int, *, exactly: bool = False) -> None:
        self.step, self.runs = 0.02, 0
        self._moves, self._exactly = max(MOVES, 50 * nodes), exactly

    def limit(self, lower: int, upper: int) -> int:
        """Return the next limit."""
        return max(lower, min(upper - 1, int(upper * (1 - self.step))))

    def run(self, h: Hypergraph, walk: Walk, limit: int, unit: float, stop: Stop) -> bool:
        """Walk from ``walk.stage``; return whether every stage came within the limit.

        Parameters
        ----------
        h : Hypergraph
        walk : Walk
        limit : int
        unit : float
            Of temperatures: a squared cost.
        stop : Stop
        """
        hot, aim_share = SCHEDULES[self.runs % len(SCHEDULES)]
        self.runs += 1
        aim = int(limit * aim_share)
        reset(h, walk)
        found, done = False, 0
        while done < self._moves and not found and not stop():
            # The temperature depends on the share done, so that a run can be paused for stop().
            chunk = min(CHUNK, self._moves - done)
            first, last = (unit * hot * (COLD / hot) ** (x / self._moves) for x in (done, done + chunk))
            found = bool(anneal(h, walk, aim, limit, first, last, chunk, self._exactly))
            done += chunk
        self._adapt(found)
        return found

    def _adapt(self, found: bool) -> None:
        """Choose the next step, and the length of the next run."""
        if found:
            self.step = min(0.05, 2 * self.step)
            return
        self.step = max(1e-4, self.step / 2)
        if self.step < 1e-3:
            # Small steps fail: longer runs from a new distance.
            self._moves, self.step = min(2 * self._moves, MAX_MOVES), 0.005


class Annealer:
    """Anneals from the best partition known, at falling targets.

    Parameters
    ----------
    task : Task
        Receives what is found.
    seed : int
    """

    def __init__(self, task: Task, seed: int = 0) -> None:
        self.task, self.inst, self.k, self.seed = task, task.inst, task.k, seed
        # What a stage will probably need for activations, not what it must: this search proves nothing.
        self._exactly = task.known.exactly
        usual = self.inst._replace(need=self.inst.usual)
        self._h, self._index = hypergraph(usual, whole=self._exactly)
        self._walk: Walk | None = None
        self._degrees = in_degrees(self.inst)
        self._rng = np.random.default_rng(seed)
        self._cooling = Cooling(len(self._h.work), exactly=self._exactly)

    def turn(self, stop: Stop) -> None:
        """Anneal until ``stop()`` or until the incumbent meets the bound."""
        lower, upper = self.task.lower, self.task.upper
        best = self.task.stage_of[self._index >= 0]
        if self._walk is None:
            self._walk = new_walk(self._h, self.k, best, self.seed)
        walk = self._walk
        unit = (float(walk.cost.sum()) / max(len(best), 1)) ** 2 + 1.0
        late: IntArray | None = None
        while lower < upper and not stop():
            limit = self._cooling.limit(lower, upper)
            # Every third run leaves the incumbent's valley and starts from a random order.
            leave = self._cooling.runs % 3 == 2 and len(best) <= EAGER
            start = self._random_start(lower, upper, stop) if leave else None
            walk.stage[:] = best if start is None else start
            if self._cooling.run(self._h, walk, limit, unit, stop):
                best, upper = walk.stage.copy(), int(walk.cost.max())
                late = best
                if len(best) <= EAGER:
                    self._offer(best)
                    late = None
        if late is not None:
            self._offer(late)

    def _offer(self, stage: IntArray) -> None:
        self.task.offer(place_free_sources(self.inst, self._index, stage), "anneal")

    def _random_start(self, lower: int, upper: int, stop: Stop) -> IntArray | None:
        """Stages of the hypergraph's nodes from a random order, sliced; None if it cannot fill all stages."""
        order = kahn(self.inst, self._degrees, self._rng.random(self.inst.n))
        if self._exactly:
            return slice_to_fill(self.inst, order, self.k, lower, 4 * upper, stop)
        ends = np.zeros(self.k, dtype=np.int64)
        found, _ = evaluate(self.inst, order, self.k, lower, upper, 0, ends)
        return np.asarray(stages_of(order, ends, found)[self._index >= 0], dtype=np.int64)
