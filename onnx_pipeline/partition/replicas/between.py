"""Exact questions about graphs of few ideals: dynamic programs over the stages between two of them.

What a stage costs follows from numbers kept with the ideals before and after it. For a net t of n(t) members,
a of them in I and b in J, the stage S = J \\ I pays c(t) if b > a, unless a = 0, b = n(t) and the host has no
part in it. So

    cost(S) = shut(J) - open(I) + sum over nets t that are live at I of c(t) ([b = n(t)] - [b = a])
    shut(J) = alpha + work(J) + c(nets with b > 0) - c(nets of J alone, the host's left out)
    open(I) = work(I) + c(nets of the host with a = n(t))

where live means 0 < a < n(t) and nets of the host never take the first of the two terms; parameters add up
in the same way. Few nets are live at an ideal, so a pair costs a few additions.

Prices are what :mod:`onnx_pipeline.partition.replicas.ideals` counts: activations as the largest need of a
node, pins not at all. Answers are as exact as there: "none" is proved, what is found is for the objective to
price.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from onnx_pipeline.graph.costgraph import IntArray
from onnx_pipeline.graph.target import INFEASIBLE
from onnx_pipeline.partition.instance.hypergraph import Hypergraph, hypergraph, place_free_sources
from onnx_pipeline.partition.instance.instance import Instance
from onnx_pipeline.partition.jit import inner, kernel
from onnx_pipeline.partition.replicas.ideals import ReplicaAnswer
from onnx_pipeline.partition.replicas.lattice import Lattice, holds, list_ideals
from onnx_pipeline.partition.replicas.slicing import devices_for
from onnx_pipeline.partition.search.tapes import overflow
from onnx_pipeline.stop import Stop


class Stages(NamedTuple):
    """Prices of all stages that are possible: CSR by the ideal before a stage."""

    start: IntArray  # [count + 1]
    to: npt.NDArray[np.int32]  # ideal after the stage
    cost: IntArray


@inner
def _above(lattice, i, j, reach):  # type: ignore[no-untyped-def]
    """Return a maximal node of J outside I and where J without it is, if a stage reaches that; else -1."""
    for a in range(lattice.below_ptr[j], lattice.below_ptr[j + 1]):
        v = lattice.below_node[a]
        if not holds(lattice.words[i], v):
            b = lattice.below[a]
            return (v, b) if b >= i and reach[b] else (np.int64(-1), b)
    return np.int64(-1), np.int64(-1)


@inner
def _live(count, size):  # type: ignore[no-untyped-def]
    """List what is begun and not finished at an ideal."""
    found = np.empty(count.shape[0], np.int64)
    lives = 0
    for t in range(count.shape[0]):
        if 0 < count[t] < size[t]:
            found[lives] = t
            lives += 1
    return found[:lives]


@kernel
def _price(h, lattice, stages, first):  # type: ignore[no-untyped-def]
    """Price the stages from ideal ``first`` on; return the ideal to go on from once there is more room."""
    count = lattice.shut.shape[0]
    sizes, reach, need = h.net_ptr[1:] - h.net_ptr[:-1], np.empty(count, np.bool_), np.empty(count, np.int64)
    for i in range(first, count):
        at = stages.start[i]
        if at + count - i > stages.to.shape[0]:
            return i
        nets, groups = _live(lattice.inside[i], sizes), _live(lattice.users[i], h.group_users)
        reach[i:] = False
        reach[i], need[i] = True, 0
        for j in range(i + 1, count):
            v, b = _above(lattice, i, j, reach)
            if v < 0:
                continue
            cost = lattice.shut[j] - lattice.open[i]
            for t in nets:
                if lattice.inside[j, t] == lattice.inside[i, t]:
                    cost -= h.cost[t]
                elif not h.always[t] and lattice.inside[j, t] == sizes[t]:
                    cost += h.cost[t]
            held = lattice.touched[j] - lattice.finished[i]
            for g in groups:
                if lattice.users[j, g] == lattice.users[i, g]:
                    held -= h.group_bytes[g]
            need[j] = max(need[b], h.need[v])
            cost += overflow(h, held + need[j])
            if cost < INFEASIBLE:  # else no larger stage fits either
                reach[j] = True
                stages.to[at], stages.cost[at] = j, cost
                at += 1
        stages.start[i + 1] = at
    return count


@kernel
def _fewest(h, lattice, stages, capacity, used, parent):  # type: ignore[no-untyped-def]
    """Fill ``used``, the fewest devices for the stages up to each ideal, and the ideal before the last stage.

    Ideals after which the devices left have too little time are not gone on from.
    """
    count, most = used.shape[0], capacity.shape[0] - 1
    peak = np.zeros(count)
    for i in range(count - 1):
        left = most - used[i]
        if left <= 0:
            continue
        rest, excess = lattice.rest[i], lattice.needed[i] - left * h.memory
        if excess > 0 and h.ns_per_byte < 0:
            continue
        if excess > 0:  # each stage rounds its overflow down on its own
            rest += max(0, np.int64(excess * h.ns_per_byte) - left)
        if rest > capacity[left]:
            continue
        for a in range(stages.start[i], stages.start[i + 1]):
            j = stages.to[a]
            if used[i] < used[j]:
                taken = devices_for(capacity, stages.cost[a])
                total = used[i] + taken
                if total <= used[j] and total <= most:
                    value = max(peak[i], stages.cost[a] / taken)
                    if total < used[j] or value < peak[j]:
                        used[j], parent[j], peak[j] = total, i, value


@kernel
def _narrow(stages, limit, before, worst, parent):  # type: ignore[no-untyped-def]
    """Add a stage: lower ``worst``, the least bottleneck up to each ideal, where it falls below a limit."""
    for i in range(worst.shape[0] - 1):
        if before[i] >= limit:
            continue
        for a in range(stages.start[i], stages.start[i + 1]):
            j = stages.to[a]
            value = max(before[i], stages.cost[a])
            if value < worst[j] and value < limit:
                worst[j], parent[j] = value, i


class LatticeSearch:
    """Exact questions about an instance of few ideals.

    Parameters
    ----------
    inst : Instance
    hyper : Hypergraph
    index : int64[n of inst]
        Node of the hypergraph for each of the instance.
    lattice : Lattice
    """

    def __init__(self, inst: Instance, hyper: Hypergraph, index: IntArray, lattice: Lattice) -> None:
        self.inst, self.hyper, self.index, self.lattice = inst, hyper, index, lattice
        self.count = at = len(lattice.shut)
        self.stages = Stages(
            np.zeros(at + 1, dtype=np.int64),
            np.zeros(8 * at, dtype=np.int32),
            np.zeros(8 * at, dtype=np.int64),
        )
        at = 0
        while (at := _price(hyper, lattice, self.stages, at)) < self.count:
            start, to, cost = self.stages
            self.stages = Stages(start, np.resize(to, 2 * len(to)), np.resize(cost, 2 * len(cost)))

    @classmethod
    def of(cls, inst: Instance) -> LatticeSearch | None:
        """List the ideals of an instance; None if they are too many."""
        hyper, index = hypergraph(inst)
        lattice = list_ideals(hyper)
        if lattice is None:
            return None
        if inst.ns_per_byte < 0 and math.isfinite(inst.memory) and inst.memory >= 1:
            # So many stages at least hold the parameters that are left.
            stages = -(-lattice.needed // math.floor(inst.memory))
            lattice.rest[:] += inst.alpha * np.maximum(stages - 1, 0)
        return cls(inst, hyper, index, lattice)

    def ask(self, capacity: IntArray, decisions: int, stop: Stop) -> ReplicaAnswer:
        """Answer as :meth:`onnx_pipeline.partition.replicas.ideals.ReplicaSearch.ask` does, but always."""
        used = np.full(self.count, len(capacity), dtype=np.int64)
        parent = np.full(self.count, -1, dtype=np.int64)
        used[0] = 0
        _fewest(self.hyper, self.lattice, self.stages, capacity, used, parent)
        if parent[-1] < 0:
            return ReplicaAnswer(proved_none=True)
        chain = [self.count - 1]
        while chain[-1]:
            chain.append(int(parent[chain[-1]]))
        return ReplicaAnswer(self._stages(chain))

    def bottlenecks(self, most: int) -> Iterator[IntArray | None]:
        """Yield the best partition into at most k stages for k = 1, 2, ..., None where none is possible.

        Ends after ``most`` stages, or when more make no difference.
        """
        worst = np.full(self.count, INFEASIBLE, dtype=np.int64)
        worst[0] = 0
        least = worst.copy()  # with any number of stages: each ideal is done when it is gone on from
        _narrow(self.stages, INFEASIBLE, least, least, np.zeros(self.count, dtype=np.int64))
        parents: list[IntArray] = []
        for _ in range(most):
            before, worst = worst, worst.copy()
            parents.append(np.full(self.count, -1, dtype=np.int64))
            _narrow(self.stages, before[-1], before, worst, parents[-1])
            yield None if worst[-1] >= INFEASIBLE else self._stages(_back(parents))
            if worst[-1] <= least[-1]:
                return

    def _stages(self, chain: list[int]) -> IntArray:
        """Number the stages between ideals, V first."""
        n = len(self.hyper.work)
        stage = np.zeros(n, dtype=np.int64)
        for at, ideal in enumerate(chain[:-1]):  # from V down, so that the smallest ideal counts
            words = np.ascontiguousarray(self.lattice.words[ideal])
            stage[np.unpackbits(words.view(np.uint8), bitorder="little")[:n] == 1] = len(chain) - 2 - at
        return place_free_sources(self.inst, self.index, stage)


def _back(parents: list[IntArray]) -> list[int]:
    """Return the ideals from V back to the empty one; a stage that brought nothing is left out."""
    chain = [len(parents[0]) - 1]
    for parent in reversed(parents):
        if parent[chain[-1]] >= 0:
            chain.append(int(parent[chain[-1]]))
    return chain
