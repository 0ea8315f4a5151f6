"""Every partition of a small graph, priced by the objective itself.

Where activations need memory, the ideal search counts less than peak(S), and where no stage may stay empty
its dominance rules do not hold. A graph with few ideals needs neither: the cost of every set between two
ideals is taken from the objective, and a dynamic program over the ideals divides the graph into k such sets.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from onnx_pipeline.graph.costgraph import CostGraph, IntArray
from onnx_pipeline.graph.objective import price_stages
from onnx_pipeline.graph.target import INFEASIBLE, Target
from onnx_pipeline.partition.instance.instance import Instance
from onnx_pipeline.stop import Stop, never

#: Most nodes, ideals and stages, and most work on prices: sets times nodes and tensors of the graph.
NODES, IDEALS, STAGES, PRICES = 62, 1_000, 256, 100_000

Sets = npt.NDArray[np.int64]


class Optimum(NamedTuple):
    """The best bottleneck in ticks, ``INFEASIBLE`` for none within hard limits, and its partition."""

    ticks: int
    stage_of: IntArray


def exhaust(
    graph: CostGraph, target: Target, k: int, inst: Instance, *, exactly: bool = False, stop: Stop = never
) -> Optimum | None:
    """Return the best partition there is, or None if the graph is too large or time is up.

    Parameters
    ----------
    graph : CostGraph
    target : Target
    k : int
    inst : Instance
        The graph's, uncontracted; says which nodes share a stage.
    exactly : bool
        Leave no stage empty.
    stop : Stop
    """
    if k == 1:  # there is one partition, however large the graph
        whole = np.zeros(inst.n, dtype=np.int64)
        return Optimum(
            min(price_stages(graph, target, inst.expand(whole), 1)[0].total, INFEASIBLE), inst.expand(whole)
        )
    ideals = _ideals(inst) if inst.n <= NODES and k <= STAGES else None
    if ideals is None or not inst.n:
        return None
    between = ideals[None, :] & ~ideals[:, None]
    larger = (ideals[:, None] & ~ideals[None, :]) == 0
    sets, where = np.unique(between[larger], return_inverse=True)
    if len(sets) * (graph.num_nodes + graph.num_nets) > PRICES:
        return None
    prices = np.zeros(len(sets), dtype=np.int64)
    for i, each in enumerate(sets.tolist()):
        if stop():
            return None
        if each:
            inside = inst.expand(np.array([each >> v & 1 for v in range(inst.n)]))
            prices[i] = min(price_stages(graph, target, inside, 2)[1].total, INFEASIBLE)
    # Beyond any cost: no stage at all, which a broken limit still is.
    cost = np.full(between.shape, 2 * INFEASIBLE, dtype=np.int64)
    cost[larger] = prices[where]
    if exactly:
        np.fill_diagonal(cost, 2 * INFEASIBLE)
    return _divide(inst, k, between, cost, ideals)


def _ideals(inst: Instance) -> Sets | None:
    """Return all downsets as bits, the empty one first and everything last, or None if they are many."""
    heads, tails = inst.edges()
    needs = [0] * inst.n
    for u, v in zip(heads.tolist(), tails.tolist(), strict=True):
        needs[v] |= 1 << u
    found, fresh = {0}, [0]
    while fresh:
        ideal = fresh.pop()
        for v in range(inst.n):
            larger = ideal | 1 << v
            if larger not in found and not needs[v] & ~ideal:
                found.add(larger)
                fresh.append(larger)
                if len(found) > IDEALS:
                    return None
    return np.array(sorted(found), dtype=np.int64)


def _divide(inst: Instance, k: int, between: Sets, cost: IntArray, ideals: Sets) -> Optimum | None:
    """Choose k sets between the empty ideal and everything, pinned nodes each in its own stage."""
    count = len(ideals)
    best = np.full(count, 2 * INFEASIBLE, dtype=np.int64)
    best[0] = 0
    choices = []
    pins = inst.pin.tolist()
    for stage in range(k):
        elsewhere = sum(1 << v for v, pin in enumerate(pins) if pin not in (-1, stage))
        step = np.where(between & elsewhere, 2 * INFEASIBLE, np.maximum(best[:, None], cost))
        choice = step.argmin(axis=0)
        best = step[choice, np.arange(count)]
        choices.append(choice)
    if best[-1] > INFEASIBLE:
        return None
    stage_of = np.zeros(inst.n, dtype=np.int64)
    at = count - 1
    for stage in range(k - 1, -1, -1):
        before = int(choices[stage][at])
        inside = int(between[before, at])
        stage_of[[v for v in range(inst.n) if inside >> v & 1]] = stage
        at = before
    return Optimum(int(best[-1]), inst.expand(stage_of))
