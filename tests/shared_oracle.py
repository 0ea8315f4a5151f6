"""Brute force for small nets on devices that hold several stages: every map of nodes to devices."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from itertools import count

import numpy as np

from onnx_pipeline.graph.costgraph import CostGraph
from onnx_pipeline.graph.fleet import FleetTarget, Kind, price_devices
from onnx_pipeline.graph.target import INFEASIBLE
from tests.fleet_oracle import random_fleet
from tests.random_graphs import downsets_of

#: Stages on each device.
Counts = tuple[int, ...]


def random_shared(
    rng: np.random.Generator, max_nodes: int = 6, *, most: int = 3
) -> tuple[CostGraph, FleetTarget]:
    """Make a graph and a fleet whose devices hold two, three or any number of stages.

    In every second one transfers are cheap and each kind lacks many nodes, so that stages alternate.
    """
    graph, fleet = random_fleet(rng, max_nodes, free=True, most=most)
    limit = None if rng.random() < 0.6 else int(rng.integers(2, 4))
    if rng.random() < 0.5:
        kinds = tuple(
            Kind(each.name, replace(each.target, bandwidth=1e9 * float(rng.choice([4, 16, math.inf]))))
            for each in fleet.kinds
        )
        fleet = replace(fleet, kinds=kinds)
        one = rng.integers(0, len(kinds), graph.num_nodes)  # a kind that can run each node
        lacking = [(one != k) & (rng.random(graph.num_nodes) < 0.6) for k in range(len(kinds))]
        graph = replace(
            graph,
            work_on={
                kind.name: np.where(lack, INFEASIBLE, rng.integers(0, 100, graph.num_nodes))
                for kind, lack in zip(kinds, lacking, strict=True)
            },
        )
    return graph, replace(fleet, stages_per_device=limit)


def best_shared(graph: CostGraph, fleet: FleetTarget) -> int | None:
    """Return the optimum in ticks, None if nothing is feasible.

    What a device pays for its nodes comes from the objective, with everything else on another device; how
    often stages have to be opened, from :func:`stage_counts`.
    """
    n, most = graph.num_nodes, len(fleet.devices)
    downsets = downsets_of(graph)
    alpha = [fleet.kind_of(d).target.overhead_ticks(graph.ticks_per_second) for d in range(most)]
    limit = n if fleet.stages_per_device is None else fleet.stages_per_device
    price: dict[tuple[int, int], int] = {}

    def cost(s: int, device: int) -> int:
        key = s, fleet.devices[device]
        if key not in price:
            alone = FleetTarget((fleet.kind_of(device),), (0, 0), free=True)
            price[key] = price_devices(graph, alone, [s >> v & 1 for v in range(n)], [0, 1])[1].total
        return price[key] if s else 0

    optimum = INFEASIBLE
    for blocks in _maps(graph, fleet):
        loads = [cost(s, d) for d, s in enumerate(blocks)]
        if max(loads) >= optimum:
            continue
        for counts in stage_counts(downsets, blocks):
            if max(counts) <= limit:
                further = [a * max(0, c - 1) for a, c in zip(alpha, counts, strict=True)]
                optimum = min(optimum, max(map(sum, zip(loads, further, strict=True))))
    return optimum if optimum < INFEASIBLE else None


def stage_counts(downsets: list[int], blocks: tuple[int, ...]) -> set[Counts]:
    """Return the numbers of stages per device with which some order of stages does everything.

    From a downset, a stage on a device takes all of its nodes that can run: who has more behind them needs
    no more stages.
    """
    everything = sum(blocks)
    reached: dict[int, set[Counts]] = {0: {(0,) * len(blocks)}}
    for done in sorted(downsets, key=int.bit_count):
        for device, block in enumerate(blocks):
            after = done
            for j in downsets:
                if done & ~j == 0 and j & ~done & ~block == 0:
                    after |= j
            if after != done:
                longer = {_one_more(counts, device) for counts in reached.get(done, ())}
                reached[after] = reached.get(after, set()) | longer
    return reached.get(everything, set())


def _one_more(counts: Counts, device: int) -> Counts:
    return *counts[:device], counts[device] + 1, *counts[device + 1 :]


def _maps(graph: CostGraph, fleet: FleetTarget) -> Iterator[tuple[int, ...]]:
    """Yield the nodes of every device, as bits; groups stay together, equal devices are taken in order."""
    fresh = count(3)
    colours = [c if c >= 0 else -next(fresh) for c in graph.colocation.tolist()]
    groups = [sum(1 << v for v, c in enumerate(colours) if c == colour) for colour in dict.fromkeys(colours)]

    def fill(at: int, blocks: tuple[int, ...]) -> Iterator[tuple[int, ...]]:
        if at == len(groups):
            yield blocks
            return
        opened: set[int] = set()
        for device, kind in enumerate(fleet.devices):
            if blocks[device] or kind not in opened:
                if not blocks[device]:
                    opened.add(kind)
                yield from fill(
                    at + 1, (*blocks[:device], blocks[device] | groups[at], *blocks[device + 1 :])
                )

    yield from fill(0, (0,) * len(fleet.devices))
