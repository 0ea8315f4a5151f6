"""Certificates of periods, checked and proved again by code that did not make them."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest

from onnx_pipeline.errors import InfeasibleError
from onnx_pipeline.graph.objective import countable
from onnx_pipeline.graph.ticks import NS
from onnx_pipeline.partition.replicas.certificate import check, recheck
from onnx_pipeline.partition.result import Partition
from onnx_pipeline.replication import ReplicaPlan, replicate
from tests.random_graphs import random_graph, random_target
from tests.replica_oracle import brute_force_period


def proved(plan: ReplicaPlan, lower: Fraction, seconds: float = 5.0) -> list[str]:
    """What another proof of a bound comes to."""
    return recheck(plan.partition, plan.devices, lower, seconds)


def test_bounds_are_proved_again_up_to_the_optimum_and_not_beyond() -> None:
    """Random nets against brute force: hosts, memory, pins; a tick above the optimum is refused."""
    rng = np.random.default_rng(11)
    refused = 0
    for number in range(60):
        devices = int(rng.integers(2, 6))
        graph = random_graph(rng, 5, pins=devices if number % 3 == 0 else 0, ticks_per_second=NS)
        target = random_target(rng, activations=number % 2 == 1)
        optimum = brute_force_period(graph, target, devices)
        try:
            plan = replicate(graph, devices, target, time_limit=1.0)
        except InfeasibleError:
            continue
        assert optimum is not None
        bounds = [(plan.bound_method, plan.lower_ticks)]
        assert check(plan.partition, plan.replicas, devices, bounds) == []
        scale = plan.graph.ticks_per_second // graph.ticks_per_second
        if plan.lower_ticks:
            assert proved(plan, plan.lower_ticks) == []
        refused += bool(proved(plan, optimum * scale + Fraction(1, 64)))
        assert proved(plan, optimum * scale + Fraction(1, 64))
    assert refused > 30


def test_what_contradicts_itself_is_told() -> None:
    """Devices, replicas and bounds; the plan of a chain of 30 and 10 ms on four devices."""
    from onnx_pipeline import GraphBuilder, Target

    builder = GraphBuilder("two", ticks_per_second=NS)
    for i, work in enumerate((30_000_000, 10_000_000)):
        builder.add_node(f"v{i}", work)
        builder.add_group(f"w{i}", 10, [i])
    target = Target(memory=10, memory_mode="hard")
    graph = countable(builder.build(), target, 4)
    own = Partition(graph, target, 2, np.array([0, 1]))
    tick = graph.ticks_per_second
    good = [("ideals", Fraction(tick, 100))]
    assert check(own, (3, 1), 4, good) == []
    assert check(own, (3, 1), 3, good) == ["the stages take 4 devices, there are 3"]
    assert check(own, (2, 2), 4, good) == [
        "stage 0 has 2 devices, where the plan's period takes 3",
        "stage 1 has 2 devices, where the plan's period takes 1",
    ]
    assert check(own, (3, 1), 4, [("min-cut", Fraction(0))]) == ["there is no bound 'min-cut' of a period"]
    high = check(own, (3, 1), 4, [("ideals", Fraction(tick, 50))])
    assert high == ["bound 'ideals' is 0.02 s, above the period: 0.01 s"]
    assert check(own, (3, 1), 4, [("simple", Fraction(tick, 100))]) == []
    assert proved_above(own) == ["stages with replicas below the bound of 0.02 s exist"]


def proved_above(own: Partition) -> list[str]:
    """What becomes of a bound of twice the period."""
    return recheck(own, 4, Fraction(own.graph.ticks_per_second, 50), 5.0)


def test_time_that_does_not_suffice_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    """A proof that does not end proves nothing."""
    rng = np.random.default_rng(3)
    graph = random_graph(rng, 6, ticks_per_second=NS)
    own = Partition(graph, random_target(rng), 1, np.zeros(6, dtype=np.int64))
    assert "could not be proved again in 1e-09 s" in recheck(own, 2, Fraction(1), 1e-9)[0]
