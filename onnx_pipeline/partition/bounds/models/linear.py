"""A minimisation over small integers, the same for every solver, and what solvers are told and say.

Costs are divided by a scale and rounded down before they enter a model, so every partition of the real
instance satisfies the scaled rows and a bound of the model, scaled back, is one of the real instance.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from onnx_pipeline.stop import Stop, never

#: "Columns" of fixed value; rows fold them into their right-hand side.
ZERO = -1
ONE = -2

Term = tuple[int, int]  # (coefficient, column)


@dataclass(frozen=True)
class SolveParams:
    """What a solver is told besides the model.

    Attributes
    ----------
    time_limit : float
        Seconds.
    seed : int
        Of CP-SAT; MathOpt fails when HiGHS is given one.
    stop : Stop
        Asked about twenty times a second while CP-SAT runs; nothing but its time limit stops HiGHS.
    effort : float
        Work allowed in CP-SAT's deterministic seconds, which no other load stretches.
    """

    time_limit: float = 10.0
    seed: int = 0
    stop: Stop = never
    effort: float = math.inf


class Outcome(NamedTuple):
    """What a solver reports on a model, in units of the model.

    Attributes
    ----------
    bound : float
        Dual bound on the objective; 0 when the solver found none, and above the objective's range when it
        proved that there is no solution.
    infeasible : bool
        Whether there is no solution.
    values : list of int, optional
        Of the columns in the best solution, if the solver is asked for one and found one.
    effort : float
        Work done, in deterministic seconds.
    """

    bound: float
    infeasible: bool = False
    values: list[int] | None = None
    effort: float = 0.0


@dataclass(eq=False)
class LinearModel:
    """Integer columns, rows ``sum of coefficient * column <= limit``, one column to minimise."""

    lower: list[int] = field(default_factory=list)
    upper: list[int] = field(default_factory=list)
    rows: list[tuple[list[int], list[int], int]] = field(default_factory=list)
    objective: int = -1
    contradiction: bool = False

    def column(self, upper: int = 1, lower: int = 0) -> int:
        """Add an integer column and return its index."""
        self.lower.append(lower)
        self.upper.append(upper)
        return len(self.lower) - 1

    def at_most(self, terms: Iterable[Term], limit: int) -> None:
        """Require that a sum stays within a limit; rows that always hold are left out."""
        columns: list[int] = []
        coefficients: list[int] = []
        largest = 0
        for coefficient, column in terms:
            if column == ONE:
                limit -= coefficient
            elif column != ZERO and coefficient:
                columns.append(column)
                coefficients.append(coefficient)
                largest += coefficient * (self.upper if coefficient > 0 else self.lower)[column]
        if largest > limit:
            if columns:
                self.rows.append((columns, coefficients, limit))
            else:
                self.contradiction = True

    def largest(self, expressions: Iterable[Sequence[Term]]) -> int:
        """Return a column that is at least each of the expressions of value <= 1, or a constant."""
        needed = [e for e in (self._fold(x) for x in expressions) if self._largest_value(e) > 0]
        if not needed:
            return ZERO
        if any(self._smallest_value(e) > 0 for e in needed):
            return ONE
        single = needed[0]
        if len(needed) == 1 and len(single) == 1 and single[0][0] == 1:
            return single[0][1]
        column = self.column()
        for expression in needed:
            self.at_most([*expression, (-1, column)], 0)
        return column

    def _fold(self, terms: Sequence[Term]) -> list[Term]:
        constant = sum(a for a, c in terms if c == ONE)
        rest = [(a, c) for a, c in terms if c >= 0]
        return [*rest, (constant, ONE)] if constant else rest

    def _largest_value(self, terms: Iterable[Term]) -> int:
        return sum(a if c == ONE else max(0, a) for a, c in terms)

    def _smallest_value(self, terms: Iterable[Term]) -> int:
        return sum(a if c == ONE else min(0, a) for a, c in terms)
