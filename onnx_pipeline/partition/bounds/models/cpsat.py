"""Solve a :class:`LinearModel` natively with CP-SAT: exact integer reasoning, hints, callbacks, a stop."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from ortools.sat.python import cp_model

from onnx_pipeline.partition.bounds.models.linear import LinearModel, Outcome, run_interruptibly
from onnx_pipeline.stop import never

#: The solver reports its integer bound as a float.
FLOAT_NOISE = 1e-6


def solve_cpsat(
    linear: LinearModel,
    time_limit: float,
    threads: int = 1,
    seed: int = 0,
    *,
    hint: bool = False,
    on_solution: Callable[[Callable[[int], int]], None] | None = None,
    on_bound: Callable[[int], None] | None = None,
    stop: Callable[[], bool] = never,
) -> Outcome:
    """Minimise; the bound is an integer.

    Parameters
    ----------
    linear : LinearModel
    time_limit : float
        Seconds.
    threads, seed : int
        0 threads: all cores.
    hint : bool
        Start from the columns' hints.
    on_solution : callable, optional
        Called in a solver thread with a function from column to value.
    on_bound : callable, optional
        Called in a solver thread with each better bound.
    stop : callable
        Asked about twenty times a second.
    """
    if linear.contradiction:
        return Outcome(linear.upper[linear.objective] + 1, infeasible=True, optimal=True)
    model = cp_model.CpModel()
    columns = [
        model.new_int_var(lower, upper, "") for lower, upper in zip(linear.lower, linear.upper, strict=True)
    ]
    for indices, coefficients, limit in linear.rows:
        members = [columns[i] for i in indices]
        model.add(cp_model.LinearExpr.weighted_sum(members, coefficients) <= limit)
    model.minimize(columns[linear.objective])
    if hint:
        for column, value in zip(columns, linear.hints, strict=True):
            model.add_hint(column, value)

    solver = cp_model.CpSolver()
    solver.parameters.max_time_in_seconds = max(0.01, time_limit)
    solver.parameters.num_workers = threads
    solver.parameters.random_seed = seed
    # The host program, not the solver, decides what Ctrl-C means.
    solver.parameters.catch_sigint_signal = False
    if on_bound is not None:
        report = on_bound
        solver.best_bound_callback = lambda bound: report(_whole(bound))
    callback = _Solutions(columns, on_solution) if on_solution is not None else None
    status = run_interruptibly(lambda: solver.solve(model, callback), solver.stop_search, stop)
    if status == cp_model.MODEL_INVALID:
        raise AssertionError(f"CP-SAT refuses the model: {model.validate()}")
    if status == cp_model.INFEASIBLE:
        return Outcome(linear.upper[linear.objective] + 1, infeasible=True, optimal=True)
    bound = _whole(solver.best_objective_bound)
    return Outcome(bound, infeasible=False, optimal=status == cp_model.OPTIMAL)


def _whole(bound: float) -> int:
    """Round an objective bound up to the integer that it stands for; costs are never negative."""
    return max(0, math.ceil(bound - FLOAT_NOISE)) if math.isfinite(bound) else 0


class _Solutions(cp_model.CpSolverSolutionCallback):
    """Hands every solution on."""

    def __init__(
        self,
        columns: Sequence[cp_model.IntVar],
        report: Callable[[Callable[[int], int]], None],
    ) -> None:
        super().__init__()
        self._columns = columns
        self._report = report

    def on_solution_callback(self) -> None:
        """Pass a reader of values."""
        self._report(lambda column: int(self.value(self._columns[column])))
