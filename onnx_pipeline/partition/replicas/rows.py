"""The rows of a plan, one for each number of devices: what one of them learns serves the others.

Every chain of stages that is found is offered to all numbers of devices. Bounds go down: N devices do no
better than r N' <= N of them, on which each replica of a plan for N' devices becomes r, so

    period(N') >= floor(N / N') period(N)    and no plan for N devices is none for fewer.
"""

from __future__ import annotations

from collections.abc import Sequence

from onnx_pipeline.graph.costgraph import CostGraph, IntArray
from onnx_pipeline.graph.target import Target
from onnx_pipeline.parameters import SearchParams
from onnx_pipeline.partition.replicas.known import Chain, Known, chain, meets_pins
from onnx_pipeline.stop import Deadline


class Rows:
    """What is known for each number of devices, and whether time is up.

    Parameters
    ----------
    graph : CostGraph
    target : Target
    devices : sequence of int
        Ascending.
    params : SearchParams
        The time limit is for each number of devices; what one leaves over, others have.
    """

    def __init__(
        self, graph: CostGraph, target: Target, devices: Sequence[int], params: SearchParams
    ) -> None:
        self.graph, self.target, self.params = graph, target, params
        self.all = tuple(Known(graph, target, count) for count in devices)
        self.late = Deadline(params.time_limit * len(self.all))
        self._seen: dict[bytes, Chain] = {}

    def open(self) -> list[Known]:
        """Return the rows that are not done."""
        return [known for known in self.all if not known.reached(self.params.gap)]

    def offer(self, stage_of: IntArray, method: str) -> None:
        """Offer ascending stages of the original nodes to all rows, checked and priced once."""
        if not meets_pins(self.graph, stage_of):
            return
        key = stage_of.tobytes()
        if key in self._seen:
            return
        found = self._seen[key] = chain(self.graph, self.target, stage_of, method)
        least = found.periods(self.all[-1].devices)
        for known in self.all:
            if not known.settled:
                known.adopt(found, least[known.devices])

    def bound(self, known: Known) -> None:
        """Take over what the rows of more devices know."""
        for more in self.all:
            if more.devices > known.devices and not known.settled:
                known.infeasible = known.infeasible or more.infeasible
                if not known.infeasible:
                    known.bound(more.devices // known.devices * more.lower, more.bound_method)
