"""The proving side: who computes each bound, and how far it is to be trusted."""

from __future__ import annotations

import pytest

from benchmarks.generators import layered
from onnx_pipeline.graph.target import Target
from onnx_pipeline.partition import proving
from onnx_pipeline.partition.incumbent import Incumbent
from onnx_pipeline.partition.instance.build import build
from onnx_pipeline.partition.proving import Proving
from onnx_pipeline.partition.result import Bound
from onnx_pipeline.partition.task import Task
from onnx_pipeline.stop import Deadline, never


def proved(methods: set[str]) -> dict[str, Bound]:
    """Bounds of a graph that none of them closes, by method."""
    graph, target = layered(24, 4), Target(bandwidth=1e9)
    known = Incumbent(graph, target, 3)
    known.offer([0] * graph.num_nodes, "one stage")
    side = Proving(Task(build(graph, target), known), methods, 0, Deadline(20), never)
    for phase in (side.by_mincut, side.by_windows, side.by_ideals, side.by_crossings):
        phase()
    for _ in zip(side.turns(), range(4), strict=False):
        pass
    return {bound.method: bound for bound in known.bounds}


def test_every_bound_says_who_proved_it() -> None:
    """Integer reasoning is exact, maximum flows included; what a solver of models says is a claim."""
    models = {"bottleneck", "guess", "mip", "cp-sat"}
    bounds = proved(models | {"min-cut", "windows", "crossings", "ideals"})
    solvers = {method: bound.solver for method, bound in bounds.items()}
    assert solvers == {
        "min-cut": "ortools max-flow",
        "windows": "ortools max-flow",
        "crossings": "ortools max-flow",
        "ideals": None,
        "bottleneck": "ortools CP-SAT",
        "guess": "ortools CP-SAT",
        "cp-sat": "ortools CP-SAT",
        "mip": "HiGHS",
    }
    assert {method for method, bound in bounds.items() if not bound.exact} == models


def test_only_what_is_wanted() -> None:
    """Bounds that nobody asks for are not computed."""
    assert set(proved({"min-cut"})) == {"min-cut"}
    assert proved(set()) == {}


def test_large_instances_are_left_to_arithmetic(monkeypatch: pytest.MonkeyPatch) -> None:
    """Above the limit of the exact search, crossings need no maximum flow, and windows are left out."""
    monkeypatch.setattr(proving, "EXACT_LIMIT", 10)
    bounds = proved({"windows", "crossings", "ideals"})
    assert set(bounds) == {"crossings"}
    assert (bounds["crossings"].solver, bounds["crossings"].exact) == (None, True)
