"""The exhaustive search: the optimum by the objective itself, filled stages and true peaks included."""

from __future__ import annotations

import dataclasses
from itertools import pairwise

import numpy as np
import pytest

from onnx_pipeline.errors import InfeasibleError
from onnx_pipeline.graph.builder import GraphBuilder
from onnx_pipeline.graph.objective import bottleneck, check_partition
from onnx_pipeline.graph.target import INFEASIBLE, Target
from onnx_pipeline.partition.certificate import recheck
from onnx_pipeline.partition.ideals.exhaustive import IDEALS, exhaust
from onnx_pipeline.partition.instance.build import build
from onnx_pipeline.partition.portfolio import partition
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


def test_one_stage_is_one_partition() -> None:
    """However large the graph is, its only partition needs no search; what overflows is part of its cost."""
    b = GraphBuilder("chain")
    nodes = [b.add_node(f"v{v}", 10) for v in range(200)]
    for u, v in pairwise(nodes):
        b.add_net(f"t{u}", u, [v], nbytes=100)
    b.add_group("weights", 5000, nodes)
    for mode, status in (("overflow", "optimal"), ("hard", None)):
        target = Target(bandwidth=1e9, memory=4000, memory_mode=mode, activations=True)
        if status is None:
            with pytest.raises(InfeasibleError, match="1 stage does not fit in"):
                partition(b.build(), 1, target, threads=1)
        else:
            result = partition(b.build(), 1, target, threads=1)
            assert (result.status, result.costs[0].overflow > 0) == (status, True)
            assert recheck(result.partition, result.certificate, 0.01) == []
