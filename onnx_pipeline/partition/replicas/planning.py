"""Planning stages and replicas for one or many numbers of devices.

All numbers share what does not depend on them: the contracted graph, its ideals where they are few, good
orders with the costs of all their segments, and partitions without replicas. Contraction stays safe: its
rules move a node so that no stage's cost rises, and with no cost higher no stage needs more devices. What one
number of devices learns serves the others, see :mod:`onnx_pipeline.partition.replicas.rows`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from fractions import Fraction
from typing import NamedTuple, Protocol

import numpy as np

from onnx_pipeline.graph.costgraph import CostGraph, IntArray
from onnx_pipeline.graph.objective import countable
from onnx_pipeline.graph.replicas import capacities
from onnx_pipeline.graph.target import INFEASIBLE, Target
from onnx_pipeline.parameters import SearchParams
from onnx_pipeline.partition.instance.build import build
from onnx_pipeline.partition.instance.contract import contract
from onnx_pipeline.partition.instance.instance import Instance
from onnx_pipeline.partition.portfolio import check_stages
from onnx_pipeline.partition.proving import EXACT_LIMIT
from onnx_pipeline.partition.replicas.between import LatticeSearch
from onnx_pipeline.partition.replicas.bound import simple_period
from onnx_pipeline.partition.replicas.equal import equal_partitions
from onnx_pipeline.partition.replicas.ideals import ReplicaAnswer, ReplicaSearch
from onnx_pipeline.partition.replicas.kernels import ensure_compiled
from onnx_pipeline.partition.replicas.known import Known
from onnx_pipeline.partition.replicas.rows import Rows
from onnx_pipeline.partition.replicas.slicing import divide, price_segments
from onnx_pipeline.partition.result import Partition
from onnx_pipeline.partition.search.lanes import Lane, lay
from onnx_pipeline.partition.search.orders import starting_orders
from onnx_pipeline.progress import Progress, silent
from onnx_pipeline.stop import AnyOf, Stop, is_interrupt

#: Orders are cut at all their positions, n^2 / 2 segments: above this size only so many orders.
LONG, FEW = 1_500, 3
#: Decisions allowed for a question in the first round; each of the later rounds allows four times as many.
FIRST_CAP, ROUNDS = 1_000, 13
#: Steps of less than this part of the period are not worth a question.
STEP = 2_000


class Search(Protocol):
    """Whatever answers questions about an instance."""

    inst: Instance

    def ask(self, capacity: IntArray, decisions: int, stop: Stop) -> ReplicaAnswer:
        """Search for stages that the devices serve in time."""
        ...


class Sliced(NamedTuple):
    """An order and the costs of its segments."""

    lane: Lane
    start: IntArray
    buffer: IntArray


class Plans(NamedTuple):
    """What is known for each number of devices, and the partitions without replicas, by number of stages."""

    known: tuple[Known, ...]
    whole: Partition  # one stage
    equal: tuple[Partition, ...]
    interrupted: bool


def plan_replicas(
    graph: CostGraph,
    devices: Sequence[int],
    target: Target,
    params: SearchParams,
    progress: Progress = silent,
) -> Plans:
    """Plan for every number of devices.

    Parameters
    ----------
    graph : CostGraph
    devices : sequence of int
        Ascending.
    target : Target
    params : SearchParams
        The time limit is for each number of devices; what one leaves over, others have.
    progress : Progress

    Raises
    ------
    UsageError
        If a pin is beyond the fewest devices: there are no more stages than devices.
    InfeasibleError
        If pins and colocation groups contradict each other.
    """
    check_stages(graph, devices[0], exactly=False)
    graph = countable(graph, target, devices[-1])
    full = build(graph, target)
    rows = Rows(graph, target, devices, params)
    whole = Partition(graph, target, 1, np.zeros(graph.num_nodes, dtype=np.int64))
    for known in rows.all:
        known.bound(simple_period(full, known.devices), "simple")
    if not (graph.pinned > 0).any():
        rows.offer(whole.stage_of, "whole")
    if all(known.settled for known in rows.all):
        return Plans(rows.all, whole, (), interrupted=False)
    with rows.late.paused():
        ensure_compiled(progress)
    equal: list[Partition] = []
    interrupted = False
    try:
        _Work(rows, full, progress).run(equal)
    except (KeyboardInterrupt, SystemError) as error:
        if not is_interrupt(error):
            raise
        interrupted = True
    return Plans(rows.all, whole, tuple(equal), interrupted)


class _Work:
    """The phases, each over all numbers of devices."""

    def __init__(self, rows: Rows, full: Instance, progress: Progress) -> None:
        self.rows, self.params, self.progress = rows, rows.params, progress
        self.full = full

    def run(self, equal: list[Partition]) -> None:
        """Search and prove until all rows are done; collect partitions without replicas on the way."""
        small = self.small = contract(self.full, self.rows.late)
        exact = bool(self.rows.open()) and 0 < small.n <= EXACT_LIMIT
        lattice = LatticeSearch.of(small) if exact else None
        # What such a lattice finds is what the objective says: it leaves nothing to other methods.
        sure = lattice is not None and not small.need.any() and not (small.pin >= 0).any()
        for partition in equal_partitions(self.rows, lattice if sure else None, self.progress):
            equal.append(partition)
            self.rows.offer(partition.stage_of, "stages")
        if self.rows.open() and not sure:
            self.slice_all()
        if lattice is not None:
            self.decide_all([lattice], 1)
        elif exact:
            self.decide_all([ReplicaSearch(small, reverse=reverse) for reverse in (False, True)], ROUNDS)

    def slice_all(self) -> None:
        """Cut good orders, fewest devices first: what is found serves all that follow."""
        late, lanes = self.rows.late, list[Sliced]()
        for name, order in starting_orders(self.small, np.random.default_rng(self.params.seed)):
            if lanes and (late() or (self.small.n > LONG and len(lanes) == FEW)):
                break
            lane = lay(self.small, name, order)
            lanes.append(Sliced(lane, *price_segments(lane.tape, INFEASIBLE - 1)))
        for number, known in enumerate(self.rows.all):
            for at, sliced in enumerate(lanes):
                if known.reached(self.params.gap) or (at and late()):
                    break
                if self._slice(known, sliced):
                    lanes = [sliced, *lanes[:at], *lanes[at + 1 :]]
            done = (number + 1) / len(self.rows.all)
            self.progress("partition", done, f"{known.devices} devices: slicing")

    def _slice(self, known: Known, sliced: Sliced) -> bool:
        """Find the best cut of an order, if it is better than what is known; return whether it is."""
        stage = np.zeros(sliced.lane.inst.n, dtype=np.int64)

        def better(limit: Fraction | None) -> bool:
            capacity = capacities(limit, known.devices)
            if not divide(sliced.lane.tape.pin, sliced.start, sliced.buffer, capacity, stage):
                return False
            found = np.empty_like(stage)
            found[sliced.lane.order] = stage
            return self._better(known, sliced.lane.inst.expand(found), f"slicing, {sliced.lane.name}")

        if not better(known.period):
            return False
        low = known.lower
        while known.period is not None and low < known.period:
            middle = _middle(low, known.period, known.devices)
            if better(middle):
                continue
            low = middle
        return True

    def decide_all(self, searches: list[Search], rounds: int) -> None:
        """Ask exact questions, round after round, most devices first: a bound serves all fewer ones."""
        for cap in (FIRST_CAP << 2 * number for number in range(rounds)):
            for known in reversed(self.rows.open()):
                self.rows.bound(known)
                self._decide(known, searches, cap)
                self.progress("partition", None, f"{known.devices} devices: proving")

    def _decide(self, known: Known, searches: list[Search], cap: int) -> None:
        """Ask about one number of devices, of the search first that answered last."""
        stop = AnyOf(lambda: known.reached(self.params.gap), self.rows.late)

        def ask(limit: Fraction | None) -> bool | None:
            """Return True for a better plan, False for a proof that nothing is below the limit."""
            for search in list(searches):
                answer = search.ask(capacities(limit, known.devices), cap, stop)
                if answer.stage_of is None and not answer.proved_none:
                    continue
                searches.sort(key=lambda each: each is not search)
                if answer.stage_of is not None:
                    return self._better(known, search.inst.expand(answer.stage_of), "ideals") or None
                if limit is None:
                    known.infeasible = True
                else:
                    known.bound(limit, "ideals")
                return False
            return None

        if not stop():
            _round(known, ask, stop)

    def _better(self, known: Known, stage_of: IntArray, method: str) -> bool:
        """Offer stages to all rows; return whether they are better for this one."""
        before = known.period
        self.rows.offer(stage_of, method)
        return known.period != before


def _middle(low: Fraction, high: Fraction, devices: int) -> Fraction:
    """Return a limit between a bound and a plan, the plan's own period where they are close.

    Its denominator stays small, so that integers do.
    """
    if high - low <= high / STEP:
        return high
    scale = 2 * devices
    middle = Fraction(int((low + high) / 2 * scale) + 1, scale)
    return middle if low < middle < high else high


def _round(known: Known, ask: Callable[[Fraction | None], bool | None], stop: Stop) -> None:
    """Ask whether anything is better, and unless nothing is, between bound and plan."""
    better = ask(known.period)
    while better is not False and known.period is not None and not stop():
        low, high = known.lower, known.period
        while high - low > high / STEP and not stop():
            middle = _middle(low, high, known.devices)
            if middle == high:
                break
            answer = ask(middle)
            if answer is None:
                high = middle
            else:
                low, high = known.lower, min(high, known.period)
        if better is None:
            break
        better = ask(known.period)
