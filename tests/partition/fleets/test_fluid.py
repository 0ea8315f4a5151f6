"""The fluid bound against brute force, and its weights."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace

import numpy as np
import pytest

from onnx_pipeline.errors import InfeasibleError
from onnx_pipeline.graph.builder import GraphBuilder
from onnx_pipeline.graph.costgraph import CostGraph, IntArray
from onnx_pipeline.graph.fleet import FleetTarget, Kind
from onnx_pipeline.graph.target import INFEASIBLE, Target
from onnx_pipeline.graph.ticks import NS
from onnx_pipeline.partition.fleets.demand import demand
from onnx_pipeline.partition.fleets.fluid import evaluate, fluid_bound
from onnx_pipeline.partition.fleets.instance import FleetInstance, build_fleet, contract_fleet
from onnx_pipeline.partition.fleets.weights import fluid_weights
from tests.fleet_oracle import best_placement, random_fleet


def cases(count: int, seed: int) -> Iterator[tuple[CostGraph, FleetTarget, FleetInstance]]:
    """Yield random fleets of every sort, half of them contracted."""
    rng = np.random.default_rng(seed)
    while count:
        graph, fleet = random_fleet(rng, 6, free=count % 2 == 0)
        with suppress(InfeasibleError):
            inst = build_fleet(graph, fleet)
            yield graph, fleet, contract_fleet(inst) if count % 4 < 2 else inst
            count -= 1


def test_it_never_exceeds_the_optimum() -> None:
    """Order fixed or free, memory of both kinds, nodes that kinds cannot run; and it is often met."""
    met = impossible = 0
    for graph, fleet, inst in cases(600, 1):
        optimum = best_placement(graph, fleet)
        bound = fluid_bound(inst)
        if optimum is None:
            impossible += bound.ticks == INFEASIBLE
        else:
            assert bound.ticks <= optimum
            met += bound.ticks == optimum
    assert met > 80
    assert impossible > 100


def test_any_weights_prove_something() -> None:
    """Integers from a hat are no more than the optimum, and no more than weights that were solved for."""
    rng = np.random.default_rng(2)
    for graph, fleet, inst in cases(300, 3):
        optimum, asked = best_placement(graph, fleet), demand(inst)
        ticks = tuple(int(y) for y in rng.integers(0, 10, len(inst.kinds)))
        octets = tuple(
            0 if memory == math.inf else int(rng.integers(0, 10)) if rate < 0 else math.floor(y * rate * 0.9)
            for y, memory, rate in zip(ticks, asked.memory, asked.rate, strict=True)
        )
        assert evaluate(asked, ticks, octets) <= (INFEASIBLE if optimum is None else optimum)


def test_weights_that_prove_nothing_are_refused() -> None:
    """Negative ones, a worth of memory that is unlimited, and bytes that overflow more cheaply."""
    builder = GraphBuilder("one", ticks_per_second=NS)
    builder.add_group("w", 100, [builder.add_node("a", 10)])
    for memory, wrong in ((math.inf, (1, 1)), (50.0, (1, 2)), (50.0, (-1, 0)), (50.0, (1, -1))):
        kind = Kind("k", Target(bandwidth=1e9, memory=memory))
        asked = demand(build_fleet(builder.build(), FleetTarget((kind,), (0,))))
        with pytest.raises(ValueError, match="prove nothing"):
            evaluate(asked, wrong[:1], wrong[1:])


def independent(works: IntArray, devices: tuple[int, ...]) -> FleetInstance:
    """Return nodes without tensors, with the work of each kind in a row."""
    builder = GraphBuilder("independent")
    for v in range(works.shape[1]):
        builder.add_node(f"v{v}", 0)
    names = [f"kind{kind}" for kind in range(len(works))]
    graph = replace(builder.build(), work_on=dict(zip(names, works, strict=True)))
    return build_fleet(graph, FleetTarget(tuple(Kind(name, Target()) for name in names), devices))


def test_one_kind_is_the_average_work() -> None:
    """And a kind three times as fast does three times as much."""
    work = np.random.default_rng(4).integers(1, 10**6, 200)
    total = int(work.sum())
    assert fluid_bound(independent(work[None], (0, 0, 0))).ticks == -(-total // 3)
    bound = fluid_bound(independent(np.array([work, 3 * work]), (0, 0, 1, 1, 1))).ticks
    assert bound == pytest.approx(total / 3, rel=1e-5)


def test_nodes_go_where_they_are_comparatively_fast() -> None:
    """Two halves, each ten times as fast on a kind of its own; many nodes are solved for in classes."""
    rng = np.random.default_rng(5)
    work = rng.integers(10**5, 2 * 10**5, (2, 300))
    works = np.vstack([np.append(work[0], 10 * work[1]), np.append(10 * work[0], work[1])])
    works = np.where(rng.random(works.shape) < 0.02, INFEASIBLE, works)
    works[:, (works >= INFEASIBLE).all(axis=0)] = 1
    inst = independent(works, (0, 0, 1))
    exact = fluid_bound(inst).ticks
    assert exact >= work[0].sum() / 2
    ticks, _ = fluid_weights(demand(inst), (2, 1), classes=5)
    few = evaluate(demand(inst), [round(1e6 * y / ticks.max()) for y in ticks.tolist()], (0, 0))
    assert 0.98 * exact <= few <= exact
