"""Annealing for devices that differ, and the cuts that it starts from."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count

import numpy as np

from onnx_pipeline.graph.fleet import check_placement, device_loads
from onnx_pipeline.graph.target import INFEASIBLE
from onnx_pipeline.partition.fleets.annealing import FleetAnnealer
from onnx_pipeline.partition.fleets.cutting import Cutter
from onnx_pipeline.partition.fleets.instance import build_fleet, coarsen_fleet
from onnx_pipeline.partition.fleets.known import FleetKnown
from onnx_pipeline.partition.fleets.slicing import cut, price_order, way_of
from onnx_pipeline.partition.fleets.task import FleetTask
from onnx_pipeline.partition.search import walk
from onnx_pipeline.partition.search.orders import starting_orders
from onnx_pipeline.stop import Asked, never
from tests.fleet_oracle import best_placement, random_fleet


def tasks(wanted: int, seed: int, most: int = 4) -> Iterator[tuple[FleetTask, int]]:
    """Yield tasks without a placement yet, and their optimum; orders are fixed and free in turn."""
    rng = np.random.default_rng(seed)
    for i in count():
        if not wanted:
            return
        graph, fleet = random_fleet(rng, 7, free=bool(i % 2), most=most)
        optimum = best_placement(graph, fleet)
        if optimum is not None:
            wanted -= 1
            yield FleetTask(build_fleet(graph, fleet), FleetKnown(graph, fleet)), optimum


def test_walks_keep_their_books() -> None:
    """After thousands of moves stages cost what devices are loaded with; nothing is where it cannot run."""
    moved = 0
    for task, _ in tasks(120, 1):
        Cutter(task).offer(next(starting_orders(task.inst.common, np.random.default_rng(0)))[1], "given")
        if task.upper >= INFEASIBLE:
            continue
        annealer = FleetAnnealer(task, Cutter(task))
        devices, start = annealer._start()
        hyper = annealer._on(devices)
        state = walk.new_walk(hyper, len(devices), start[annealer._index >= 0], 1)
        before = state.stage.copy()
        walk.anneal(hyper, state, 0, 0, 1e4, 1.0, 2000, False)
        moved += (state.stage != before).any()
        stage = annealer._whole(state.stage)
        graph, fleet = task.known.graph, task.known.fleet
        assert not check_placement(graph, fleet, task.inst.expand(stage), devices)
        loads = device_loads(graph, fleet, task.inst.expand(stage), devices)
        assert [loads[device].total for device in devices] == state.cost.tolist()
        assert all(task.inst.runs[fleet.devices[devices[s]], v] for v, s in enumerate(stage.tolist()))
    assert moved > 40


def test_annealing_finds_the_optimum_of_small_graphs() -> None:
    """From the cut of one order, the optimum is found mostly, and nothing below it is."""
    best = 0
    for task, optimum in tasks(12, 2):
        cutter = Cutter(task)
        cutter.offer(next(starting_orders(task.inst.common, np.random.default_rng(0)))[1], "given")
        FleetAnnealer(task, cutter).turn(Asked(4))
        assert task.upper >= optimum
        best += task.upper == optimum
    assert best > 8


def test_cuts_of_chains_are_exact() -> None:
    """Where the graph has one order only, slicing alone is the optimum, for fixed and free devices."""
    done = 0
    for task, optimum in tasks(300, 3, most=3):
        heads, tails = task.inst.common.edges()
        ahead = {(int(u), int(v)) for u, v in zip(heads, tails, strict=True)}
        if task.inst.n < 2 or not all((v, v + 1) in ahead for v in range(task.inst.n - 1)):
            continue
        done += 1
        inst, order = task.inst, np.arange(task.inst.n)
        found = cut(price_order(inst, order, INFEASIBLE), way_of(inst.fleet), 0, INFEASIBLE - 1)
        assert found is not None
        assert task.offer(found.stage_of, found.device_of, "cut")
        assert found.ticks == task.upper == optimum
        assert cut(price_order(inst, order, optimum - 1), way_of(inst.fleet), 0, optimum - 1) is None
    assert done > 5


def test_coarse_cuts_are_placements() -> None:
    """Runs of an order are cut like its nodes, and begin where kinds begin or cease to run nodes."""
    for task, optimum in tasks(30, 4):
        order = next(starting_orders(task.inst.common, np.random.default_rng(0)))[1]
        coarse = coarsen_fleet(task.inst, order)
        assert (coarse.least_work < INFEASIBLE).all()
        found = cut(
            price_order(coarse, np.arange(coarse.n), INFEASIBLE), way_of(coarse.fleet), 0, INFEASIBLE - 1
        )
        if found is not None:
            task.known.offer(coarse.expand(found.stage_of), found.device_of, "coarse")
            assert task.upper >= optimum


def test_too_many_kinds_to_count_are_tried_in_orders(monkeypatch) -> None:  # type: ignore[no-untyped-def]
    """A free order of very different devices is cut in some fixed orders of them."""
    from onnx_pipeline.partition.fleets import cutting

    monkeypatch.setattr(cutting, "MOST_ROWS", 0)
    found = 0
    for task, optimum in tasks(40, 5):
        cutter = Cutter(task)
        assert len(cutter.ways) == (cutting.SHUFFLES if task.known.fleet.free else 1)
        cutter.start(never)
        assert task.upper >= optimum
        found += task.upper == optimum
    assert found > 20
