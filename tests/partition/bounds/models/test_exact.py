"""The exact model against brute force, and checks that these tests can fail."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np
import pytest

from benchmarks.generators import layered
from onnx_pipeline.graph.builder import GraphBuilder
from onnx_pipeline.graph.costgraph import CostGraph
from onnx_pipeline.graph.objective import bottleneck, check_partition
from onnx_pipeline.graph.target import INFEASIBLE, Target
from onnx_pipeline.graph.ticks import NS
from onnx_pipeline.partition.bounds.models import exact as exact_module
from onnx_pipeline.partition.bounds.models.blocks import ScaledCosts, scaled
from onnx_pipeline.partition.bounds.models.exact import exact_cpsat
from onnx_pipeline.partition.bounds.models.linear import SolveParams
from onnx_pipeline.partition.bounds.windows import Windows, windows
from onnx_pipeline.partition.instance.build import build
from onnx_pipeline.partition.instance.contract import contract
from onnx_pipeline.partition.instance.instance import Instance
from tests.random_graphs import brute_force, contracted

Case = tuple[CostGraph, Target, int, Instance]


LONG = SolveParams(30.0)


def rounding(inst: Instance) -> int:
    """How many nanoseconds the overflow of a stage loses at most by rounding every group on its own."""
    return len(inst.group_bytes) + 1 if len(inst.group_bytes) and inst.ns_per_byte >= 0 else 0


@pytest.mark.parametrize("ticks_per_second", [NS, None])
def test_exact_cpsat_is_the_optimum(ticks_per_second: int | None) -> None:
    """The bound is the brute-force optimum, exactly where nothing is rounded, and the partition has it."""
    for graph, target, k, inst in contracted(80, 1, ticks_per_second=ticks_per_second):
        optimum = brute_force(graph, target, k)
        answer = exact_cpsat(inst, k, 0, INFEASIBLE, LONG)
        assert optimum - rounding(inst) <= answer.bound <= optimum
        assert answer.stage_of is not None
        stages = inst.expand(answer.stage_of)
        assert not check_partition(graph, stages, k)
        assert bottleneck(graph, target, stages, k) <= optimum + rounding(inst)
        # Nothing is better than the optimum: the solver must find the question impossible.
        none = exact_cpsat(inst, k, 0, optimum - 1, LONG)
        assert none.bound <= optimum
        if not rounding(inst):
            assert none.bound == optimum
            assert none.stage_of is None


def test_coarse_costs_stay_below(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rounding to few digits gives a smaller bound, never a larger one."""
    monkeypatch.setattr(exact_module, "EXACT_RESOLUTION", 60)
    lost = 0
    for graph, target, k, inst in contracted(100, 2):
        optimum = brute_force(graph, target, k)
        answer = exact_cpsat(inst, k, 0, optimum, LONG)
        assert answer.bound <= optimum
        lost += answer.bound < optimum
    assert lost


def violations(count: int, seed: int, bound: Callable[[Instance, int, int], int]) -> int:
    """How often a bound, given (instance, k, upper), exceeds the optimum."""
    wrong = 0
    for graph, target, k, inst in contracted(count, seed):
        optimum = brute_force(graph, target, k)
        wrong += bound(inst, k, optimum) > optimum
    return wrong


def _dearer_nets(inst: Instance, resolution: int) -> ScaledCosts:
    costs = scaled(inst, resolution)
    return dataclasses.replace(costs, net=[c + 1 for c in costs.net])


def _less_room(inst: Instance, resolution: int) -> ScaledCosts:
    costs = scaled(inst, resolution)
    return dataclasses.replace(costs, room=max(0, costs.room - 20))


def _rounded_up(inst: Instance, resolution: int) -> ScaledCosts:
    costs = scaled(inst, 60)
    return dataclasses.replace(costs, work=[-(-w // costs.scale) for w in inst.work.tolist()])


@pytest.mark.parametrize("mutant", [_dearer_nets, _less_room, _rounded_up])
def test_wrong_costs_are_noticed(
    mutant: Callable[[Instance, int], ScaledCosts], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The comparison with brute force fails for a model that is only slightly wrong."""

    def exact(inst: Instance, k: int, upper: int) -> int:
        return exact_cpsat(inst, k, 0, upper, LONG).bound

    assert violations(40, 3, exact) == 0
    monkeypatch.setattr(exact_module, "scaled", mutant)
    assert violations(40, 3, exact) > 0


def test_windows_that_are_too_narrow_are_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """One stage too many cut off, and the exact bound exceeds the optimum."""

    def narrow(inst: Instance, *args: object) -> Windows:
        first, last = windows(inst, *args)  # type: ignore[arg-type]
        return Windows(np.minimum(first + 1, last), last)

    monkeypatch.setattr(exact_module, "windows", narrow)
    assert violations(60, 7, lambda inst, k, upper: exact_cpsat(inst, k, 0, upper, LONG).bound) > 0


def test_impossible_demands() -> None:
    """Where pins and a hard memory limit leave no partition, the exact model says so, and only there."""
    impossible = 0
    for graph, target, k, inst in contracted(120, 8, possible=False):
        optimum = brute_force(graph, target, k)
        answer = exact_cpsat(inst, k, 0, INFEASIBLE, LONG)
        assert (answer.bound == INFEASIBLE) == (optimum is None) == (answer.stage_of is None)
        impossible += optimum is None
    assert impossible > 5


def test_stop_ends_the_solver() -> None:
    """A stop from outside ends a search that would take hours; the bound is valid, Ctrl-C comes through."""
    inst = contract(build(layered(200, 10), Target(bandwidth=16e9, host_io=False)))
    upper = int(inst.work.sum())
    asked = 0

    def third() -> bool:
        nonlocal asked
        asked += 1
        return asked >= 3

    answer = exact_cpsat(inst, 8, 0, upper, SolveParams(1e6, stop=third))
    assert asked >= 3
    assert 0 <= answer.bound <= upper

    def interrupt() -> bool:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        exact_cpsat(inst, 8, 0, upper, SolveParams(1e6, stop=interrupt))


def test_every_tick_counts() -> None:
    """Milliseconds in the ticks that a graph chooses: nothing is rounded, so the bound is the optimum."""
    rng = np.random.default_rng(8)
    b = GraphBuilder("milliseconds")
    for v in range(7):
        b.add_node(f"v{v}", float(rng.random() * 1e7))
        if v:
            b.add_net(f"t{v}", v - 1, [v], nbytes=int(rng.integers(1, 1000)))
    graph, target = b.build(), Target(bandwidth=1.37e9)
    answer = exact_cpsat(contract(build(graph, target)), 3, 0, INFEASIBLE, LONG)
    assert answer.bound == brute_force(graph, target, 3)
