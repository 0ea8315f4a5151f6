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
from onnx_pipeline.partition.result import Bound
from tests.random_graphs import solvable

Case = tuple[CostGraph, Target, int, Instance]


def test_certificate_check_rejects_mutations() -> None:
    """Every wrong number or partition in a result is found."""
    graph, target, _ = next(solvable(1, 21))
    result = partition(graph, 2, target, time_limit=0.2)
    assert check(result) == []
    n = graph.num_nodes
    best = result.lower_ns
    for wrong in (
        {"upper_ns": result.upper_ns - 1},
        {"upper_ns": result.upper_ns + 1},
        {"bounds": (Bound("bottleneck", result.upper_ns + 1),)},
        {"bounds": (Bound("simple", result.upper_ns),)} if best < result.upper_ns else {"upper_ns": 0},
        {"stage_of": np.full(n, 2)},
        {"stage_of": result.stage_of[:-1]},
        {"stage_of": np.arange(n)[::-1] % 2},
    ):
        assert check(dataclasses.replace(result, **wrong)) != [], wrong


def test_certificate_check_repeats_the_crossings() -> None:
    """A bound by crossings is found again, one a little above is not."""
    graph, target = layered(150, 6), Target(bandwidth=1e9)
    result = partition(graph, 6, target, time_limit=1, bounds=("windows", "crossings"), threads=1)
    found = {bound.method: bound for bound in result.bounds}
    assert found["crossings"].nanoseconds > max(found[name].nanoseconds for name in ("simple", "windows"))
    assert check(result) == []
    forged = (found["crossings"].nanoseconds + 9 * result.upper_ns) // 10
    wrong = dataclasses.replace(result, bounds=(dataclasses.replace(found["crossings"], nanoseconds=forged),))
    assert check(wrong) == ["the crossings bound cannot be reproduced"]
