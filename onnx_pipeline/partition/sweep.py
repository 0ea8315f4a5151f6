"""One graph and target, many numbers of stages: one search that shares whatever does not depend on k.

The graph is priced and contracted once, good orders are laid out once and cut for every k, minimum cuts are
computed once, and exact questions are prepared once. Two facts carry results from row to row: a partition
into k stages is one into any larger number, and a lower bound for k stages holds for any smaller number. So
partitions go up the list, bounds go down, and a row whose own phases leave nothing to do costs no search.

What is left open then is searched as :func:`onnx_pipeline.partition.portfolio.solve` does, row by row.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import groupby, pairwise
from typing import NamedTuple

import numpy as np

from onnx_pipeline.errors import InfeasibleError
from onnx_pipeline.graph.costgraph import CostGraph
from onnx_pipeline.graph.objective import countable, useful_stages
from onnx_pipeline.graph.target import INFEASIBLE, Target
from onnx_pipeline.parameters import SearchParams
from onnx_pipeline.partition.bounds.mincut import mincut
from onnx_pipeline.partition.bounds.simple import simple
from onnx_pipeline.partition.ideals.ladder import Ladder
from onnx_pipeline.partition.ideals.question import IdealSearch, both_ways
from onnx_pipeline.partition.incumbent import UNKNOWN, Incumbent
from onnx_pipeline.partition.instance.build import build
from onnx_pipeline.partition.instance.contract import contract
from onnx_pipeline.partition.kernels import ensure_compiled
from onnx_pipeline.partition.portfolio import Forms, check_stages, improve, start, wanted
from onnx_pipeline.partition.proving import ARITHMETIC, EXACT_LIMIT, MAX_FLOW, prove
from onnx_pipeline.partition.result import Bound, PartitionResult
from onnx_pipeline.partition.search.lanes import Lane, cut, lay
from onnx_pipeline.partition.search.orders import starting_orders
from onnx_pipeline.partition.task import Task
from onnx_pipeline.progress import Progress, silent
from onnx_pipeline.settings import check
from onnx_pipeline.stop import AnyOf, Deadline, GapReached, is_interrupt

#: Orders that fail one after the other before the rest are left for a row that exact questions leave open:
#: the best for one number of stages mostly is the best for the next.
PATIENCE = 2


class Refusal(NamedTuple):
    """A number of stages without any partition: why, and whether that is proved."""

    stages: int
    reason: str
    proved: bool


@dataclass(frozen=True)
class Sweep:
    """Partitions of one graph for one target, by their number of stages.

    Attributes
    ----------
    rows : tuple of PartitionResult or Refusal
        Ascending in their number of stages.
    interrupted : bool
        Whether Ctrl-C ended the search; rows without any partition so far are left out then.
    """

    rows: tuple[PartitionResult | Refusal, ...]
    interrupted: bool


def sweep(
    graph: CostGraph,
    stages: Sequence[int],
    target: Target,
    params: SearchParams,
    progress: Progress = silent,
) -> Sweep:
    """Partition and certify a graph for every number of stages in a list.

    Parameters
    ----------
    graph : CostGraph
    stages : sequence of int
        Numbers of stages, in any order.
    target : Target
    params : SearchParams
        Of each row: the time limit is for what a row needs beyond what all share.
    progress : Progress

    Returns
    -------
    Sweep
        Every row what :func:`onnx_pipeline.partition.portfolio.solve` returns for its number of stages, with
        bounds for more stages among its own (:attr:`onnx_pipeline.partition.result.Bound.stages`).

    Raises
    ------
    UsageError
        If a number of stages is out of range, or a pin is beyond the fewest.
    InfeasibleError
        If pins and colocation groups contradict each other.
    """
    ensure_compiled(progress)
    numbers = sorted({check("stages", k) for k in stages})
    check_stages(graph, min(numbers, default=1), exactly=False)
    rows: list[PartitionResult | Refusal] = []
    # Very many stages of a very long graph are counted in longer ticks; bounds in ticks do not mix.
    for _, group in groupby(numbers, lambda k: countable(graph, target, k).ticks_per_second):
        chosen = list(group)
        work = _Work(countable(graph, target, chosen[-1]), chosen, target, params, progress)
        interrupted = work.run()
        rows += work.results(interrupted)
        if interrupted:
            return Sweep(tuple(rows), interrupted=True)
    return Sweep(tuple(rows), interrupted=False)


@dataclass(eq=False)
class _Row:
    """One number of stages: what is known of it, and the seconds spent on it alone."""

    stages: int
    known: Incumbent
    reached: GapReached
    refused: str = ""
    seconds: float = 0.0
    done: bool = False

    def settled(self) -> bool:
        """Whether there is nothing left to search for."""
        return bool(self.refused) or self.reached()

    @contextmanager
    def clock(self) -> Iterator[None]:
        """Count the time of a ``with`` block as this row's."""
        begin = time.perf_counter()
        try:
            yield
        finally:
            self.seconds += time.perf_counter() - begin


