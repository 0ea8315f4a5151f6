"""Exact questions about fleets against brute force."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace

import numpy as np
import pytest

from onnx_pipeline.errors import InfeasibleError
from onnx_pipeline.graph.builder import GraphBuilder
from onnx_pipeline.graph.costgraph import CostGraph
from onnx_pipeline.graph.fleet import FleetTarget, Kind, device_loads
from onnx_pipeline.graph.target import INFEASIBLE, Target
from onnx_pipeline.graph.ticks import NS
from onnx_pipeline.partition.fleets import ideals
from onnx_pipeline.partition.fleets.ideals import FleetSearch
from onnx_pipeline.partition.fleets.instance import build_fleet, contract_fleet
from onnx_pipeline.partition.ideals.question import IdealSearch
from onnx_pipeline.stop import never
from tests.fleet_oracle import best_placement, random_fleet
from tests.random_graphs import solvable


@pytest.mark.parametrize("free", [False, True])
def test_questions_are_exact(monkeypatch: pytest.MonkeyPatch, *, free: bool) -> None:
    """From either end, contracted or not: nothing below the optimum, a placement at the optimum."""
    monkeypatch.setattr(ideals, "CHUNK", 7)  # pauses all the time
    rng = np.random.default_rng(10 + free)
    impossible = 0
    for i in range(300):
        graph, fleet = random_fleet(rng, 7, free=free)
        with suppress(InfeasibleError):
            optimum = best_placement(graph, fleet)
            inst = build_fleet(graph, fleet)
            search = FleetSearch(contract_fleet(inst) if i % 2 else inst, reverse=i % 4 < 2)
            below = INFEASIBLE - 1 if optimum is None else optimum - 1
            assert search.ask(below, 10**6, never).proved_none
            impossible += optimum is None
            if optimum is None:
                continue
            answer = search.ask(optimum, 10**6, never)
            assert answer.stage_of is not None
            stage_of = search.inst.expand(answer.stage_of)
            loads = device_loads(graph, fleet, stage_of, answer.device_of)
            assert max(load.total for load in loads) == optimum
    assert 10 < impossible < 150


def test_equal_devices_are_the_plain_question() -> None:
    """One kind, order fixed or free: the answers, and about the effort, of the search for stages."""
    effort = plain_effort = 0
    for i, (graph, target, k) in enumerate(solvable(150, 20, 8)):
        fleet = FleetTarget((Kind("all", target),), (0,) * k, free=i % 2 == 0 and (graph.pinned < 0).all())
        inst = build_fleet(graph, fleet)
        plain, search = IdealSearch(inst.kinds[0], k), FleetSearch(inst)
        for limit in (0, 40, 100, 250):
            expected, answer = plain.ask(limit, 10**6, never), search.ask(limit, 10**6, never)
            assert answer.proved_none == expected.proved_none
            assert (answer.stage_of is None) == (expected.stage_of is None)
            effort += search.spent
            plain_effort += plain.spent
    assert effort < 1.2 * plain_effort


def test_a_budget_ends_it_without_an_answer() -> None:
    """Neither a placement nor a proof, and no more decisions than allowed."""
    graph, target, k = next(case for case in solvable(100, 21) if case[2] == 4 and case[0].num_nodes > 5)
    fleet = FleetTarget((Kind("all", target),), (0,) * k, free=True)
    search = FleetSearch(build_fleet(graph, fleet))
    answer = search.ask(INFEASIBLE - 1, 1, never)
    assert (answer.stage_of, answer.proved_none, search.spent) == (None, False, 1)
    assert search.ask(INFEASIBLE - 1, 10**6, lambda: True) == (None, (), False)


def chain(works: dict[str, list[int]], edges: list[tuple[int, int]], nbytes: int) -> CostGraph:
    """Return a graph with the work of every kind, and a tensor for every edge."""
    count = len(next(iter(works.values())))
    builder = GraphBuilder("chain", ticks_per_second=NS)
    nodes = [builder.add_node(f"v{v}", 0) for v in range(count)]
    for u, v in edges:
        builder.add_net(f"t{u}.{v}", nodes[u], [nodes[v]], nbytes=nbytes)
    return replace(builder.build(), work_on={name: np.array(row) for name, row in works.items()})


def test_saturation_asks_every_kind_that_is_left() -> None:
    """A node that could join the first stage for nothing there, and is dear to do without later."""
    works = {"first": [10, 5, INFEASIBLE], "later": [10, 5, 20]}
    graph = chain(works, [(1, 2)], nbytes=100)
    kinds = Kind("first", Target()), Kind("later", Target(bandwidth=1e9))
    answer = FleetSearch(build_fleet(graph, FleetTarget(kinds, (0, 1)))).ask(25, 10**6, never)
    assert answer.stage_of is not None
    assert answer.stage_of[1] == answer.stage_of[2]


def test_an_ideal_counts_with_the_fewest_devices_used() -> None:
    """Reached first by skipping devices, then by using them: what follows needs all that are left."""
    works = {"small": [60, 60, *[INFEASIBLE] * 3], "large": [45, 45, 60, 60, 60]}
    graph = chain(works, [(v, v + 1) for v in range(4)], nbytes=0)
    kinds = Kind("small", Target()), Kind("large", Target())
    answer = FleetSearch(build_fleet(graph, FleetTarget(kinds, (0, 0, 1, 1, 1)))).ask(100, 10**6, never)
    assert answer.device_of == (0, 1, 2, 3, 4)
