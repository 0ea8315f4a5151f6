"""Ladder of exact questions: raise the lower bound and lower the incumbent until they meet.

An answer "none" at a limit proves limit + 1 as a lower bound; a partition lowers the incumbent. The first
question is always the decisive one, incumbent - 1: on real graphs the incumbent is mostly optimal by then and
"none" ends everything. If it is too expensive the ladder asks at smaller limits, where "none" is cheaper.
"""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Sequence

from onnx_pipeline.graph.target import INFEASIBLE
from onnx_pipeline.partition.ideals.question import IdealSearch, both_ways
from onnx_pipeline.partition.result import Bound
from onnx_pipeline.partition.task import Task
from onnx_pipeline.stop import Bracket, Stop

#: Decisions allowed for a question in the first round; each later round allows four times as many.
FIRST_CAP = 20_000


class Rungs(ABC):
    """Which questions are asked, whoever answers them.

    Parameters
    ----------
    bracket : Bracket
        Best bottleneck and bound as they stand; answers change them.
    stop : Stop

    Attributes
    ----------
    cap : int
        Decisions allowed for a question.
    """

    def __init__(self, bracket: Bracket, stop: Stop) -> None:
        self._bracket = bracket
        self.stop = stop
        self.cap = FIRST_CAP

    @abstractmethod
    def ask(self, limit: int) -> bool | None:
        """Return True for a partition within a limit, False for a proof that there is none, None for neither.

        Where memory binds, the search counts less than peak(S): what it finds may turn out not to be better.
        """

    def decide(self) -> None:
        """Ask whether anything is better than the incumbent, as long as there are answers."""
        while not self.stop():
            if self.ask(self._bracket.upper - 1) is None:
                break

    def round(self) -> None:
        """Ask until this round's cap answers no more; then raise the cap."""
        self.decide()
        self.climb()
        self.cap *= 4

    def climb(self) -> None:
        """Ask between bound and incumbent."""
        low, high = self._bracket.lower, self._bracket.upper - 1
        while low < high and not self.stop():
            # Steps of less than a per mille of the gap are not worth a question.
            if high - low <= self._bracket.upper // 2000:
                break
            middle = low + (high - low) // 2
            answer = self.ask(middle)
            if answer is None:
                high = middle
            else:
                low, high = self._bracket.lower, min(high, self._bracket.upper - 1)


class Ladder(Rungs):
    """Asks both directions, the one that did better first.

    Parameters
    ----------
    task : Task
        Receives partitions and bounds.
    stop : Stop
    searches : sequence of IdealSearch, optional
        Made for the task's instance and stages, the more promising direction first.
    """

    def __init__(self, task: Task, stop: Stop, searches: Sequence[IdealSearch] = ()) -> None:
        super().__init__(task, stop)
        self.task = task
        self.known = task.known
        self.searches = list(searches) or both_ways(task.inst, task.k)

    def ask(self, limit: int) -> bool | None:
        """Ask from both ends."""
        start = time.perf_counter()
        limit = min(limit, INFEASIBLE - 1)
        for i, search in enumerate(self.searches):
            answer = search.ask(limit, self.cap, self.stop)
            if answer.stage_of is None and not answer.proved_none:
                continue
            self.searches.insert(0, self.searches.pop(i))
            if answer.stage_of is not None:
                return True if self.task.offer(answer.stage_of, "ideals") else None
            wall = time.perf_counter() - start
            self.known.bound(Bound("ideals", min(limit + 1, self.known.upper), True, None, wall))
            return False
        return None
