"""The fluid bound: what kinds of device do together, weighed.

Let L_k(v) and h(v) be the load and the bytes that a node asks for on kind k (:mod:`.demand`), n_k devices of
kind k have memory M_k each, and r_k ticks per byte of overflow. For any integers y_k >= 0 and q_k >= 0, with
q_k <= y_k r_k where memory overflows and q_k = 0 where it is unlimited, every placement of bottleneck T has

    sum over v of min over k of (y_k L_k(v) + q_k h(v))
        <= sum over k of n_k (y_k max(0, T - alpha_k) + q_k M_k + y_k [q_k > 0, memory overflows])

The least T that keeps this is a lower bound, with one stage per device or several, in any order.

*Proof.* A device d of kind k that is used has sum of L_k(v) <= T - alpha_k - overflow, and one that is not
used has no nodes. For the sum H of h(v) on it, y_k overflow >= q_k (H - M_k) - y_k, one tick being what
rounding takes; under a hard limit H <= M_k. So the sum of y_k L_k(v) + q_k h(v) over its nodes is at most
y_k max(0, T - alpha_k) + q_k M_k + y_k. Add this up over the devices: every node is on one of them, of a kind
that can run it, and counts there with no less than its minimum.

Weights from :mod:`.weights` make the bound that of the fractional placement, up to their rounding.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction
from typing import NamedTuple

from onnx_pipeline.graph.target import INFEASIBLE
from onnx_pipeline.partition.fleets.demand import Demand, demand
from onnx_pipeline.partition.fleets.instance import FleetInstance
from onnx_pipeline.partition.fleets.weights import FloatArray, fluid_weights

#: The largest weight of a tick.
SCALE = 10**6
#: What products of floats may be short of, relatively.
SHORT = Fraction(1, 1 << 50)


class Fluid(NamedTuple):
    """A bound and the weights that prove it.

    Attributes
    ----------
    ticks : int
        ``INFEASIBLE`` if there is no placement at all.
    weights : tuple of int
        Worth of a tick on each kind.
    memory : tuple of int
        Worth of a byte on each kind.
    """

    ticks: int
    weights: tuple[int, ...]
    memory: tuple[int, ...]

    @property
    def detail(self) -> dict[str, list[int]]:
        """What a certificate states, so that the bound can be checked."""
        return {"weights": list(self.weights), "memory": list(self.memory)}


def fluid_bound(inst: FleetInstance) -> Fluid:
    """Return a lower bound on the load of the busiest device in every placement, with its proof.

    It serves fleets with one stage per device and with several. :mod:`.certificate` reproduces it for an
    instance that is not contracted; a contracted one hardly gives more.
    """
    asked = demand(inst)
    none = (0,) * len(inst.kinds)
    best = Fluid(max(0, _runs(asked)), none, none)
    tried: set[tuple[tuple[int, ...], tuple[int, ...]]] = set()
    for overheads in (True, False):
        ticks, octets = fluid_weights(asked, asked.devices, overheads=overheads)
        for weights in (_whole(asked, ticks, octets), _whole(asked, 0 * ticks, octets)):
            if weights not in tried:
                tried.add(weights)
                best = max(best, Fluid(evaluate(asked, *weights), *weights), key=lambda each: each.ticks)
    return best


def evaluate(asked: Demand, weights: Sequence[int], memory: Sequence[int]) -> int:
    """Return the least T that the weights allow, in exact integers; ``INFEASIBLE`` for none.

    Raises
    ------
    ValueError
        If the weights prove nothing.
    """
    for y, q, room, rate in zip(weights, memory, asked.memory, asked.rate, strict=True):
        most = 0 if room == math.inf else y * _rate(rate) if rate >= 0 else math.inf
        if y < 0 or not 0 <= q <= most:
            raise ValueError(f"weights {weights} and {memory} prove nothing")
    kinds = [kind for kind, devices in enumerate(asked.devices) if devices]
    held, loads = asked.held.tolist(), [asked.load[kind].tolist() for kind in kinds]
    needed = 0
    for v, size in enumerate(held):
        prices = [
            weights[kind] * load[v] + memory[kind] * size
            for kind, load in zip(kinds, loads, strict=True)
            if load[v] < INFEASIBLE
        ]
        if not prices:
            return INFEASIBLE
        needed += min(prices)
    for kind in kinds:
        if memory[kind]:
            rounding = weights[kind] if asked.rate[kind] >= 0 else 0
            needed -= asked.devices[kind] * (memory[kind] * math.ceil(asked.memory[kind]) + rounding)
    return _least(asked, weights, needed)


def _least(asked: Demand, weights: Sequence[int], needed: int) -> int:
    """Return the least T with sum of n y max(0, T - alpha) >= needed."""
    if needed <= 0:
        return 0
    steepness = begin = 0
    offers = sorted(zip(asked.alpha, asked.devices, weights, strict=True))
    for at, (alpha, devices, weight) in enumerate(offers):
        steepness += devices * weight
        begin += devices * weight * alpha
        if steepness:
            ticks = -(-(needed + begin) // steepness)
            if at + 1 == len(offers) or ticks <= offers[at + 1][0]:
                return min(ticks, INFEASIBLE)
    return INFEASIBLE


def _runs(asked: Demand) -> int:
    """Return what the weights 0 prove: whether every node can run at all."""
    none = [0] * len(asked.devices)
    return evaluate(asked, none, none)


def _rate(rate: float) -> Fraction:
    """Return a rate that the objective charges at least, whatever it rounds."""
    return Fraction(rate) * (1 - SHORT)


def _whole(asked: Demand, ticks: FloatArray, octets: FloatArray) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Round weights to integers that prove something."""
    largest = max(ticks.max(initial=0.0), octets.max(initial=0.0))
    scale = SCALE / largest if largest > 0 else 0.0
    weights = tuple(round(y * scale) for y in ticks.tolist())
    memory = []
    for kind, q in enumerate(octets.tolist()):
        rate = asked.rate[kind]
        most = math.floor(weights[kind] * _rate(rate)) if rate >= 0 else SCALE
        memory.append(min(math.floor(q * scale), most) if asked.memory[kind] < math.inf else 0)
    return weights, tuple(memory)
