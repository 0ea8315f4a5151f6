"""Exact questions about a fleet, from both ends, until bound and placement meet."""

from __future__ import annotations

import time

from onnx_pipeline.graph.target import INFEASIBLE
from onnx_pipeline.partition.fleets.ideals import FleetSearch
from onnx_pipeline.partition.fleets.instance import FleetInstance
from onnx_pipeline.partition.fleets.known import FleetKnown
from onnx_pipeline.partition.ideals.ladder import FIRST_CAP, Rungs
from onnx_pipeline.stop import Stop

#: Decisions allowed at first, one after the other.
FIRST_CAPS = (5_000, 20_000, 80_000)
#: How many times less effort questions between bound and placement are worth than the decisive one.
BELOW = 16


class FleetLadder(Rungs):
    """Asks from both ends of the line, the one that did better first.

    Parameters
    ----------
    known : FleetKnown
        Receives placements and bounds.
    inst : FleetInstance
    stop : Stop
    """

    def __init__(self, known: FleetKnown, inst: FleetInstance, stop: Stop) -> None:
        super().__init__(known, stop)
        self.known, self.inst = known, inst
        self.searches = [FleetSearch(inst, reverse=reverse) for reverse in (False, True)]

    def start(self) -> None:
        """Ask the decisive question with growing effort, from either end: mostly one of them is quick."""
        for self.cap in FIRST_CAPS:
            self.decide()
        self.cap *= 4

    def round(self) -> None:
        """Ask the decisive question, then quicker ones for the bound; then raise the cap."""
        self.decide()
        cap, self.cap = self.cap, max(FIRST_CAP, self.cap // BELOW)
        self.climb()
        self.cap = 4 * cap

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
                stages = self.inst.expand(answer.stage_of)
                return True if self.known.offer(stages, answer.device_of, "ideals") else None
            proved = min(limit + 1, self.known.upper)
            self.known.bound(proved, "ideals", seconds=time.perf_counter() - start)
            return False
        return None
