"""The objective on devices that differ, against the plain one."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace

import numpy as np
import pytest

from onnx_pipeline.errors import InputError, UsageError
from onnx_pipeline.graph.builder import GraphBuilder
from onnx_pipeline.graph.costgraph import CostGraph
from onnx_pipeline.graph.costs_json import graph_from_json, graph_to_json
from onnx_pipeline.graph.fleet import FleetTarget, Kind, check_placement, device_loads
from onnx_pipeline.graph.objective import price_stages
from onnx_pipeline.graph.target import INFEASIBLE, Target
from tests.fleet_oracle import best_placement, random_fleet
from tests.random_graphs import random_graph, random_target


def chain() -> CostGraph:
    """Three nodes in a row, 8 bytes between them; the middle one runs on the slow kind only."""
    builder = GraphBuilder("chain", ticks_per_second=10**9)
    for name, work, fast in (("a", 40, 10), ("b", 40, math.inf), ("c", 40, 10)):
        builder.add_node(name, work, work_on={"fast": fast, "slow": work})
    builder.add_net("t", 0, [1], nbytes=8)
    builder.add_net("u", 1, [2], nbytes=8)
    return builder.build()


FAST = Kind("fast", Target(bandwidth=2e9, stage_overhead=3e-9))
SLOW = Kind("slow", Target(bandwidth=1e9, stage_overhead=1e-9))
SHARED = FleetTarget((FAST, SLOW), (0, 1), stages_per_device=None)


def test_one_kind_is_the_plain_objective() -> None:
    """Devices that are alike, one stage on each, cost what the objective says of their stages."""
    for seed in range(200):
        rng = np.random.default_rng(seed)
        graph, target = random_graph(rng, pins=3), random_target(rng, activations=True)
        fleet = FleetTarget((Kind("only", target),), (0, 0, 0))
        stage_of = np.sort(rng.integers(0, 3, graph.num_nodes))
        free = replace(
            graph, pinned=np.full_like(graph.pinned, -1), colocation=np.full_like(graph.pinned, -1)
        )
        loads = device_loads(free, fleet, stage_of, [0, 1, 2])
        assert loads == price_stages(free, target, stage_of, 3)


def test_each_side_pays_at_its_own_rate() -> None:
    """Work, transfers and overheads are those of the stage's device; alpha is paid per stage."""
    loads = device_loads(chain(), SHARED, [0, 1, 2], [0, 1, 0])
    assert [load.total for load in loads] == [2 * 3 + 20 + 4 + 4, 1 + 40 + 8 + 8]
    assert loads[0].overhead == 6


def test_what_stays_on_a_device_costs_nothing() -> None:
    """Two stages on one device pay for the second start, not for the tensor between them."""
    loads = device_loads(chain(), SHARED, [0, 1, 2], [1, 1, 1])
    assert [load.total for load in loads] == [0, 3 + 120]


def test_what_cannot_run_is_infeasible() -> None:
    """A node on a kind that lacks its operator makes the device infeasible."""
    assert device_loads(chain(), SHARED, [0, 0, 0], [0])[0].total >= INFEASIBLE


@pytest.mark.parametrize(
    ("fleet", "device_of", "told"),
    [
        (FleetTarget((FAST, SLOW), (0, 1)), [1, 0, 1], "device 1 has 2 stages"),
        (FleetTarget((FAST, SLOW), (0, 1, 1)), [1, 0, 2], "stage 1 is on device 0, before device 1"),
        (FleetTarget((FAST, SLOW), (0, 1)), [0, 1, 2], "outside 0..1"),
        (FleetTarget((FAST,), (0, 0, 0), free=True), [0, 1, 1], "at most 1 may share"),
    ],
)
def test_placements_are_checked(fleet: FleetTarget, device_of: list[int], told: str) -> None:
    """What devices forbid is refused with the place."""
    with pytest.raises(UsageError, match=told):
        device_loads(chain(), fleet, [0, 1, 2], device_of)


def test_pins_name_devices() -> None:
    """A pinned node has to be on its device, whatever its stage."""
    graph = replace(chain(), pinned=np.array([-1, 1, -1]))
    assert not check_placement(graph, SHARED, [0, 1, 2], [0, 1, 0])
    assert "not on device 1" in check_placement(graph, SHARED, [0, 1, 2], [1, 0, 1])[0]


def test_free_order_may_run_backwards() -> None:
    """Only a fixed order ties later stages to later devices."""
    fleet = FleetTarget((FAST, SLOW), (1, 0), free=True)
    assert not check_placement(chain(), fleet, [0, 0, 1], [0, 1])
    assert not check_placement(chain(), replace(fleet, devices=(0, 1)), [0, 0, 1], [1, 0])


@pytest.mark.parametrize(
    ("kinds", "devices", "more", "told"),
    [
        ((FAST, FAST), (0, 1), {}, "two kinds of device are called 'fast'"),
        ((FAST,), (), {}, "at least one device"),
        ((FAST,), (1,), {}, "at least one device"),
        ((FAST,), (0,), {"stages_per_device": 0}, "stages_per_device must be at least 1"),
        ((FAST, Kind("x", Target(host_io=False))), (0, 1), {}, "by all devices of a fleet or by none"),
    ],
)
def test_fleets_are_checked(
    kinds: tuple[Kind, ...], devices: tuple[int, ...], more: dict[str, int], told: str
) -> None:
    """A fleet that contradicts itself is refused."""
    with pytest.raises(UsageError, match=told):
        FleetTarget(kinds, devices, **more)  # type: ignore[arg-type]  # pytest's parameters are not typed


def test_the_oracle_is_the_least_of_all_placements() -> None:
    """Brute force by dynamic programming agrees with pricing every placement there is."""
    for seed in range(60):
        graph, fleet = random_fleet(np.random.default_rng(seed), 4, free=seed % 2 == 1, most=3)
        most = range(len(fleet.devices))
        everything = [
            max(load.total for load in device_loads(graph, fleet, stage_of, line))
            for line in itertools.permutations(most)
            for stage_of in itertools.product(most, repeat=graph.num_nodes)
            if not check_placement(graph, fleet, stage_of, line)
        ]
        least = min(everything, default=INFEASIBLE)
        assert best_placement(graph, fleet) == (least if least < INFEASIBLE else None)


def test_work_on_kinds_reads_back() -> None:
    """COSTS.json keeps the work on each kind, null where it cannot run."""
    graph = chain()
    again = graph_from_json(graph_to_json(graph))
    assert again.work_on is not None
    assert graph.work_on is not None
    for kind, work in graph.work_on.items():
        assert (again.work_on[kind] == work).all()
    assert again.work_on["fast"][1] == INFEASIBLE
    document = graph_to_json(graph)
    document["nodes"][1]["work_on_ns"] = {"fast": 1}
    with pytest.raises(InputError, match="other kinds of device"):
        graph_from_json(document)


def test_longer_ticks_keep_what_cannot_run() -> None:
    """Counting in longer ticks shortens times only."""
    work = chain().counted(10**8).work_on
    assert work is not None
    assert work["fast"].tolist() == [1, INFEASIBLE, 1]
