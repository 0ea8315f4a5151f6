"""The exhaustive search: the optimum by the objective itself, filled stages and true peaks included."""

from __future__ import annotations

import dataclasses

import numpy as np

from onnx_pipeline.graph.builder import GraphBuilder
from onnx_pipeline.graph.objective import bottleneck, check_partition
from onnx_pipeline.graph.target import INFEASIBLE, Target
from onnx_pipeline.partition.ideals.exhaustive import IDEALS, exhaust
from onnx_pipeline.partition.instance.build import build
from tests.random_graphs import brute_force, solvable


def test_the_optimum_of_every_kind() -> None:
    """Brute force agrees on pins, groups, both memory modes, activations and exactly k stages."""
    filled = 0
    for number, (graph, target, k) in enumerate(solvable(80, 11)):
        target = dataclasses.replace(target, activations=number % 2 == 0)
        for exactly in (False, True):
            expected = brute_force(graph, target, k, exactly=exactly)
            best = exhaust(graph, target, k, build(graph, target), exactly=exactly)
            if expected is None:
                assert best is None or best.ticks == INFEASIBLE
                continue
            assert best is not None
            assert best.ticks == expected == bottleneck(graph, target, best.stage_of, k)
            assert check_partition(graph, best.stage_of, k) == []
            filled += exactly and len(np.unique(best.stage_of)) == k
    assert filled > 30


def test_too_many_ideals() -> None:
    """Independent nodes have 2^n ideals: no answer."""
    b = GraphBuilder("wide")
    for v in range(IDEALS.bit_length() + 1):
        b.add_node(f"v{v}", 1)
    graph = b.build()
    assert exhaust(graph, Target(), 2, build(graph, Target())) is None
