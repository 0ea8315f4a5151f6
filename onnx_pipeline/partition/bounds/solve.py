"""One call for every solver of a :class:`LinearModel`."""

from __future__ import annotations

from onnx_pipeline.errors import UsageError
from onnx_pipeline.partition.bounds.models.linear import LinearModel, Outcome

CP_SAT = "cp-sat"
HIGHS = "highs"
SCIP = "scip"
SOLVERS = (CP_SAT, HIGHS, SCIP)

#: Total of all scaled costs: large enough for five digits, small enough for solvers to stay exact and quick.
RESOLUTION = 10_000_000


def solve(model: LinearModel, solver: str, time_limit: float, threads: int = 1, seed: int = 0) -> Outcome:
    """Minimise a model with a solver of ``SOLVERS``.

    Raises
    ------
    UsageError
        If there is no such solver.
    """
    if solver == CP_SAT:
        from onnx_pipeline.partition.bounds.models.cpsat import solve_cpsat

        return solve_cpsat(model, time_limit, threads, seed)
    if solver not in SOLVERS:
        raise UsageError(f"no solver {solver!r}; there are {', '.join(SOLVERS)}")
    from onnx_pipeline.partition.bounds.models.mathopt import solve_mathopt

    return solve_mathopt(model, solver, time_limit, threads, seed)
