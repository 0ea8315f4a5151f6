"""Bounds of fleets, proved again."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace

import numpy as np

from onnx_pipeline.errors import InfeasibleError
from onnx_pipeline.graph.fleet import FleetTarget, Kind
from onnx_pipeline.graph.target import INFEASIBLE
from onnx_pipeline.partition.fleets.certificate import recheck
from onnx_pipeline.partition.fleets.demand import demand
from onnx_pipeline.partition.fleets.fluid import evaluate, fluid_bound
from onnx_pipeline.partition.fleets.instance import build_fleet, contract_fleet
from onnx_pipeline.partition.fleets.simple import simple_fleet
from onnx_pipeline.partition.result import Bound
from tests.fleet_oracle import best_placement, random_fleet
from tests.random_graphs import solvable


def test_the_fluid_bound_is_reproduced() -> None:
    """To the tick, from the graph and the weights alone, with one stage per device or several."""
    rng = np.random.default_rng(30)
    for i in range(400):
        graph, fleet = random_fleet(rng, 7, free=i % 2 == 0)
        fleet = replace(fleet, stages_per_device=1 if i % 3 else None)
        with suppress(InfeasibleError):
            fluid = fluid_bound(build_fleet(graph, fleet))
            bound = Bound("fluid", fluid.ticks, ticks_per_second=graph.ticks_per_second, detail=fluid.detail)
            assert recheck(graph, fleet, bound) == fluid.ticks


def test_the_bound_of_a_contracted_instance_is_reproduced() -> None:
    """Where the graph as it is gives less, the contracted one counts, but not where devices are shared."""
    rng = np.random.default_rng(33)
    more = 0
    for i in range(300):
        graph, fleet = random_fleet(rng, 7, free=i % 2 == 0)
        with suppress(InfeasibleError):
            full = build_fleet(graph, fleet)
            fluid = fluid_bound(contract_fleet(full))
            bound = Bound("fluid", fluid.ticks, ticks_per_second=graph.ticks_per_second, detail=fluid.detail)
            assert recheck(graph, fleet, bound) == fluid.ticks
            more += fluid.ticks > evaluate(demand(full), fluid.weights, fluid.memory)
            shared = replace(fleet, stages_per_device=2)
            plain = evaluate(demand(build_fleet(graph, shared)), fluid.weights, fluid.memory)
            assert recheck(graph, shared, bound) == plain
    assert more > 5


def test_any_weights_stay_below_the_optimum() -> None:
    """What a document states in place of weights proves what it proves, or nothing."""
    rng = np.random.default_rng(31)
    proved = 0
    for _ in range(300):
        graph, fleet = random_fleet(rng, 6)
        with suppress(InfeasibleError):
            build_fleet(graph, fleet)
            optimum = best_placement(graph, fleet)
            weights, memory = (rng.integers(-1, 4, len(fleet.kinds)).tolist() for _ in range(2))
            bound = Bound("fluid", 1, detail={"weights": weights, "memory": memory})
            found = recheck(graph, fleet, bound)
            assert found is not None
            assert found <= (INFEASIBLE if optimum is None else optimum)
            proved += found > 0
    assert proved > 30
    for detail in (None, {}, {"weights": [1.5], "memory": [0]}, {"weights": [1], "memory": []}):
        graph, target, k = next(solvable(1, 0))
        fleet = FleetTarget((Kind("k", target),), (0,) * k)
        assert recheck(graph, fleet, Bound("fluid", 1, detail=detail)) == 0


def test_other_bounds_are_searched_for() -> None:
    """The optimum is confirmed, a tick more refuted by a placement; without time there is no verdict."""
    rng = np.random.default_rng(32)
    refuted = 0
    for i in range(60):
        graph, fleet = random_fleet(rng, 6, free=i % 2 == 0)
        with suppress(InfeasibleError):
            full = build_fleet(graph, fleet)
            optimum = best_placement(graph, fleet)
            ticks = INFEASIBLE if optimum is None else optimum
            bound = Bound("ideals", ticks, ticks_per_second=graph.ticks_per_second)
            assert recheck(graph, fleet, bound) == ticks
            assert recheck(graph, fleet, replace(bound, method="simple")) == simple_fleet(full)
            if optimum is not None:
                assert recheck(graph, fleet, replace(bound, ticks=ticks + 1)) == optimum
                refuted += 1
                assert optimum == 0 or recheck(graph, fleet, bound, seconds=0) is None
            assert recheck(graph, replace(fleet, stages_per_device=2), bound) is None
    assert refuted > 20
