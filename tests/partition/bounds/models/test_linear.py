"""Models of small integers, and what solvers say of them."""

from __future__ import annotations

from onnx_pipeline.graph.costgraph import CostGraph
from onnx_pipeline.graph.target import Target
from onnx_pipeline.partition.bounds.models.cpsat import solve_cpsat
from onnx_pipeline.partition.bounds.models.highs import solve_highs
from onnx_pipeline.partition.bounds.models.linear import LinearModel, SolveParams
from onnx_pipeline.partition.instance.instance import Instance

Case = tuple[CostGraph, Target, int, Instance]


def test_constants_fold() -> None:
    """Rows without columns are decided at once."""
    model = LinearModel()
    model.objective = model.column(upper=3)
    model.at_most([(2, -2), (-1, -2)], 1)  # 2 - 1 <= 1
    assert not model.rows
    assert not model.contradiction
    assert solve_cpsat(model, SolveParams(5.0)).bound == 0
    model.at_most([(2, -2)], 1)
    for solve in (solve_cpsat, solve_highs):
        outcome = solve(model, SolveParams(5.0))
        assert outcome.infeasible
        assert outcome.bound > 3
