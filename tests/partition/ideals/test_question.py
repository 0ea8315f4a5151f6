"""Exact questions against brute force."""

from __future__ import annotations

import pytest

from onnx_pipeline.graph.costgraph import CostGraph
from onnx_pipeline.graph.objective import bottleneck, check_partition
from onnx_pipeline.graph.target import Target
from onnx_pipeline.partition.ideals import question
from onnx_pipeline.partition.instance.build import build
from onnx_pipeline.partition.instance.contract import contract
from onnx_pipeline.partition.instance.instance import Instance
from tests.random_graphs import brute_force, solvable

Case = tuple[CostGraph, Target, int, Instance]


@pytest.mark.parametrize("chunk", range(4))
def test_ideal_search_is_exact(chunk: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """From either end, with and without contraction: a partition at the optimum, none below it."""
    # Tiny chunks pause and resume the enumeration all the time.
    monkeypatch.setattr(question, "CHUNK", 7)
    for i, (graph, target, k) in enumerate(solvable(500, 300 + chunk, 8)):
        optimum = brute_force(graph, target, k)
        inst = build(graph, target)
        if i % 2:
            inst = contract(inst)
        search = question.IdealSearch(inst, k, reverse=i % 4 < 2)
        answer = search.ask(optimum, 10**6, lambda: False)
        assert answer.stage_of is not None
        stage = inst.expand(answer.stage_of)
        assert not check_partition(graph, stage, k)
        assert bottleneck(graph, target, stage, k) == optimum
        assert search.ask(optimum - 1, 10**6, lambda: False).proved_none
