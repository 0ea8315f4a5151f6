"""A result checked by code that did not make it."""

from __future__ import annotations

import dataclasses

import numpy as np

from benchmarks.generators import layered
from onnx_pipeline.graph.costgraph import CostGraph
from onnx_pipeline.graph.target import Target
from onnx_pipeline.partition.certificate import check
from onnx_pipeline.partition.instance.instance import Instance
from onnx_pipeline.partition.portfolio import partition
from onnx_pipeline.partition.result import Bound, Certificate
from tests.random_graphs import solvable

Case = tuple[CostGraph, Target, int, Instance]


def test_certificate_check_rejects_mutations() -> None:
    """Every wrong number or partition in a result is found."""
    graph, target, _ = next(solvable(1, 21))
    result = partition(graph, 2, target, time_limit=0.2)
    assert check(result.partition, result.certificate) == []
    n = graph.num_nodes
    for method in ("bottleneck", "simple"):
        wrong = Certificate((Bound(method, result.upper + 1),))
        assert check(result.partition, wrong) != [], method
    weak = next(bound for bound in result.bounds if bound.method == "simple")
    assert weak.ticks < result.upper  # or the next line shows nothing
    assert check(result.partition, Certificate((dataclasses.replace(weak, ticks=weak.ticks + 1),))) != []
    for stage_of in (np.full(n, 2), result.stage_of[:-1], np.arange(n)[::-1] % 2):
        other = dataclasses.replace(result.partition, stage_of=stage_of)
        assert check(other, result.certificate) != [], stage_of


def test_certificate_check_repeats_the_crossings() -> None:
    """A bound by crossings is found again, one a little above is not."""
    graph, target = layered(150, 6), Target(bandwidth=1e9)
    result = partition(graph, 6, target, time_limit=1, bounds=("windows", "crossings"), threads=1)
    found = {bound.method: bound for bound in result.bounds}
    assert found["crossings"].ticks > max(found[name].ticks for name in ("simple", "windows"))
    assert check(result.partition, result.certificate) == []
    forged = (found["crossings"].ticks + 9 * result.upper) // 10
    wrong = Certificate((dataclasses.replace(found["crossings"], ticks=forged),))
    assert check(result.partition, wrong) == ["the crossings bound cannot be reproduced"]
