"""A minimisation over small integers, the same for every solver, and how long solvers may run.

Costs are divided by a scale and rounded down before they enter a model, so every partition of the real
instance satisfies the scaled rows and a bound of the model, scaled back, is one of the real instance.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, TypeVar

#: "Columns" of fixed value; rows fold them into their right-hand side.
ZERO = -1
ONE = -2

Term = tuple[int, int]  # (coefficient, column)
Answer = TypeVar("Answer")


class Outcome(NamedTuple):
    """What a solver says of a model, in units of the model.

    Attributes
    ----------
    bound : float
        Dual bound on the objective; 0 when the solver got nowhere, and above the objective's range when it
        proved that there is no solution at all.
    infeasible : bool
        There is no solution.
    optimal : bool
        It finished.
    """

    bound: float
    infeasible: bool
    optimal: bool


@dataclass(eq=False)
class LinearModel:
    """Integer columns, rows ``sum of coefficient * column <= limit``, one column to minimise.

    A known solution can travel along: each column has a hint, given when it is made.
    """

    lower: list[int] = field(default_factory=list)
    upper: list[int] = field(default_factory=list)
    hints: list[int] = field(default_factory=list)
    rows: list[tuple[list[int], list[int], int]] = field(default_factory=list)
    objective: int = -1
    contradiction: bool = False

    def column(self, upper: int = 1, hint: int = 0, lower: int = 0) -> int:
        """Add an integer column and return its index."""
        self.lower.append(lower)
        self.upper.append(upper)
        self.hints.append(hint)
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
        hint = max(0, *(self.value(e) for e in needed))
        column = self.column(hint=hint)
        for expression in needed:
            self.at_most([*expression, (-1, column)], 0)
        return column

    def value(self, terms: Iterable[Term]) -> int:
        """Evaluate a sum at the hints."""
        return sum(a * (self.hints[c] if c >= 0 else c == ONE) for a, c in terms)

    def _fold(self, terms: Sequence[Term]) -> list[Term]:
        constant = sum(a for a, c in terms if c == ONE)
        rest = [(a, c) for a, c in terms if c >= 0]
        return [*rest, (constant, ONE)] if constant else rest

    def _largest_value(self, terms: Iterable[Term]) -> int:
        return sum(a if c == ONE else max(0, a) for a, c in terms)

    def _smallest_value(self, terms: Iterable[Term]) -> int:
        return sum(a if c == ONE else min(0, a) for a, c in terms)


def run_interruptibly(
    solve: Callable[[], Answer], cancel: Callable[[], None], stop: Callable[[], bool], poll: float = 0.05
) -> Answer:
    """Run a solver in a thread of its own, so that ``stop`` and Ctrl-C reach it.

    Parameters
    ----------
    solve : callable
        Releases the interpreter lock while it works.
    cancel : callable
        Makes ``solve`` return soon; may be called again and again, also before or after it runs.
    stop : callable
        Asked every ``poll`` seconds in the calling thread.
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
            worker.join(poll)
            if worker.is_alive() and stop():
                cancel()
    finally:
        # After an exception here the solver must not go on behind the caller's back.
        while worker.is_alive():
            cancel()
            worker.join(poll)
    if errors:
        raise errors[0]
    return answers[0]
