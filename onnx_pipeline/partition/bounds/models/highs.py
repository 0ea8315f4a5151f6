"""Solve a :class:`LinearModel` with HiGHS through MathOpt, in floating point; only its dual bound counts.

The bound is a numerical claim: what the solver calls its dual bound, less ``TOLERANCE`` of it. The primal
side of an "optimal" answer is never used, since solvers stop at a relative gap of 1e-4.
"""

from __future__ import annotations

import datetime
import math
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from onnx_pipeline.partition.bounds.models.linear import LinearModel, Outcome, SolveParams

#: Relative tolerance that is taken off every dual bound.
TOLERANCE = 1e-5
#: The largest stage cost is scaled to this, where absolute tolerances of 1e-6 do not matter.
MAGNITUDE = 1000.0


def solve_highs(linear: LinearModel, params: SolveParams) -> Outcome:
    """Minimise; the bound is in the model's units and already reduced by the tolerance.

    Raises
    ------
    RuntimeError
        If the solver fails.
    """
    from ortools.math_opt.python import mathopt

    largest = linear.upper[linear.objective]
    if linear.contradiction:
        return Outcome(largest + 1, infeasible=True)
    unit = MAGNITUDE / max(1, largest)
    model = mathopt.Model()
    columns = [
        model.add_variable(lb=lower, ub=upper, is_integer=upper == 1)
        for lower, upper in zip(linear.lower, linear.upper, strict=True)
    ]
    for indices, coefficients, limit in linear.rows:
        factor = unit if max(map(abs, coefficients)) > 1 else 1.0
        terms = (a * factor * columns[i] for i, a in zip(indices, coefficients, strict=True))
        model.add_linear_constraint(mathopt.fast_sum(terms) <= limit * factor)
    model.minimize(unit * columns[linear.objective])

    time_limit = datetime.timedelta(seconds=max(0.01, min(params.time_limit, params.effort)))
    with _silent_stdout():
        end = mathopt.solve(
            model, mathopt.SolverType.HIGHS, params=mathopt.SolveParameters(time_limit=time_limit)
        ).termination
    if end.reason == mathopt.TerminationReason.INFEASIBLE:
        return Outcome(largest * (1 - TOLERANCE), infeasible=True)
    dual = end.objective_bounds.dual_bound
    bound = max(0.0, dual) / unit * (1 - TOLERANCE) if math.isfinite(dual) else 0.0
    return Outcome(bound)


@contextmanager
def _silent_stdout() -> Iterator[None]:
    """Keep what native code prints away from stdout, where results of the command line go."""
    sys.stdout.flush()
    saved = os.dup(1)
    sink = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(sink, 1)
        yield
    finally:
        os.dup2(saved, 1)
        os.close(saved)
        os.close(sink)
