"""Random small cost graphs with every feature, and the brute-force optimum as oracle."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator

import numpy as np

from onnx_pipeline.errors import InfeasibleError
from onnx_pipeline.graph.builder import GraphBuilder
from onnx_pipeline.graph.costgraph import HOST, CostGraph
from onnx_pipeline.graph.objective import price_stages
from onnx_pipeline.graph.target import INFEASIBLE, Target
from onnx_pipeline.graph.ticks import NS
from onnx_pipeline.partition.instance.build import build
from onnx_pipeline.partition.instance.contract import contract
from onnx_pipeline.partition.instance.instance import Instance


def random_graph(
    rng: np.random.Generator,
    max_nodes: int = 8,
    *,
    colocation: bool = True,
    pins: int = 0,
    ticks_per_second: int | None = NS,
) -> CostGraph:
    """Make a graph with multi-output nodes, host tensors, shared parameters and zero costs.

    With ``pins`` = k, some nodes are pinned to a stage in range(k), consistently with the node order. Times
    are counted in nanoseconds, where sums agree by chance, or in ticks that the builder chooses (None), where
    transfers are rounded.
    """
    n = int(rng.integers(1, max_nodes + 1))
    builder = GraphBuilder("random", ticks_per_second=ticks_per_second)
    heavy = rng.random() < 0.5
    where = sorted(int(x) for x in rng.integers(0, max(pins, 1), n))
    for v in range(n):
        work = 0 if rng.random() < 0.2 else int(rng.integers(1, 100))
        colour = int(rng.integers(0, 3)) if colocation and rng.random() < 0.15 else -1
        pinned = where[v] if pins and rng.random() < 0.25 else -1
        builder.add_node(f"v{v}", work, colocation=colour, pinned=pinned)
    density = rng.uniform(0.1, 0.8)
    for u in range(n):
        for o in range(int(rng.integers(0, 4))):
            consumers = [v for v in range(u + 1, n) if rng.random() < density]
            builder.add_net(
                f"t{u}.{o}",
                u,
                consumers,
                nbytes=0 if rng.random() < 0.1 else int(rng.integers(1, 200 if heavy else 30)),
                to_host=bool(rng.random() < 0.2),
            )
    for i in range(int(rng.integers(0, 3))):
        consumers = [v for v in range(n) if rng.random() < 0.3]
        builder.add_net(f"x{i}", HOST, consumers, nbytes=int(rng.integers(0, 60)))
    for i in range(int(rng.integers(0, 4))):
        users = [v for v in range(n) if rng.random() < 0.3]
        builder.add_group(f"w{i}", int(rng.integers(1, 100)), users)
    return builder.build()


def random_target(rng: np.random.Generator, *, activations: bool = False) -> Target:
    """Make a target: 1 byte costs between 0 and 2 ns, memory finite half of the time.

    Without activations, the objective for which searches are exact.
    """
    return Target(
        bandwidth=math.inf if rng.random() < 0.1 else 1e9 / float(rng.choice([0.5, 1.0, 2.0])),
        memory=float(rng.integers(1, 200)) if rng.random() < 0.5 else math.inf,
        transfer_latency=float(rng.choice([0, 3e-9])),
        stage_overhead=float(rng.choice([0, 7e-9])),
        host_io=bool(rng.random() < 0.7),
        memory_mode="hard" if rng.random() < 0.3 else "overflow",
        activations=activations,
    )


def solvable(
    count: int, seed: int, max_nodes: int = 7, *, ticks_per_second: int | None = NS
) -> Iterator[tuple[CostGraph, Target, int]]:
    """Yield random (graph, target, k) with every feature, where constraints can be met."""
    rng = np.random.default_rng(seed)
    while count:
        k = int(rng.integers(1, 5))
        pins = k if rng.random() < 0.3 else 0
        graph = random_graph(rng, max_nodes, pins=pins, ticks_per_second=ticks_per_second)
        target = random_target(rng)
        if brute_force(graph, target, k) is not None:
            count -= 1
            yield graph, target, k


def contracted(
    count: int, seed: int, max_nodes: int = 6, *, possible: bool = True, ticks_per_second: int | None = NS
) -> Iterator[tuple[CostGraph, Target, int, Instance]]:
    """Yield random (graph, target, k, contracted instance) with every feature."""
    rng = np.random.default_rng(seed)
    while count:
        k = int(rng.integers(1, 5))
        pins = k if rng.random() < 0.4 else 0
        graph = random_graph(rng, max_nodes, pins=pins, ticks_per_second=ticks_per_second)
        target = random_target(rng)
        if possible and brute_force(graph, target, k) is None:
            continue
        # Pins that contradict colocation groups are noticed by build already.
        with contextlib.suppress(InfeasibleError):
            inst = contract(build(graph, target))
            count -= 1
            yield graph, target, k, inst


def downsets_of(graph: CostGraph) -> list[int]:
    """Return every set of nodes, as bits, that contains whatever its nodes need and whole groups only."""
    n = graph.num_nodes
    before = [0] * n
    for t in range(graph.num_nets):
        if graph.net_producer[t] != HOST:
            for v in graph.consumers(t):
                before[v] |= 1 << int(graph.net_producer[t])
    colours: dict[int, int] = {}
    for v in range(n):
        if graph.colocation[v] >= 0:
            colours[int(graph.colocation[v])] = colours.get(int(graph.colocation[v]), 0) | 1 << v
    return [
        s
        for s in range(1 << n)
        if all(before[v] & ~s == 0 for v in range(n) if s >> v & 1)
        and all(mask & s in (0, mask) for mask in colours.values())
    ]


def brute_force(graph: CostGraph, target: Target, stages: int, *, exactly: bool = False) -> int | None:
    """Return the optimal bottleneck over all partitions, or None if constraints admit none.

    Dynamic programming over all downsets: cost(S) does not depend on how the rest is divided, so it is taken
    from the objective with S as one stage and everything else as another.
    """
    n = graph.num_nodes
    downsets = downsets_of(graph)
    cost: dict[int, int] = {0: 0}

    def price(s: int) -> int:
        if s not in cost:
            inside = [s >> v & 1 for v in range(n)]
            cost[s] = price_stages(graph, target, inside, 2)[1].total
        return cost[s]

    def allowed(s: int, stage: int) -> bool:
        return all(graph.pinned[v] in (-1, stage) for v in range(n) if s >> v & 1)

    best = {0: 0}
    for stage in range(stages):
        # One more stage, possibly empty unless every one must be filled.
        step: dict[int, int] = {}
        for i, value in best.items():
            for j in downsets:
                if i & ~j == 0 and not (exactly and i == j) and allowed(j & ~i, stage):
                    worst = max(value, price(j & ~i))
                    if worst < step.get(j, worst + 1):
                        step[j] = worst
        best = step
    optimum = best.get((1 << n) - 1, INFEASIBLE)
    return optimum if optimum < INFEASIBLE else None
