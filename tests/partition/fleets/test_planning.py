"""Placements on random fleets against brute force."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise, permutations

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
from tests.fleet_oracle import best_placement, random_fleet

QUICK = SearchParams(time_limit=0.3)


def placed(graph: CostGraph, fleet: FleetTarget) -> FleetKnown | None:
    """Return what is known of a fleet, None where there is said to be nothing."""
    try:
        return plan_fleet(graph, fleet, QUICK)
    except InfeasibleError:
        return None


@pytest.mark.parametrize("free", [False, True])
def test_placements_against_brute_force(free: bool) -> None:
    """No bound is above the optimum, no placement below it, and what is proved is true."""
    rng = np.random.default_rng(1)
    found = 0
    for _ in range(70):
        graph, fleet = random_fleet(rng, 6, free=free)
        optimum = best_placement(graph, fleet)
        known = placed(graph, fleet)
        if optimum is None:
            assert known is None
        elif known is not None:
            loads = device_loads(known.graph, fleet, known.stage_of, known.device_of)
            assert max(load.total for load in loads) == known.upper
            assert known.lower <= optimum <= known.upper
            found += known.upper == optimum
    assert found > 40


def test_contraction_keeps_the_optimum() -> None:
    """The best placement of the contracted graph is one of the graph."""
    rng = np.random.default_rng(2)
    merged = 0
    for i in range(300):
        graph, fleet = random_fleet(rng, 6, free=bool(i % 2))
        optimum = best_placement(graph, fleet)
        if optimum is None:
            continue
        full = build_fleet(graph, fleet)
        small = contract_fleet(full)
        merged += small.n < full.n
        together = replace(graph, colocation=small.kinds[0].node_of)
        assert best_placement(together, fleet) == optimum
    assert merged > 30


def test_equal_devices_are_those_of_partition() -> None:
    """With one kind and a fixed order, the problem is the plain one."""
    import onnx_pipeline as op
    from tests.random_graphs import solvable

    for graph, target, k in solvable(40, 3, 6):
        fleet = FleetTarget((Kind("same", target),), (0,) * k)
        plain = op.partition(graph, k, target, time_limit=1.0)
        assert plain.status == "optimal"
        known = plan_fleet(graph, fleet, QUICK)
        assert known.lower <= plain.upper <= known.upper


def test_free_order_is_never_worse_than_any_order() -> None:
    """What any order of the devices reaches, a free order does, too."""
    rng = np.random.default_rng(4)
    for _ in range(30):
        graph, fleet = random_fleet(rng, 6, free=True, most=3)
        free = placed(graph, fleet)
        for line in set(permutations(fleet.devices)):
            fixed = placed(graph, replace(fleet, devices=line, free=False))
            assert fixed is None or (free is not None and free.upper <= fixed.upper)


def two_kinds() -> tuple[CostGraph, FleetTarget]:
    """Return a chain of three nodes, the middle one of which only the second kind runs."""
    builder = GraphBuilder("three", ticks_per_second=NS)
    a, b, c = (builder.add_node(name, 10) for name in "abc")
    builder.add_net("t", a, [b], nbytes=1)
    builder.add_net("u", b, [c], nbytes=1)
    work = np.array([1, INFEASIBLE, 1])
    graph = replace(builder.build(), work_on={"npu": work})
    return graph, FleetTarget((Kind("npu", Target()), Kind("cpu", Target())), (0, 1, 0))


def test_a_node_that_nothing_runs_is_named() -> None:
    """The error says which node, and which kinds lack it."""
    graph, fleet = two_kinds()
    with pytest.raises(InfeasibleError, match="node 'b' cannot run on npu, the devices"):
        plan_fleet(graph, replace(fleet, devices=(0, 0)), QUICK)
    known = plan_fleet(graph, fleet, QUICK)
    assert (known.upper, known.device_of) == (10, (0, 1, 2))


def chain(count: int, nbytes: int = 1) -> CostGraph:
    """Return nodes of 10 ns in a row, with parameters of 100 bytes each."""
    builder = GraphBuilder("chain", ticks_per_second=NS)
    nodes = [builder.add_node(f"v{i}", 10) for i in range(count)]
    for u, v in pairwise(nodes):
        builder.add_net(f"t{u}", u, [v], nbytes=nbytes)
    for v in nodes:
        builder.add_group(f"w{v}", 100, [v])
    return builder.build()


def test_reasons_are_given() -> None:
    """What cannot run says why: what lies between, a pin, the memory that is lacking."""
    on = {"a": np.array([1, INFEASIBLE, 1]), "b": np.array([INFEASIBLE, 1, INFEASIBLE])}
    graph = replace(chain(3), work_on=on)
    fleet = FleetTarget((Kind("a", Target()), Kind("b", Target())), (0, 1))
    with pytest.raises(
        InfeasibleError, match=r"one a runs node 'v0' and others, .* cannot run 'v1'"
    ) as caught:
        plan_fleet(graph, fleet, QUICK)
    assert "stages_per_device" in str(caught.value.hint)
    pinned = replace(graph, pinned=np.array([1, -1, -1]))
    with pytest.raises(InfeasibleError, match=r"'v0' is pinned to device 1 \(b\), which cannot run it"):
        plan_fleet(pinned, fleet, QUICK)
    for one, other, why in (
        (90, 90, "needs 100 B, more than any"),
        (120, 130, "50 B are lacking"),
        (190, 150, "no placement on 2 devices runs"),
    ):
        targets = [Target(memory=room, memory_mode="hard", activations=False) for room in (one, other)]
        kinds = tuple(Kind(name, target) for name, target in zip("ab", targets, strict=True))
        with pytest.raises(InfeasibleError, match=why):
            plan_fleet(chain(3), FleetTarget(kinds, (0, 1)), QUICK)


def test_what_only_one_device_runs_is_one_node() -> None:
    """With one stage per device; where a device may hold several, it need not be."""
    graph = chain(5)
    npu = np.array([1, INFEASIBLE, 1, INFEASIBLE, 1])
    graph = replace(graph, work_on={"npu": npu})
    fleet = FleetTarget((Kind("npu", Target()), Kind("cpu", Target())), (0, 1, 0))
    assert build_fleet(graph, fleet).n == 3
    assert build_fleet(graph, replace(fleet, devices=(0, 1, 1))).n == 5
    assert build_fleet(graph, replace(fleet, stages_per_device=None)).n == 5


def test_pins_name_devices() -> None:
    """A pinned node is on its device; pins beyond the last one, or without an order, are refused."""
    graph, fleet = two_kinds()
    pinned = replace(graph, pinned=np.array([-1, -1, 1]))
    known = plan_fleet(pinned, fleet, QUICK)
    assert known.device_of[int(known.stage_of[2])] == 1
    with pytest.raises(UsageError, match="pinned to device 7: devices are 0 to 2"):
        plan_fleet(replace(graph, pinned=np.array([-1, -1, 7])), fleet, QUICK)
    with pytest.raises(UsageError, match="in any order"):
        plan_fleet(pinned, replace(fleet, free=True), QUICK)