@dataclass(eq=False)
class _Work:
    """The rows of one sweep that count in the same ticks."""

    graph: CostGraph
    numbers: Sequence[int]
    target: Target
    params: SearchParams
    progress: Progress
    rows: list[_Row] = field(default_factory=list)

    def run(self) -> bool:
        """Run all phases; return whether Ctrl-C ended them."""
        try:
            self._price()
            self._begin()
            self._cut_orders()
            self._decide()
            self._search()
        except (KeyboardInterrupt, SystemError) as error:
            if not is_interrupt(error):
                raise
            return True
        return False

    def results(self, interrupted: bool) -> Iterator[PartitionResult | Refusal]:
        """Freeze the rows; after Ctrl-C those that have a partition."""
        for row in self.rows:
            unfinished = interrupted and not row.done and not row.settled()
            known = row.known
            if row.refused:
                yield Refusal(row.stages, row.refused, proved=True)
            elif known.upper < INFEASIBLE:
                result = known.result(row.stages, self.params.seed, unfinished)
                yield replace(result, search=replace(result.search, wall_seconds=row.seconds))
            elif not unfinished:
                yield Refusal(row.stages, "memory", proved=known.lower >= INFEASIBLE)

    def _price(self) -> None:
        full = build(self.graph, self.target)
        self.forms = Forms(full, contract(full, Deadline(self.params.time_limit)))
        for number, stages in enumerate(self.numbers):
            useful = useful_stages(self.graph, stages)
            told = _row_progress(self.progress, stages, number / len(self.numbers))
            known = Incumbent(self.graph, self.target, useful, told, self.params.exactly)
            self.rows.append(_Row(stages, known, GapReached(known, self.params.gap)))

    def _begin(self) -> None:
        """Give the rows a partition to start from and the bounds that cost next to nothing."""
        full, small = self.forms.full, self.forms.small
        for row in self.rows:
            with row.clock():
                try:
                    check_stages(self.graph, row.stages, self.params.exactly)
                    if row is self.rows[0] or self.params.exactly:
                        start(Task(full, row.known))
                    else:
                        prove(row.known, "simple", ARITHMETIC, partial(simple, full, row.known.stages))
                except InfeasibleError as error:
                    row.refused = str(error)
        if "min-cut" not in wanted(self.params) or not small.n:
            return
        begin = time.perf_counter()
        value = mincut(small, Deadline(self.params.time_limit))  # whatever the number of stages
        bound = Bound("min-cut", value, True, MAX_FLOW.solver, time.perf_counter() - begin)
        for row in self.rows:
            row.known.bound(bound)

    def _cut_orders(self) -> None:
        """Cut all orders for one row after the other; each starts from the partition of the one before."""
        if self.params.exactly or not self.forms.small.n:
            return
        late = Deadline(self.params.time_limit)
        lanes: list[Lane] = []
        for name, order in starting_orders(self.forms.small, np.random.default_rng(self.params.seed)):
            if lanes and late():
                break
            lanes.append(lay(self.forms.small, name, order))
        before = UNKNOWN
        for number, row in enumerate(self.rows):
            with row.clock():
                self._cut(row, lanes, before)
                if number:
                    _offer(self.rows[number - 1], row)
            before = row.known.upper

    def _cut(self, row: _Row, lanes: list[Lane], upper: int) -> None:
        """Offer cuts better than a known bottleneck; lanes come in the order of their last success."""
        known, failed = row.known, 0
        late = Deadline(self.params.time_limit)
        for at, lane in enumerate(list(lanes)):
            low, high = max(known.lower, 1), min(upper, known.upper) - 1
            if high < low or failed == PATIENCE or row.settled() or late():
                break
            known.evaluations += 1
            stage_of = cut(lane, known.stages, low, high)
            if stage_of is not None and known.offer(stage_of, lane.name):
                lanes.insert(0, lanes.pop(at))
                failed = 0
            else:
                failed += 1

    def _decide(self) -> None:
        """Ask of every row whether anything is better, most stages first: a proof serves all fewer ones."""
        small = self.forms.small
        if "ideals" not in wanted(self.params) or not 0 < small.n <= EXACT_LIMIT or self.params.exactly:
            return
        searches: list[IdealSearch] = []
        for number, row in reversed(list(enumerate(self.rows))):
            if row is not self.rows[-1]:
                _bound(self.rows[number + 1], row)
            if row.settled():
                continue
            with row.clock():
                k = row.known.stages
                searches = [each.into(k) for each in searches] or both_ways(small, k)
                limit = AnyOf(row.settled, Deadline(self.params.time_limit))
                ladder = Ladder(Task(small, row.known), limit, searches)
                ladder.decide()
                # Neighbours are alike: next, the direction first whose last question was easier.
                searches = sorted(ladder.searches, key=lambda search: search.spent)
        self._share()

    def _search(self) -> None:
        """Search what is open, fewest stages first: its partitions serve all that follow."""
        for row in self.rows:
            if not row.settled():
                with row.clock():
                    improve(row.known, self.forms, self.params, Deadline(self.params.time_limit))
                self._share()
            row.done = True

    def _share(self) -> None:
        """Carry partitions up and bounds down the list."""
        for fewer, more in pairwise(self.rows):
            _offer(fewer, more)
        for more, fewer in pairwise(reversed(self.rows)):
            _bound(more, fewer)


def _offer(fewer: _Row, more: _Row) -> None:
    """Give a row the partition of one with fewer stages, where it is better."""
    if not more.refused:
        more.known.adopt(fewer.known)


def _bound(more: _Row, fewer: _Row) -> None:
    """Give a row the best bound of one with more stages, where it is better."""
    held = [bound for bound in more.known.bounds if bound.method != "exactly"]
    best = max(held, key=lambda bound: bound.ticks, default=None)
    if best is not None and best.ticks > fewer.known.lower and not fewer.refused:
        fewer.known.bound(replace(best, stages=best.stages or more.stages))


def _row_progress(progress: Progress, stages: int, fraction: float) -> Progress:
    def tell(phase: str, _: float | None, message: str) -> None:
        progress(phase, fraction, f"{stages} stages: {message}")

    return tell
