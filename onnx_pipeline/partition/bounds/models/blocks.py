"""Partitions as prefix variables: what the bottleneck, the guess and the exact model have in common.

A chain of k blocks is given by columns z[b][v] = [v is in block b or earlier], non-decreasing in b and
non-increasing along every edge, with z[-1] = 0 and z[k-1] = 1. So [v in block b] = z[b][v] - z[b-1][v], and
fixed entries (windows, pins) are constants. A run of blocks is again a difference of two prefixes: the three
superblocks before / bottleneck stage / after are a chain of three.

A block pays c(t) once when it holds some but not all of a tensor's producer and readers, and, if the host
writes or reads the tensor, as soon as it holds any of them. One indicator per tensor and block says so.

**Parameters.** Let a(g) = floor(bytes(g) / B) and room = ceil(M / B) in nanoseconds. The overflow of a stage
with groups G, floor((bytes(G) - M) / B), is at least sum a(g) - room, which is an integer. So s stages that
share a superblock X overflow by at least (sum of a over the groups used in X) - s * room. With a hard limit,
a and room are bytes and that must not be positive.

References
----------
Archer et al. 2024, section 5 and appendix D.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from onnx_pipeline.graph.costgraph import HOST
from onnx_pipeline.partition.bounds.models.linear import ONE, ZERO, LinearModel, Term
from onnx_pipeline.partition.bounds.windows import Windows, parameters
from onnx_pipeline.partition.instance.instance import Instance

#: Total of all scaled costs: large enough for five digits, small enough for solvers to stay exact and quick.
RESOLUTION = 10_000_000


@dataclass(frozen=True, eq=False)
class ScaledCosts:
    """Costs of an instance in units of ``scale`` nanoseconds, every one rounded down.

    ``limit(T)`` is the most that the rounded costs of a stage of cost <= T, alpha left out, can add up to;
    ``bound(d)`` is the least T for which that is d.
    """

    scale: int
    alpha: int
    work: list[int]
    net: list[int]
    group: list[int]
    room: int
    hard: bool

    def limit(self, nanoseconds: int) -> int:
        """Return T - alpha in units, rounded down; negative if not even an empty stage fits.

        Never more than two superblocks together can cost, so that an unknown T may be enormous.
        """
        most = sum(self.work) + 2 * sum(self.net) + 2 * sum(self.group)
        return min(most, (nanoseconds - self.alpha) // self.scale)

    def bound(self, units: float) -> int:
        """Return the nanoseconds that a bound in units stands for; rounded costs are whole numbers."""
        return self.alpha + math.ceil(units) * self.scale


def scaled(inst: Instance, resolution: int) -> ScaledCosts:
    """Scale down until all costs together are at most about ``resolution``."""
    group, room = parameters(inst)
    hard = inst.ns_per_byte < 0
    total = inst.total_work + int(inst.net_cost.sum()) + (0 if hard else sum(group))
    scale = max(1, -(-total // resolution))
    shrink = max(1, -(-sum(group) // resolution)) if hard else scale
    return ScaledCosts(
        scale,
        inst.alpha if inst.n else 0,
        (inst.work // scale).tolist(),
        (inst.net_cost // scale).tolist(),
        [g // shrink for g in group],
        -(-room // shrink),
        hard,
    )


@dataclass(eq=False)
class BlockModel:
    """A chain of ``count`` blocks under construction.

    Parameters
    ----------
    inst : Instance
    costs : ScaledCosts
    windows : Windows
        First and last block of each node.
    count : int
        Number of blocks.
    least, limit : int
        The bottleneck is in between, in units.
    """

    inst: Instance
    costs: ScaledCosts
    windows: Windows
    count: int
    least: int
    limit: int

    def __post_init__(self) -> None:
        """Make the prefix columns and the column T of the bottleneck."""
        self.model = LinearModel()
        inst = self.inst
        self.users: list[list[int]] = [[] for _ in self.costs.group]
        for v in range(inst.n):
            for g in inst.use_group[inst.use_ptr[v] : inst.use_ptr[v + 1]].tolist():
                self.users[g].append(v)
        self._prefixes()
        self.bottleneck = self.model.column(upper=self.limit, lower=self.least)
        self.model.objective = self.bottleneck
        self.model.contradiction |= self.limit < self.least

    def _prefixes(self) -> None:
        model, n = self.model, self.inst.n
        first, last = self.windows.first.tolist(), self.windows.last.tolist()
        model.contradiction |= any(a > b for a, b in zip(first, last, strict=True))
        self.prefix = [[ZERO] * n]
        for b in range(self.count - 1):
            row = [ZERO] * n
            for v in range(n):
                if last[v] <= b:
                    row[v] = ONE
                elif first[v] <= b:
                    row[v] = model.column()
                model.at_most([(1, self.prefix[-1][v]), (-1, row[v])], 0)
            self.prefix.append(row)
        self.prefix.append([ONE] * n)
        heads, tails = self.inst.edges()
        edges = np.unique(np.stack([heads, tails], axis=1), axis=0).tolist()
        for row in self.prefix[1:-1]:
            for u, v in edges:
                model.at_most([(1, row[v]), (-1, row[u])], 0)

    def cost(self, *runs: tuple[int, int], stages: int = 1) -> list[Term]:
        """Terms of what runs of blocks [begin, end) pay, each run as a superblock, on ``stages`` stages."""
        terms: list[Term] = []
        for begin, end in runs:
            terms += self._work(begin, end) + self._transfers(begin, end)
        return terms + self._overflow(runs, stages)

    def _inside(self, begin: int, end: int, v: int) -> list[Term]:
        """[v in blocks begin .. end - 1]."""
        return [(1, self.prefix[end][v]), (-1, self.prefix[begin][v])]

    def _work(self, begin: int, end: int) -> list[Term]:
        return [
            (w * a, c) for v, w in enumerate(self.costs.work) if w for a, c in self._inside(begin, end, v)
        ]

    def _transfers(self, begin: int, end: int) -> list[Term]:
        inst, terms = self.inst, []
        inside = [self._inside(begin, end, v) for v in range(inst.n)]
        outside = [[(-a, c) for a, c in terms] for terms in inside]
        for t, cost in enumerate(self.costs.net):
            if not cost:
                continue
            producer = int(inst.net_prod[t])
            readers = inst.net_cons[inst.net_ptr[t] : inst.net_ptr[t + 1]].tolist()
            if producer == HOST or inst.net_pin[t]:
                paid = [inside[v] for v in readers]
                if producer != HOST:
                    paid.append(inside[producer])
            else:
                # A reader without the producer needs a block before, the producer without a reader one after.
                paid = [inside[v] + outside[producer] for v in readers] if begin > 0 else []
                if end < self.count:
                    paid += [inside[producer] + outside[v] for v in readers]
            terms.append((cost, self.model.largest(paid)))
        return terms

    def _overflow(self, runs: Sequence[tuple[int, int]], stages: int) -> list[Term]:
        """One column for the parameters that do not fit, if some may not."""
        room = stages * self.costs.room
        terms = [
            (size, self.model.largest([self._inside(begin, end, v) for v in users]))
            for begin, end in runs
            for size, users in zip(self.costs.group, self.users, strict=True)
            if size
        ]
        most = sum(size for size, column in terms if column != ZERO) - room
        if most <= 0:
            return []
        if self.costs.hard:
            self.model.at_most(terms, room)
            return []
        column = self.model.column(upper=most)
        self.model.at_most([*terms, (-1, column)], room)
        return [(1, column)]

    def at_most(self, terms: list[Term], stages: int = 1) -> None:
        """Require that a cost is at most ``stages`` times the bottleneck."""
        self.model.at_most([*terms, (-stages, self.bottleneck)], 0)
