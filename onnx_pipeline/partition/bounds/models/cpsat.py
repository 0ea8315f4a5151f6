"""Solve a :class:`LinearModel` natively with CP-SAT: exact integer reasoning, a solution, a stop."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable
from typing import TypeVar

from ortools.sat.python import cp_model

from onnx_pipeline.partition.bounds.models.linear import LinearModel, Outcome, SolveParams
from onnx_pipeline.stop import Stop

#: The solver reports its integer bound as a float.
FLOAT_NOISE = 1e-6
#: Seconds between two looks at the stopping criterion.
POLL = 0.05

Answer = TypeVar("Answer")


def solve_cpsat(linear: LinearModel, params: SolveParams) -> Outcome:
    """Minimise on one core; the bound is an integer."""
    if linear.contradiction:
        return Outcome(linear.upper[linear.objective] + 1, infeasible=True)
    model = cp_model.CpModel()
    columns = [
        model.new_int_var(lower, upper, "") for lower, upper in zip(linear.lower, linear.upper, strict=True)
    ]
    for indices, coefficients, limit in linear.rows:
        members = [columns[i] for i in indices]
        model.add(cp_model.LinearExpr.weighted_sum(members, coefficients) <= limit)
    model.minimize(columns[linear.objective])

    solver = cp_model.CpSolver()
    solver.parameters.max_time_in_seconds = max(0.01, params.time_limit)
    solver.parameters.max_deterministic_time = params.effort
    solver.parameters.num_workers = 1
    solver.parameters.random_seed = params.seed
    # The host program, not the solver, decides what Ctrl-C means.
    solver.parameters.catch_sigint_signal = False
    status = run_interruptibly(lambda: solver.solve(model), solver.stop_search, params.stop)
    effort = solver.deterministic_time
    if status == cp_model.MODEL_INVALID:
        raise AssertionError(f"CP-SAT refuses the model: {model.validate()}")
    if status == cp_model.INFEASIBLE:
        return Outcome(linear.upper[linear.objective] + 1, infeasible=True, effort=effort)
    solved = status in (cp_model.OPTIMAL, cp_model.FEASIBLE)
    values = [solver.value(column) for column in columns] if solved else None
    return Outcome(_whole(solver.best_objective_bound), values=values, effort=effort)


def _whole(bound: float) -> int:
    """Round an objective bound up to the integer that it stands for; costs are never negative."""
    return max(0, math.ceil(bound - FLOAT_NOISE)) if math.isfinite(bound) else 0


def run_interruptibly(solve: Callable[[], Answer], cancel: Callable[[], None], stop: Stop) -> Answer:
    """Run a solver in a thread of its own, so that ``stop`` and Ctrl-C reach it.

    Parameters
    ----------
    solve : callable
        Releases the interpreter lock while it works.
    cancel : callable
        Makes ``solve`` return soon; may be called again and again, also before or after it runs.
    stop : Stop
        Asked every ``POLL`` seconds in the calling thread.
    """
    answers: list[Answer] = []
    errors: list[BaseException] = []

    def work() -> None:
        try:
            answers.append(solve())
        except BaseException as error:  # handed to the caller below
            errors.append(error)

    worker = threading.Thread(target=work, daemon=True)
    worker.start()
    try:
        while worker.is_alive():
            worker.join(POLL)
            if worker.is_alive() and stop():
                cancel()
    finally:
        # After an exception here the solver must not go on behind the caller's back.
        while worker.is_alive():
            cancel()
            worker.join(POLL)
    if errors:
        raise errors[0]
    return answers[0]
