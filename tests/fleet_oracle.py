"""Random fleets for small graphs, and the brute-force optimum as oracle: one stage per device."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from onnx_pipeline.graph.costgraph import CostGraph
from onnx_pipeline.graph.fleet import FleetTarget, Kind, price_devices
from onnx_pipeline.graph.target import INFEASIBLE
from tests.random_graphs import downsets_of, random_graph, random_target


def random_fleet(
    rng: np.random.Generator, max_nodes: int = 7, *, free: bool = False, most: int = 4
) -> tuple[CostGraph, FleetTarget]:
    """Make a graph and a fleet: up to three kinds, unsupported nodes, pins, colocation, hard memory.

    With a free order no node is pinned to a device: what a pin names is then decided by the search.
    """
    devices = int(rng.integers(1, most + 1))
    graph = random_graph(rng, max_nodes, pins=0 if free or rng.random() < 0.6 else devices)
    kinds: list[Kind] = []
    works = {}
    host_io = bool(rng.random() < 0.7)
    same = random_target(rng)
    for number in range(int(rng.integers(1, 4))):
        name = f"kind{number}"
        target = same if rng.random() < 0.5 else random_target(rng)
        kinds.append(Kind(name, replace(target, host_io=host_io)))
        if rng.random() < 0.8:
            scaled = (graph.work * float(rng.choice([0.25, 0.5, 1.0, 3.0]))).astype(np.int64)
            other = rng.integers(0, 100, graph.num_nodes)
            work = np.where(rng.random(graph.num_nodes) < 0.2, other, scaled)
            lacking = rng.random(graph.num_nodes) < float(rng.choice([0.0, 0.1, 0.4]))
            works[name] = np.where(lacking, INFEASIBLE, work)
    line = tuple(int(kind) for kind in rng.integers(0, len(kinds), devices))
    return replace(graph, work_on=works or None), FleetTarget(tuple(kinds), line, free)


def best_placement(graph: CostGraph, fleet: FleetTarget) -> int | None:
    """Return the optimum with one stage per device in ticks, None if nothing is feasible.

    Dynamic programming over (downset, devices taken). What a device pays for a set comes from the objective,
    with the set on a device of that kind and everything else on another.
    """
    n, line = graph.num_nodes, fleet.devices
    downsets = downsets_of(graph)
    cost: dict[tuple[int, int], int] = {}

    def price(s: int, kind: int) -> int:
        if (s, kind) not in cost:
            alone = FleetTarget((fleet.kinds[kind],), (0, 0), free=True)
            free = replace(graph, pinned=np.full_like(graph.pinned, -1))
            inside = [s >> v & 1 for v in range(n)]
            cost[s, kind] = price_devices(free, alone, inside, [0, 1])[1].total if s else 0
        return cost[s, kind]

    def allowed(s: int, device: int) -> bool:
        return all(graph.pinned[v] in (-1, device) for v in range(n) if s >> v & 1)

    everything = (1 << n) - 1
    best: dict[tuple[int, frozenset[int]], int] = {(0, frozenset()): 0}
    optimum = INFEASIBLE
    while best:
        step: dict[tuple[int, frozenset[int]], int] = {}
        for (i, taken), value in best.items():
            if i == everything:
                optimum = min(optimum, value)
            first = 0 if fleet.free else max(taken, default=-1) + 1
            for device in {*range(first, len(line))} - taken:
                for j in downsets:
                    if i & ~j or i == j or not allowed(j & ~i, device):
                        continue
                    worst = max(value, price(j & ~i, line[device]))
                    key = (j, taken | {device})
                    if worst < min(step.get(key, INFEASIBLE), optimum):
                        step[key] = worst
        best = step
    return optimum if optimum < INFEASIBLE else None
