"""Plans with replicas: sound against brute force, never worse than equal replicas, readable."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest

import onnx_pipeline as op
from onnx_pipeline.errors import InfeasibleError, UsageError
from onnx_pipeline.graph.builder import GraphBuilder
from onnx_pipeline.graph.costgraph import CostGraph
from onnx_pipeline.graph.objective import check_partition
from onnx_pipeline.graph.replicas import price_replicas
from onnx_pipeline.graph.ticks import NS
from onnx_pipeline.partition.replicas import lattice, planning
from onnx_pipeline.replication import replicate
from tests.random_graphs import brute_force, random_graph, random_target
from tests.replica_oracle import brute_force_period

MS = 1_000_000


def chain(works: list[int], weights: list[int]) -> CostGraph:
    """Nodes that work so many milliseconds, one after the other, with parameters of so many bytes."""
    builder = GraphBuilder("chain", ticks_per_second=NS)
    for i, (work, weight) in enumerate(zip(works, weights, strict=True)):
        builder.add_node(f"v{i}", work * MS)
        builder.add_group(f"w{i}", weight, [i])
        if i:
            builder.add_net(f"t{i}", i - 1, [i], nbytes=8)
    return builder.build()


HARD = op.Target(memory=10, memory_mode="hard", activations=False)


def test_plans_agree_with_brute_force(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every feature: bounds below the optimum, valid plans above, verdicts true."""
    rng = np.random.default_rng(5)
    proved = 0
    for number in range(250):
        devices = int(rng.integers(1, 7))
        pins = devices if rng.random() < 0.3 else 0
        graph = random_graph(rng, 6, pins=pins, ticks_per_second=None if number % 4 >= 2 else NS)
        target = random_target(rng, activations=number % 2 == 1)
        optimum = brute_force_period(graph, target, devices)
        monkeypatch.setattr(lattice, "IDEALS", 1 if number % 8 >= 4 else 4_000)  # as if they were too many
        try:
            plan = replicate(graph, devices, target, time_limit=1.0)
        except InfeasibleError:
            assert optimum is None
            continue
        assert optimum is not None
        assert plan.lower_ticks <= optimum <= plan.period_ticks
        assert not check_partition(graph, plan.stage_of, plan.stages)
        assert price_replicas(graph, target, plan.stage_of, plan.replicas).period == plan.period_ticks
        assert plan.used <= devices
        if plan.status == "optimal":
            proved += 1
            for k in range(1 + int(graph.pinned.max(initial=0)), devices + 1):
                equal = brute_force(graph, target, k)
                assert equal is None or plan.period_ticks <= Fraction(equal, devices // k)
    assert proved > 200


def test_unlimited_memory_takes_whole_replicas() -> None:
    """They are optimal, proved without a search, and there is nothing to compare with."""
    plan = replicate(chain([3, 1, 1, 3], [10] * 4), 8)
    assert (plan.replicas, plan.status, plan.method, plan.bound_method) == (
        (8,),
        "optimal",
        "whole",
        "simple",
    )
    assert plan.period == pytest.approx(0.001)
    assert plan.latency == pytest.approx(0.008)
    assert plan.whole == plan.equal
    assert plan.whole is not None
    assert plan.whole.period == plan.period


def test_slow_stages_get_more_devices() -> None:
    """Four stages by memory; two replicas of each would be slowed down by the slow ones."""
    plan = replicate(chain([3, 1, 1, 3], [10] * 4), 8, HARD)
    assert plan.replicas == (3, 1, 1, 3)
    assert plan.status == "optimal"
    assert plan.period == pytest.approx(0.001)
    assert plan.whole is None
    assert plan.equal is not None
    assert (plan.equal.stages, plan.equal.replicas) == (4, 2)
    assert plan.equal.period == pytest.approx(0.0015)
    assert repr(plan) == (
        "<ReplicaPlan 'chain': 4 stages on 3 + 1 + 1 + 3 devices, period 1.00 ms (1,000 inferences/s), "
        "latency 8.00 ms, lower bound 1.00 ms, gap 0 %>"
    )
    document = plan.to_json()
    assert document["replicas"] == [3, 1, 1, 3]
    assert document["equal"]["replicas"] == 2


def test_a_table_is_made_in_one_search() -> None:
    """Every row is what a search of its own finds; too few devices are proved impossible."""
    graph = chain([5, 1, 2, 3], [10] * 4)
    table = replicate(graph, range(1, 13), HARD)
    assert table.infeasible == {1, 2, 3}
    assert len(table) == 9
    for devices in range(4, 13):
        plan, alone = table[devices], replicate(graph, devices, HARD)
        assert plan is not None
        assert (plan.period_ticks, plan.status) == (alone.period_ticks, "optimal")
    assert [plan.devices for plan in table] == list(range(4, 13))
    assert repr(table) == (
        "<ReplicaTable 'chain': 1 to 12 devices, period 5.00 ms to 1.00 ms, 9 proved optimal, "
        "3 proved impossible>"
    )


def test_tables_agree_with_brute_force(monkeypatch: pytest.MonkeyPatch) -> None:
    """What rows give each other is true for every number of devices."""
    rng = np.random.default_rng(6)
    infeasible = 0
    for number in range(60):
        graph = random_graph(rng, 5, pins=2 if number % 4 == 0 else 0)
        target = random_target(rng, activations=number % 2 == 1)
        monkeypatch.setattr(lattice, "IDEALS", 1 if number % 8 >= 4 else 4_000)
        table = replicate(graph, range(2, 7), target, time_limit=0.2)
        for devices in range(2, 7):
            optimum, plan = brute_force_period(graph, target, devices), table[devices]
            infeasible += devices in table.infeasible
            assert optimum is None or devices not in table.infeasible
            if plan is not None:
                assert optimum is not None
                assert plan.lower_ticks <= optimum <= plan.period_ticks
    assert infeasible > 3


def test_too_few_devices_are_told() -> None:
    """With what would help."""
    with pytest.raises(InfeasibleError, match="3 devices of 10 B do not hold the model, whatever the stages"):
        replicate(chain([1] * 4, [10] * 4), 3, HARD)


def test_pins_name_stages_whatever_the_replicas() -> None:
    """A node pinned to the second stage is there; a pin beyond the devices is refused."""
    graph = chain([6, 1, 1], [5, 5, 5])
    plan = replicate(graph, 4, HARD, pins={"v1": 1})
    assert plan.stage_of.tolist() == [0, 1, 1]
    assert plan.replicas == (3, 1)
    with pytest.raises(UsageError, match="pinned to stage 4"):
        replicate(graph, 4, HARD, pins={"v1": 4})


def test_ctrl_c_keeps_what_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where memory may overflow, whole replicas are known from the start."""

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(planning, "equal_partitions", interrupt)
    plan = replicate(chain([3, 1, 1, 3], [10] * 4), 8, op.Target(bandwidth=1e3, memory=10))
    assert plan.interrupted
    assert (plan.replicas, plan.status) == ((8,), "feasible")
    assert 0 < plan.gap < 1


def test_devices_are_numbers() -> None:
    """Anything else is refused by name."""
    for wrong in (0, "x", [], 2.5):
        with pytest.raises(UsageError, match="devices"):
            replicate(chain([1], [1]), wrong, HARD)  # type: ignore[call-overload]
