"""The proving side: who computes each bound, and how far it is to be trusted."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.generators import layered
from onnx_pipeline.graph.target import Target
from onnx_pipeline.partition import proving
from onnx_pipeline.partition.incumbent import Incumbent
from onnx_pipeline.partition.instance.build import build
from onnx_pipeline.partition.proving import Proving
from onnx_pipeline.partition.result import Bound
from onnx_pipeline.partition.task import Task
from onnx_pipeline.stop import AnyOf, Deadline, GapReached


def proved(methods: set[str]) -> dict[str, Bound]:
    """Bounds of a small graph by method; everything in one stage is the partition to start from."""
    graph, target = layered(10, 3), Target(bandwidth=1e9)
    known = Incumbent(graph, target, 3)
    known.offer(np.zeros(graph.num_nodes, dtype=np.int64), "one stage")
    deadline = Deadline(6)
    stop = AnyOf(GapReached(known, 0.0), deadline)
    side = Proving(Task(build(graph, target), known), methods, 0, deadline, stop)
    for phase in (side.by_mincut, side.by_windows, side.by_crossings, side.by_ideals):
        phase()
    turns = side.turns()
    while not stop() and next(turns, stop) is None:
        pass
    return {bound.method: bound for bound in known.bounds}


def test_every_bound_says_who_proved_it() -> None:
    """Integer reasoning is exact, maximum flows included; what a solver of models says is a claim."""
    models = {"bottleneck", "guess", "mip", "cp-sat"}
    bounds = proved(models) | proved({"min-cut", "windows", "crossings", "ideals"})
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
    monkeypatch.setattr(proving, "EXACT_LIMIT", 5)
    bounds = proved({"windows", "crossings", "ideals"})
    assert set(bounds) == {"crossings"}
    assert (bounds["crossings"].solver, bounds["crossings"].exact) == (None, True)
