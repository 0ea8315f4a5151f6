"""The best period of small graphs by brute force: every chain of stages, every division of the devices."""

from __future__ import annotations

from fractions import Fraction

from onnx_pipeline.graph.costgraph import CostGraph
from onnx_pipeline.graph.objective import price_stages
from onnx_pipeline.graph.target import INFEASIBLE, Target
from tests.random_graphs import downsets_of


def brute_force_period(graph: CostGraph, target: Target, devices: int) -> Fraction | None:
    """Return the least period in ticks with at most so many devices, None if constraints admit no plan.

    Dynamic programming over (downset, number of the next stage, devices taken): each stage is empty, or any
    set on any number of devices. Prices come from the objective of stages alone, in which a set is stage 1.
    """
    n = graph.num_nodes
    downsets = downsets_of(graph)
    cost: dict[int, int] = {}

    def price(s: int) -> int:
        if s not in cost:
            cost[s] = price_stages(graph, target, [s >> v & 1 for v in range(n)], 2)[1].total
        return cost[s]

    def allowed(s: int, stage: int) -> bool:
        return all(graph.pinned[v] in (-1, stage) for v in range(n) if s >> v & 1)

    everything = (1 << n) - 1
    best: dict[tuple[int, int], Fraction] = {(0, 0): Fraction(0)}
    for stage in range(devices):
        step = dict(best)  # the stage stays empty
        for (i, taken), value in best.items():
            for j in downsets:
                if i & ~j or i == j or not allowed(j & ~i, stage) or price(j & ~i) >= INFEASIBLE:
                    continue
                for more in range(1, devices - taken + 1):
                    key, period = (j, taken + more), max(value, Fraction(price(j & ~i), more))
                    if key not in step or period < step[key]:
                        step[key] = period
        best = step
    return min((value for (s, _), value in best.items() if s == everything), default=None)
