"""Devices that hold several stages, against brute force."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest

from onnx_pipeline.errors import InfeasibleError, UsageError
from onnx_pipeline.graph.builder import GraphBuilder
from onnx_pipeline.graph.costgraph import CostGraph
from onnx_pipeline.graph.fleet import FleetTarget, Kind, device_loads
from onnx_pipeline.graph.target import INFEASIBLE, Target
from onnx_pipeline.graph.ticks import NS
from onnx_pipeline.parameters import SearchParams
from onnx_pipeline.partition.fleets.instance import build_fleet, contract_fleet
from onnx_pipeline.partition.fleets.known import FleetKnown
from onnx_pipeline.partition.fleets.planning import plan_fleet
from tests.fleet_oracle import best_placement
from tests.shared_oracle import best_shared, random_shared

QUICK = SearchParams(time_limit=0.1)


def cases(count: int, seed: int) -> Iterator[tuple[CostGraph, FleetTarget, int]]:
    """Yield random (graph, fleet, optimum) for which there is a placement."""
    rng = np.random.default_rng(seed)
    while count:
        graph, fleet = random_shared(rng)
        optimum = best_shared(graph, fleet)
        if optimum is not None:
            count -= 1
            yield graph, fleet, optimum


def recurring(layers: int) -> tuple[CostGraph, FleetTarget]:
    """Return a chain in which every second node runs on one kind only, which is slow with the others."""
    builder = GraphBuilder("recurring", ticks_per_second=NS)
    nodes = [builder.add_node(f"v{i}", 100) for i in range(2 * layers)]
    for u, v in pairwise(nodes):
        builder.add_net(f"t{u}", u, [v], nbytes=1)
    fast = np.where(np.arange(2 * layers) % 2, INFEASIBLE, 2)
    slow = np.where(np.arange(2 * layers) % 2, 1, 100)
    graph = replace(builder.build(), work_on={"fast": fast, "slow": slow})
    target = Target(bandwidth=1e9, stage_overhead=2e-9)
    kinds = Kind("slow", target), Kind("fast", target)
    return graph, FleetTarget(kinds, (0, 1, 1), free=True, stages_per_device=None)


def test_placements_against_brute_force() -> None:
    """No bound is above the optimum, no placement below it, and nearly all are optimal."""
    rng = np.random.default_rng(1)
    found = count = 0
    for _ in range(120):
        graph, fleet = random_shared(rng)
        optimum = best_shared(graph, fleet)
        try:
            known = plan_fleet(graph, fleet, QUICK)
        except InfeasibleError:
            assert optimum is None
            continue
        assert optimum is not None
        loads = device_loads(known.graph, fleet, known.stage_of, known.device_of)
        assert max(load.total for load in loads) == known.upper
        assert known.lower <= optimum <= known.upper
        found += known.upper == optimum
        count += 1
    assert found > 0.95 * count > 50


def test_contraction_keeps_the_optimum() -> None:
    """The best placement of the contracted graph is one of the graph, whatever the limit on stages."""
    merged = 0
    for graph, fleet, optimum in cases(200, 2):
        full = build_fleet(graph, fleet)
        small = contract_fleet(full)
        merged += small.n < full.n
        assert best_shared(replace(graph, colocation=small.kinds[0].node_of), fleet) == optimum
    assert merged > 20


def test_several_stages_are_never_worse_than_one() -> None:
    """One stage per device is a placement here, too; sometimes several are better."""
    better = 0
    for graph, fleet, optimum in cases(60, 3):
        one = best_placement(graph, replace(fleet, stages_per_device=1))
        known = plan_fleet(graph, fleet, QUICK)
        assert one is None or known.upper <= one
        better += one is None or optimum < one
    assert better > 2


def test_an_operator_that_recurs() -> None:
    """The slow kind does only what nothing else can, in as many stages as it may have."""
    graph, fleet = recurring(8)
    uppers = []
    for limit in (None, 8, 4, 2, 1):
        limited = replace(fleet, stages_per_device=limit)
        known = plan_fleet(graph, limited, SearchParams(time_limit=0.5))
        stages = np.bincount(known.device_of, minlength=3)
        assert limit is None or stages.max() <= limit
        uppers.append(known.upper)
    assert uppers == sorted(uppers)
    # Eight stages of one node each: work, what comes in, what goes out (not of the last), overhead.
    assert uppers[0] == uppers[1] == 8 * (1 + 1 + 1 + 2) - 1
    assert uppers[-1] > 10 * uppers[0]


def test_colocated_nodes_share_a_stage() -> None:
    """Not only a device: what lies between them is in the stage, too."""
    graph, fleet = recurring(2)
    together = replace(graph, colocation=np.array([-1, 0, -1, 0]))
    known = plan_fleet(together, fleet, QUICK)
    assert known.upper == best_shared(together, fleet)
    assert len({*known.stage_of[1:].tolist()}) == 1
    assert known.device_of[int(known.stage_of[1])] == 0


def test_pins_are_refused() -> None:
    """Where devices hold several stages, their numbers mean nothing."""
    graph, fleet = recurring(2)
    with pytest.raises(UsageError, match="devices may hold several stages"):
        plan_fleet(replace(graph, pinned=np.array([0, -1, -1, -1])), replace(fleet, free=False), QUICK)


def test_same_seed_same_placement() -> None:
    """Two searches that end before the time limit agree."""
    graph, fleet = recurring(6)
    known: list[FleetKnown] = [
        plan_fleet(graph, fleet, SearchParams(time_limit=30.0, gap=0.2, seed=7)) for _ in range(2)
    ]
    assert known[0].device_of == known[1].device_of
    assert known[0].stage_of.tolist() == known[1].stage_of.tolist()
