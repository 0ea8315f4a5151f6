"""Planning stages and replicas for one or many numbers of devices.

All numbers share what does not depend on them: the contracted graph, good orders with the costs of all their
segments, and partitions without replicas. Contraction stays safe: its rules move a node so that no stage's
cost rises, and with no cost higher no stage needs more devices. Two facts carry results from number to
number: a plan for N devices is one for more, and a bound for N holds for fewer.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from fractions import Fraction
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from onnx_pipeline.graph.costgraph import CostGraph, IntArray
from onnx_pipeline.graph.objective import countable, price_stages
from onnx_pipeline.graph.replicas import capacities
from onnx_pipeline.graph.target import INFEASIBLE, Target
from onnx_pipeline.parameters import SearchParams
from onnx_pipeline.partition.instance.build import build
from onnx_pipeline.partition.instance.contract import contract
from onnx_pipeline.partition.instance.instance import Instance
from onnx_pipeline.partition.portfolio import check_stages
from onnx_pipeline.partition.proving import EXACT_LIMIT
from onnx_pipeline.partition.replicas.bound import simple_period
from onnx_pipeline.partition.replicas.ideals import ReplicaSearch
from onnx_pipeline.partition.replicas.kernels import ensure_compiled
from onnx_pipeline.partition.replicas.known import Known, compact, meets_pins
from onnx_pipeline.partition.replicas.slicing import divide, price_segments
from onnx_pipeline.partition.result import PartitionResult
from onnx_pipeline.partition.search.lanes import Lane, lay
from onnx_pipeline.partition.search.orders import starting_orders
from onnx_pipeline.partition.sweep import sweep
from onnx_pipeline.progress import Progress, silent
from onnx_pipeline.stop import AnyOf, Deadline, Stop, is_interrupt

#: Share of the time limit for partitions without replicas.
EQUAL_SHARE = 0.25
#: Orders are cut at all their positions, n^2 / 2 segments: above this size only so many orders.
LONG, FEW = 1_500, 3
#: Decisions allowed for a question in the first round; each later round allows four times as many.
FIRST_CAP = 20_000
#: Steps of less than this part of the period are not worth a question.
STEP = 2_000


class Sliced(NamedTuple):
    """An order and the costs of its segments."""

    lane: Lane
    start: IntArray
    buffer: IntArray


class Plans(NamedTuple):
    """What is known for each number of devices, and the partitions without replicas, by number of stages."""

    known: tuple[Known, ...]
    equal: tuple[PartitionResult, ...]
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
        The time limit is for each number of devices, beyond what all share.
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
    rows = tuple(Known(graph, target, count) for count in devices)
    for known in rows:
        known.bound(simple_period(full, known.devices), "simple")
        if not (graph.pinned > 0).any():
            known.offer(np.zeros(graph.num_nodes, dtype=np.int64), "whole")
    if all(known.settled for known in rows):
        return Plans(rows, (), interrupted=False)
    ensure_compiled(progress)
    work = _Work(rows, full, params, progress)
    equal: list[PartitionResult] = []
    interrupted = False
    try:
        if work.open():
            equal.extend(work.equal())
        if work.open():
            work.slice_all()
        if work.open():
            work.decide_all()
    except (KeyboardInterrupt, SystemError) as error:
        if not is_interrupt(error):
            raise
        interrupted = True
    return Plans(rows, tuple(equal), interrupted)


class _Work:
    """The phases, each over all numbers of devices."""

    def __init__(
        self, rows: Sequence[Known], full: Instance, params: SearchParams, progress: Progress
    ) -> None:
        self.rows, self.params, self.progress = rows, params, progress
        self.begin = time.perf_counter()
        self.small = contract(full, Deadline(params.time_limit))

    def open(self) -> list[Known]:
        """Return the rows that are not done."""
        return [known for known in self.rows if not known.reached(self.params.gap)]

    def deadline(self, known: Known) -> Deadline:
        """Return the end of a row's time, of which it has spent its own and its share of what all spent."""
        own = sum(each.seconds for each in self.rows)
        shared = (time.perf_counter() - self.begin - own) / len(self.rows)
        return Deadline(self.params.time_limit, known.seconds + shared)

    def equal(self) -> Iterator[PartitionResult]:
        """Offer, and yield, partitions into k stages: floor(N / k) replicas of each are one of the plans."""
        stages = sorted(
            {known.devices // share for known in self.open() for share in range(1, known.devices + 1)}
        )
        stages = [k for k in stages if k > int(self.rows[0].graph.pinned.max(initial=-1))]
        limit = EQUAL_SHARE * self.params.time_limit / max(1, len(stages))
        params = SearchParams(limit, self.params.gap, self.params.seed, self.params.threads)
        found = sweep(self.rows[0].graph, stages, self.rows[0].target, params, self.progress)
        results = [row for row in found.rows if isinstance(row, PartitionResult)]
        seen: set[bytes] = set()
        for result in results:
            yield result
            if result.stage_of.tobytes() not in seen:
                seen.add(result.stage_of.tobytes())
                self._offer_all(result)
        if found.interrupted:
            raise KeyboardInterrupt

    def _offer_all(self, result: PartitionResult) -> None:
        """Offer a partition, priced once, to every number of devices that suffices."""
        graph, target = self.rows[0].graph, self.rows[0].target
        stage_of = compact(graph, result.stage_of)
        costs = [
            cost.total for cost in price_stages(graph, target, stage_of, int(stage_of.max(initial=-1)) + 1)
        ]
        for known in self.rows:
            if not known.settled:
                known.offer(stage_of, "stages", costs)

    def slice_all(self) -> None:
        """Cut good orders, fewest devices first: what is found serves all that follow."""
        late = Deadline(self.params.time_limit)
        lanes: list[Sliced] = []
        for name, order in starting_orders(self.small, np.random.default_rng(self.params.seed)):
            if lanes and (late() or (self.small.n > LONG and len(lanes) == FEW)):
                break
            lane = lay(self.small, name, order)
            lanes.append(Sliced(lane, *price_segments(lane.tape, INFEASIBLE - 1)))
        for number, known in enumerate(self.rows):
            if number:
                _carry_up(self.rows[number - 1], known)
            late = self.deadline(known)
            with known.clock():
                for at, sliced in enumerate(lanes):
                    if known.reached(self.params.gap) or (at and late()):
                        break
                    if self._slice(known, sliced):
                        lanes = [sliced, *lanes[:at], *lanes[at + 1 :]]
            self.progress("partition", (number + 1) / len(self.rows), f"{known.devices} devices: slicing")

    def _slice(self, known: Known, sliced: Sliced) -> bool:
        """Find the best cut of an order, if it is better than what is known; return whether it is."""
        stage = np.zeros(sliced.lane.inst.n, dtype=np.int64)

        def better(limit: Fraction | None) -> bool:
            capacity = capacities(limit, known.devices)
            if not divide(sliced.lane.tape.pin, sliced.start, sliced.buffer, capacity, stage):
                return False
            found = np.empty_like(stage)
            found[sliced.lane.order] = stage
            found = sliced.lane.inst.expand(found)
            return meets_pins(known, found) and known.offer(found, f"slicing, {sliced.lane.name}")

        if not better(known.period):
            return False
        low = known.lower
        while known.period is not None and low < known.period:
            middle = _middle(low, known.period, known.devices)
            if better(middle):
                continue
            low = middle
        return True

    def decide_all(self) -> None:
        """Ask exact questions, most devices first: a bound serves all fewer ones."""
        if not 0 < self.small.n <= EXACT_LIMIT:
            return
        searches = [ReplicaSearch(self.small, reverse=reverse) for reverse in (False, True)]
        for more, known in pairwise([None, *reversed(self.rows)]):
            assert known is not None
            if more is not None:
                known.infeasible = known.infeasible or more.infeasible
                if not known.infeasible and more.lower > known.lower:
                    known.bound(more.lower, more.bound_method)
            late = self.deadline(known)
            with known.clock():
                _decide(known, searches, self.params.gap, late)
            self.progress("partition", None, f"{known.devices} devices: proving")
        for fewer, known in pairwise(self.rows):
            _carry_up(fewer, known)


def _carry_up(fewer: Known, more: Known) -> None:
    """Give a number of devices the plan for fewer ones, where it is better."""
    if fewer.period is not None and (more.period is None or fewer.period < more.period):
        more.offer(fewer.stage_of, fewer.method)


def _middle(low: Fraction, high: Fraction, devices: int) -> Fraction:
    """Return a limit between a bound and a plan, the plan's own period where they are close.

    Its denominator stays small, so that integers do.
    """
    if high - low <= high / STEP:
        return high
    scale = 2 * devices
    middle = Fraction(int((low + high) / 2 * scale) + 1, scale)
    return middle if low < middle < high else high


def _decide(known: Known, searches: list[ReplicaSearch], gap: float, late: Stop) -> None:
    """Ask whether anything is better; where that is too expensive, ask at smaller limits, too."""
    cap = FIRST_CAP
    stop = AnyOf(lambda: known.reached(gap), late)

    def ask(limit: Fraction | None) -> bool | None:
        """Return True for a better plan, False for a proof that nothing is below the limit."""
        for search in list(searches):
            answer = search.ask(capacities(limit, known.devices), cap, stop)
            if answer.proved_none:
                searches.sort(key=lambda each: each is not search)
                if limit is None:
                    known.infeasible = True
                else:
                    known.bound(limit, "ideals")
                return False
            if answer.stage_of is not None:
                searches.sort(key=lambda each: each is not search)
                stages = search.inst.expand(answer.stage_of)
                return True if meets_pins(known, stages) and known.offer(stages, "ideals") else None
        return None

    while not stop():
        _round(known, ask, stop)
        cap *= 4
        if cap > FIRST_CAP << 20:
            return


def _round(known: Known, ask: Callable[[Fraction | None], bool | None], stop: Stop) -> None:
    """Ask the decisive question as long as there are answers, then between bound and plan."""
    while not stop() and ask(known.period):
        pass
    low, high = known.lower, known.period
    while high is not None and low < high and not stop() and high - low > high / STEP:
        middle = _middle(low, high, known.devices)
        if middle == high:
            break
        answer = ask(middle)
        if answer is None:
            high = middle
        else:
            assert known.period is not None
            low, high = known.lower, min(high, known.period)
