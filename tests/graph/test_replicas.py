"""The objective with replicas: periods by hand, devices by brute force, limits without rounding."""

from __future__ import annotations

import itertools
from fractions import Fraction

import numpy as np
import pytest

from onnx_pipeline.errors import UsageError
from onnx_pipeline.graph.builder import GraphBuilder
from onnx_pipeline.graph.replicas import allot, capacities, price_replicas
from onnx_pipeline.graph.target import Target
from onnx_pipeline.graph.ticks import NS


def test_a_stage_on_r_devices_has_its_cost_over_r() -> None:
    """Three nodes of 30, 10 and 5 ns, 4 ns to pass each of two tensors."""
    builder = GraphBuilder("three", ticks_per_second=NS)
    for name, work in (("a", 30), ("b", 10), ("c", 5)):
        builder.add_node(name, work)
    builder.add_net("t", 0, [1], nbytes=4)
    builder.add_net("u", 1, [2], nbytes=4)
    graph, target = builder.build(), Target(bandwidth=1e9)
    assert price_replicas(graph, target, [0, 1, 2], [3, 1, 1]) == (Fraction(18), 34 + 18 + 9)
    assert price_replicas(graph, target, [0, 1, 1], [3, 2]) == (Fraction(34, 3), 34 + 19)
    assert price_replicas(graph, target, [0, 2, 2], [3, 0, 2]).period == Fraction(34, 3)
    with pytest.raises(UsageError, match="stage 1 has nodes, but no device"):
        price_replicas(graph, target, [0, 1, 1], [3, 0])


def test_devices_go_where_they_help_most() -> None:
    """The least period over all divisions, with no device that could be left out."""
    rng = np.random.default_rng(0)
    for _ in range(300):
        stages = int(rng.integers(1, 5))
        devices = int(rng.integers(stages, 9))
        costs = rng.integers(0, 40, stages).tolist()
        replicas = allot(costs, devices)
        divisions = [
            each for each in itertools.product(range(1, devices + 1), repeat=stages) if sum(each) <= devices
        ]

        def period(division: tuple[int, ...] | list[int], costs: list[int] = costs) -> Fraction:
            return max(Fraction(cost, r) for cost, r in zip(costs, division, strict=True))

        best = min(period(each) for each in divisions)
        assert period(replicas) == best
        assert sum(replicas) == min(sum(each) for each in divisions if period(each) == best)
    with pytest.raises(UsageError, match="2 stages"):
        allot([1, 2], 1)


def test_capacities_are_the_largest_costs_below_a_period() -> None:
    """Of r devices and any fraction; a period itself is never reached."""
    for p, q in itertools.product(range(1, 30), range(1, 7)):
        limit = Fraction(p, q)
        for r, cost in enumerate(capacities(limit, 6).tolist()):
            if r:
                assert Fraction(cost, r) < limit <= Fraction(cost + 1, r)
    assert capacities(None, 2)[1] == capacities(None, 2)[2] > 1 << 59
