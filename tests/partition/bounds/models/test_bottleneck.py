"""The paper's models against their definition and the optimum, with either solver."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Iterator

import numpy as np
import pytest

from onnx_pipeline.graph.builder import GraphBuilder
from onnx_pipeline.graph.costgraph import CostGraph
from onnx_pipeline.graph.objective import bottleneck, check_partition, price_stages
from onnx_pipeline.graph.target import Target
from onnx_pipeline.graph.ticks import NS
from onnx_pipeline.partition.bounds.models import bottleneck as bottleneck_module
from onnx_pipeline.partition.bounds.models import exact as exact_module
from onnx_pipeline.partition.bounds.models import guess as guess_module
from onnx_pipeline.partition.bounds.models.bottleneck import bottleneck as bottleneck_mip
from onnx_pipeline.partition.bounds.models.cpsat import solve_cpsat
from onnx_pipeline.partition.bounds.models.exact import exact_cpsat, exact_highs
from onnx_pipeline.partition.bounds.models.guess import bottleneck_guess
from onnx_pipeline.partition.bounds.models.highs import solve_highs
from onnx_pipeline.partition.bounds.models.linear import LinearModel, Outcome, SolveParams
from onnx_pipeline.partition.instance.build import build
from onnx_pipeline.partition.instance.instance import Instance
from tests.random_graphs import brute_force, contracted

Case = tuple[CostGraph, Target, int, Instance]


LONG = SolveParams(30.0)


def chains(graph: CostGraph, k: int) -> Iterator[tuple[int, ...]]:
    """Every partition into k stages."""
    for stages in itertools.product(range(k), repeat=graph.num_nodes):
        if not check_partition(graph, stages, k):
            yield stages


def rounding(inst: Instance) -> int:
    """How many nanoseconds the overflow of a stage loses at most by rounding every group on its own."""
    return len(inst.group_bytes) + 1 if len(inst.group_bytes) and inst.ns_per_byte >= 0 else 0


def three_blocks(graph: CostGraph, target: Target, k: int, index: int | None) -> int:
    """Optimal T of the bottleneck model, or of the guess model of one index, without memory limit."""
    best = 1 << 60
    for blocks in chains(graph, 3):
        a, s, c = (cost.total - cost.overhead for cost in price_stages(graph, target, blocks, 3))
        shares = [(a + c, k - 1)] if index is None else [(a, index), (c, k - 1 - index)]
        if any(cost and not stages for cost, stages in shares):
            continue
        best = min(best, max([s, *(-(-cost // stages) for cost, stages in shares if stages)]))
    return best + target.overhead_ticks(NS) if graph.num_nodes else 0


def test_paper_models_by_enumeration() -> None:
    """The bottleneck and guess models have the value that their definition has."""
    for graph, target, k, _ in contracted(50, 4, 5):
        free = dataclasses.replace(target, memory=float("inf"))
        graph = dataclasses.replace(graph, pinned=np.full(graph.num_nodes, -1))
        inst = build(graph, free)
        upper = bottleneck(graph, free, [0] * graph.num_nodes, k)
        plain = bottleneck_mip(inst, k, upper, LONG)
        guess = bottleneck_guess(inst, k, upper, LONG)
        assert plain == three_blocks(graph, free, k, None)
        assert guess == min(three_blocks(graph, free, k, b) for b in range(k))
        assert plain <= guess


@pytest.mark.parametrize("solve", [solve_cpsat, solve_highs])
def test_every_solver_stays_below(
    solve: Callable[[LinearModel, SolveParams], Outcome],
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    """All models with either solver: at most the optimum, ordered, the exact one tight; no output."""
    monkeypatch.setattr(bottleneck_module, "solve_cpsat", solve)
    monkeypatch.setattr(guess_module, "solve_cpsat", solve)
    monkeypatch.setattr(exact_module, "solve_highs", solve)
    for graph, target, k, inst in contracted(30, 5):
        optimum = brute_force(graph, target, k)
        plain = bottleneck_mip(inst, k, optimum, LONG)
        guess = bottleneck_guess(inst, k, optimum, LONG)
        exact = exact_highs(inst, k, 0, optimum, LONG)
        assert plain <= guess + 1
        assert max(plain, guess, exact) <= optimum
        assert exact >= optimum - rounding(inst)
    assert capfd.readouterr().out == ""


def test_empty_graph() -> None:
    """No node, no cost."""
    inst = build(GraphBuilder("empty", ticks_per_second=NS).build(), Target(stage_overhead=1e-9))
    assert bottleneck_mip(inst, 2, 0, LONG) == 0
    assert bottleneck_guess(inst, 2, 0, LONG) == 0
    assert exact_cpsat(inst, 2, 0, 0, LONG).bound == 0
    assert exact_highs(inst, 2, 0, 0, LONG) == 0
