"""The books of the walk over maps against the objective, and the squeezing of stages."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from onnx_pipeline.graph.costgraph import CostGraph, IntArray
from onnx_pipeline.graph.fleet import check_placement, price_devices
from onnx_pipeline.graph.target import INFEASIBLE
from onnx_pipeline.partition.fleets.instance import FleetInstance, build_fleet, contract_fleet
from onnx_pipeline.partition.fleets.shared_fabric import Fabric, fabric
from onnx_pipeline.partition.fleets.shared_walk import Walk, anneal, largest, new_walk, reset, squeeze
from onnx_pipeline.partition.search.orders import in_degrees, kahn
from tests.random_graphs import downsets_of
from tests.shared_oracle import random_shared, stage_counts


def walks(count: int, seed: int) -> Iterator[tuple[CostGraph, FleetInstance, Fabric, Walk]]:
    """Yield random walks that start from random maps along random orders."""
    rng = np.random.default_rng(seed)
    while count:
        graph, fleet = random_shared(rng, 9)
        inst = build_fleet(graph, fleet)
        inst = contract_fleet(inst) if count % 2 else inst
        runs = inst.runs[list(fleet.devices)]
        if not runs.any(axis=0).all():
            continue
        count -= 1
        first = inst.kinds[0]
        order = kahn(first, in_degrees(first), rng.random(inst.n))
        device = np.array([rng.choice(np.flatnonzero(each)) for each in runs.T], dtype=np.int64)
        f = fabric(inst)
        yield graph, inst, f, new_walk(f, order, device, int(rng.integers(1000)))


def stages_of(w: Walk) -> tuple[IntArray, list[int]]:
    """Return the runs along the order as stages."""
    along = w.device[w.order]
    begins = np.append(True, along[1:] != along[:-1])
    stage = np.empty_like(w.order)
    stage[w.order] = np.cumsum(begins) - 1
    return stage, along[begins].tolist()


def check_books(graph: CostGraph, inst: FleetInstance, f: Fabric, w: Walk) -> None:
    """Compare loads and runs with the objective, where memory is unlimited or overflows."""
    stage, device_of = stages_of(w)
    counts = np.bincount(device_of, minlength=len(f.kind))
    assert w.runs.tolist() == counts.tolist()
    loads = [load.total for load in price_devices(graph, inst.fleet, inst.expand(stage), device_of)]
    mine = (w.load + f.alpha[f.kind] * w.runs).tolist()
    hard = any(kind.target.memory_mode == "hard" for kind in inst.fleet.kinds)
    if hard:
        assert [each for each in loads if each < INFEASIBLE] == [
            each for each, load in zip(mine, loads, strict=True) if load < INFEASIBLE
        ]
    else:
        assert mine == loads
    if counts.max() <= f.most and not hard:
        assert largest(f, w) == max(loads)


def test_books_agree_with_the_objective() -> None:
    """Before, between and after moves, at any temperature; undone moves leave no trace."""
    for graph, inst, f, w in walks(150, 1):
        check_books(graph, inst, f, w)
        for heat in (1.0, 1e4):
            best = int(largest(f, w))
            found = int(anneal(f, w, 0, heat, heat, 300, best))
            check_books(graph, inst, f, w)
            assert found <= best
            if found < best:
                again = new_walk(f, w.order, w.best, 0)
                assert largest(f, again) == found


def test_squeezing_keeps_devices_and_adds_no_stage() -> None:
    """The order stays topological; on no device are there more stages, and often fewer on some."""
    fewer = least = 0
    for graph, inst, f, w in walks(200, 2):
        before, device = w.runs.copy(), w.device.copy()
        squeeze(f, w)
        assert (w.runs <= before).all()
        assert (w.device == device).all()
        stage, device_of = stages_of(w)
        unlimited = inst.fleet.__class__(inst.fleet.kinds, inst.fleet.devices, True, None)
        assert not check_placement(graph, unlimited, inst.expand(stage), device_of)
        check_books(graph, inst, f, w)
        fewer += int((w.runs < before).any())
        full = inst.expand(device).tolist()
        blocks = tuple(sum(1 << v for v, d in enumerate(full) if d == each) for each in range(len(f.kind)))
        if len(full) <= 7:
            counts = stage_counts(downsets_of(graph), blocks)
            assert tuple(w.runs.tolist()) in counts or any(
                all(a <= b for a, b in zip(each, w.runs.tolist(), strict=True)) for each in counts
            )
            least += int(w.runs.sum()) == min(map(sum, counts))
    assert fewer > 30
    assert least > 60


def test_resetting_changes_nothing() -> None:
    """What moves keep up is what a count from scratch gives."""
    for _, _, f, w in walks(60, 3):
        anneal(f, w, 0, 1e4, 1.0, 200, int(largest(f, w)))
        kept = [np.array(each) for each in (w.load, w.runs, w.held, w.top, w.filled, w.inside, w.users)]
        reset(f, w)
        for before, after in zip(
            kept, (w.load, w.runs, w.held, w.top, w.filled, w.inside, w.users), strict=True
        ):
            assert (before == after).all()
