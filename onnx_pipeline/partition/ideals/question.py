"""One exact question: is there a partition with every stage cost <= limit?

Asked from the front (sources first) or, on the reversed graph, from the back: the objective is the same, the
effort often is not.
"""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy
from dataclasses import dataclass

import numpy as np

from onnx_pipeline.graph.costgraph import IntArray
from onnx_pipeline.partition.ideals import expand
from onnx_pipeline.partition.ideals.state import new_state
from onnx_pipeline.partition.ideals.table import Table, WordArray, grow, new_table, prepare
from onnx_pipeline.partition.instance.hypergraph import Hypergraph, hypergraph, place_free_sources
from onnx_pipeline.partition.instance.instance import Instance
from onnx_pipeline.stop import Stop

#: Decisions per kernel call: 5 to 50 ms, so that time limit and Ctrl-C are honoured.
CHUNK = 20_000
#: Bytes for visited ideals; a question that needs more ends without an answer.
MEMORY_BUDGET = 1 << 30


@dataclass(frozen=True)
class Answer:
    """What one question gave: a partition, a proof that there is none, or neither."""

    stage_of: IntArray | None = None
    proved_none: bool = False


class IdealSearch:
    """Exact questions about one instance, from one end.

    Parameters
    ----------
    inst : Instance
    k : int
        Number of stages.
    reverse : bool
        Start from the sinks.

    Attributes
    ----------
    spent : int
        Decisions that the last question took.
    """

    spent = 0

    def __init__(self, inst: Instance, k: int, *, reverse: bool = False) -> None:
        self.inst = inst
        self.k = k
        self.reverse = reverse
        self.hyper: Hypergraph
        self.hyper, self.index = hypergraph(inst, reverse=reverse)
        self.pinned = bool((self.hyper.pin >= 0).any())
        if reverse and self.pinned:
            pin = np.where(self.hyper.pin >= 0, k - 1 - self.hyper.pin, -1)
            self.hyper = self.hyper._replace(pin=pin)
        self.static = prepare(self.hyper)
        self.capacity_limit = MEMORY_BUDGET // (8 * self.static.words + 40)

    def into(self, k: int) -> IdealSearch:
        """Return the same for another number of stages."""
        if self.pinned:
            return IdealSearch(self.inst, k, reverse=self.reverse)
        other = copy(self)
        other.k = k
        return other

    def ask(self, limit: int, decisions: int, stop: Stop) -> Answer:
        """Search for a partition with every stage cost at most ``limit`` nanoseconds.

        Parameters
        ----------
        limit : int
        decisions : int
            Effort allowed.
        stop : Stop
            Checked about twenty times a second.
        """
        if limit < self.hyper.alpha:
            return Answer(proved_none=True)
        table = new_table(self.static.words, 1024)
        state = new_state(self.hyper, self.static.words)
        at = expand.bottom()
        left, self.spent = decisions, 0
        while left > 0 and not stop():
            allowed = min(CHUNK, left)
            status = expand.climb(self.hyper, self.static, table, state, self.k, limit, allowed, at)
            taken = allowed - int(at[expand.BUDGET_LEFT])
            left -= taken
            self.spent += taken
            count = int(at[expand.COUNT])
            if status == expand.FOUND:
                return Answer(self._stages(table, count - 1))
            if status == expand.DONE:
                return Answer(proved_none=True)
            if status == expand.GROW:
                if 2 * len(table.keys) > self.capacity_limit:
                    return Answer()
                table = grow(table, count)
        return Answer()

    def _stages(self, table: Table, at: int) -> IntArray:
        """Follow the parents from V back to the empty ideal."""
        chain = []
        while at > 0:
            chain.append((table.ideals[at], int(table.level[at])))
            at = int(table.parent[at])
        return self.stages_of_chain(chain[::-1])

    def stages_of_chain(self, chain: Sequence[tuple[WordArray, int]]) -> IntArray:
        """Stages of the instance's nodes from ideals, V last, and the stage that led to each."""
        n = len(self.hyper.work)
        stage = np.full(n, -1, dtype=np.int64)
        for ideal, level in chain:
            inside = np.unpackbits(np.ascontiguousarray(ideal).view(np.uint8), bitorder="little")[:n]
            stage[(inside == 1) & (stage < 0)] = level
        if self.reverse:
            stage = self.k - 1 - stage
        return place_free_sources(self.inst, self.index, stage)


def both_ways(inst: Instance, k: int) -> list[IdealSearch]:
    """Return the searches from the sources and from the sinks."""
    return [IdealSearch(inst, k, reverse=reverse) for reverse in (False, True)]
