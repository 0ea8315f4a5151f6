"""Programs over all ideals of narrow graphs, against the objective and brute force."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest

from onnx_pipeline.graph.objective import price_stages
from onnx_pipeline.graph.replicas import capacities
from onnx_pipeline.graph.target import INFEASIBLE
from onnx_pipeline.partition.instance.build import build
from onnx_pipeline.partition.instance.contract import contract
from onnx_pipeline.partition.replicas import lattice
from onnx_pipeline.partition.replicas.between import LatticeSearch
from onnx_pipeline.partition.replicas.known import Known
from onnx_pipeline.stop import never
from tests.partition.replicas.test_ideals import cases
from tests.random_graphs import brute_force, random_graph, random_target


def searching(graph, target, *, contracted: bool = False) -> LatticeSearch:  # type: ignore[no-untyped-def]
    """Return the search of a small graph."""
    inst = build(graph, target)
    search = LatticeSearch.of(contract(inst) if contracted else inst)
    assert search is not None
    return search


def test_questions_are_exact() -> None:
    """Contracted or not: nothing below the optimum, the optimum just above it."""
    for i, (graph, target, devices, optimum) in enumerate(cases(300, 21)):
        search = searching(graph, target, contracted=i % 2 == 0)
        assert search.ask(capacities(optimum, devices), 0, never).proved_none
        answer = search.ask(capacities(optimum + Fraction(1, 1000), devices), 0, never)
        assert answer.stage_of is not None
        known = Known(graph, target, devices)
        assert known.offer(search.inst.expand(answer.stage_of), "ideals")
        assert known.period == optimum


def test_every_stage_between_two_ideals_is_priced() -> None:
    """As the objective does it, host, shared parameters and both kinds of memory included."""
    rng = np.random.default_rng(22)
    refused = priced = 0
    for _ in range(60):
        graph, target = random_graph(rng, 6), random_target(rng)
        search = searching(graph, target)
        nodes = range(len(search.hyper.work))
        ideals = [{v for v in nodes if int(word) >> v & 1} for word in search.lattice.words[:, 0]]
        cost = {
            (i, int(search.stages.to[a])): int(search.stages.cost[a])
            for i in range(search.count)
            for a in range(search.stages.start[i], search.stages.start[i + 1])
        }
        for i, before in enumerate(ideals):
            for j, after in enumerate(ideals):
                if not before < after or (search.index < 0).any():
                    continue
                stage = np.array([int(v in after - before) for v in search.index])
                price = price_stages(graph, target, search.inst.expand(stage), 2)[1].total
                assert cost.get((i, j), INFEASIBLE) == min(price, INFEASIBLE)
                refused += price >= INFEASIBLE
                priced += price < INFEASIBLE
    assert refused > 20
    assert priced > 1_000


def test_bottlenecks_are_those_of_the_plain_problem() -> None:
    """For every number of stages until more make no difference."""
    rng = np.random.default_rng(23)
    for _ in range(150):
        graph, target = random_graph(rng, 6), random_target(rng)
        search = searching(graph, target, contracted=True)
        found = list(search.bottlenecks(6))
        for k, stage_of in enumerate(found, start=1):
            best = brute_force(graph, target, k)
            if stage_of is None:
                assert best is None
                continue
            stages = search.inst.expand(stage_of)
            assert max(cost.total for cost in price_stages(graph, target, stages, k)) == best
        if 0 < len(found) < 6:
            assert brute_force(graph, target, 6) == brute_force(graph, target, len(found))


def test_graphs_of_many_ideals_are_left_to_others(monkeypatch: pytest.MonkeyPatch) -> None:
    """Their number is what counts, not that of nodes."""
    graph, target, _, _ = next(cases(1, 24))
    count = searching(graph, target).count
    monkeypatch.setattr(lattice, "IDEALS", count)
    assert searching(graph, target).count == count
    monkeypatch.setattr(lattice, "IDEALS", count - 1)
    assert LatticeSearch.of(build(graph, target)) is None
