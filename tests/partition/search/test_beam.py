"""The beam over ideals."""

from __future__ import annotations

from onnx_pipeline.graph.costgraph import CostGraph
from onnx_pipeline.graph.objective import bottleneck, check_partition
from onnx_pipeline.graph.target import Target
from onnx_pipeline.partition.ideals import question
from onnx_pipeline.partition.instance.build import build
from onnx_pipeline.partition.instance.instance import Instance
from onnx_pipeline.partition.search.beam import beam
from onnx_pipeline.stop import never
from tests.random_graphs import brute_force, solvable

Case = tuple[CostGraph, Target, int, Instance]


def test_beam_finds_partitions() -> None:
    """What the beam returns is valid and within the limit, and it mostly finds the optimum."""
    found = tried = 0
    for graph, target, k in solvable(150, 91, 8):
        inst = build(graph, target)
        if (inst.pin >= 0).any():
            continue
        optimum = brute_force(graph, target, k)
        search = question.IdealSearch(inst, k, reverse=tried % 2 == 1)
        assert beam(search, optimum - 1, 0.5, never) is None
        stage = beam(search, optimum, 0.5, never)
        tried += 1
        if stage is not None:
            found += 1
            assert not check_partition(graph, inst.expand(stage), k)
            assert bottleneck(graph, target, inst.expand(stage), k) == optimum
    assert found > 0.8 * tried > 80
