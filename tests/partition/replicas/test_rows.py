"""What one number of devices learns serves the others."""

from __future__ import annotations

from fractions import Fraction
from itertools import pairwise

import numpy as np
import pytest

from onnx_pipeline import GraphBuilder, Target
from onnx_pipeline.graph.costgraph import CostGraph
from onnx_pipeline.graph.replicas import price_replicas
from onnx_pipeline.parameters import SearchParams
from onnx_pipeline.partition.replicas.rows import Rows

HARD = Target(memory=10, memory_mode="hard", activations=False)


@pytest.fixture
def graph() -> CostGraph:
    """Three nodes in a row that no device holds together."""
    builder = GraphBuilder("row")
    nodes = [builder.add_node(f"v{i}", work) for i, work in enumerate((6e9, 2e9, 4e9))]
    for i, (u, v) in enumerate(pairwise(nodes)):
        builder.add_net(f"t{i}", u, [v], nbytes=0)
    for node in nodes:
        builder.add_group(f"w{node}", 5, [node])
    return builder.build()


def test_stages_are_offered_to_all(graph: CostGraph) -> None:
    """Each number of devices has its own replicas of them; fewer devices than stages have none."""
    rows = Rows(graph, HARD, [1, 2, 3, 5], SearchParams())
    rows.offer(np.array([0, 0, 1]), "by hand")
    assert [known.replicas for known in rows.all] == [(), (1, 1), (2, 1), (3, 2)]
    for known in rows.all[1:]:
        assert known.period == price_replicas(graph, HARD, known.stage_of, known.replicas).period
        assert known.method == "by hand"


def test_bounds_serve_fewer_devices(graph: CostGraph) -> None:
    """Seven devices do at least as well as three times two, whose bound is three times theirs then."""
    rows = Rows(graph, HARD, [2, 4, 7, 8], SearchParams())
    rows.all[2].bound(Fraction(100), "ideals")
    rows.all[3].bound(Fraction(60), "simple")
    for known in rows.all:
        rows.bound(known)
    assert [known.lower for known in rows.all] == [300, 120, 100, 60]
    assert [known.bound_method for known in rows.all] == ["ideals", "simple", "ideals", "simple"]


def test_what_more_devices_cannot_hold_fewer_cannot(graph: CostGraph) -> None:
    """Not the other way round."""
    rows = Rows(graph, HARD, [1, 2, 4], SearchParams())
    rows.all[1].infeasible = True
    for known in rows.all:
        rows.bound(known)
    assert [known.infeasible for known in rows.all] == [True, True, False]


def test_a_plan_below_a_bound_stops_everything(graph: CostGraph) -> None:
    """One of the two is wrong."""
    rows = Rows(graph, HARD, [2], SearchParams())
    rows.all[0].bound(Fraction(10**12 * 10), "wrong")
    with pytest.raises(AssertionError, match="by wrong exceeds a plan of slicing"):
        rows.offer(np.array([0, 0, 1]), "slicing")
