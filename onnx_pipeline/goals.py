"""How many devices: the fewest stages that reach a goal, and the proof that fewer cannot.

What is proved differs from goal to goal.

* *Rate.* A pipeline's rate is 1 / bottleneck, so a lower bound above 1 / rate rules a number of stages out.
* *Latency*, of one request alone, is the sum of all stages. Every partition pays at least all work, each
  tensor of the host once, one stage's overhead, and the overflow of all parameters beyond what its devices
  hold together. Only through memory do more devices lower that: without a binding limit one stage is fastest.
  A bound on the bottleneck says nothing about it, and partitions are searched for their bottleneck: between
  that floor and the latency of the partition found, a number of stages is neither reached nor ruled out.
* *Fit.* A proof that no partition keeps the hard memory limit rules a number of stages out.

Each can only get easier with more stages, so what rules k out rules out everything below; but not where no
stage may stay empty.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from onnx_pipeline.parameters import Parameters

if TYPE_CHECKING:
    from onnx_pipeline.rows import Row


#: Floats of a period and of a rate may miss a product of one by this much.
CLOSE = 1 + 1e-12


@dataclass(frozen=True)
class Goals(Parameters):
    """What a number of stages is chosen for; all that are given must be reached.

    Attributes
    ----------
    for_rate : float, optional
        Requests per second.
    for_latency : float or str, optional
        Seconds that one request may take, also as ``"50ms"``.
    fit : float or str, optional
        Bytes that no stage may exceed, also as ``"8GiB"``.
    """

    for_rate: float | None = None
    for_latency: float | str | None = None
    fit: float | str | None = None

    def __bool__(self) -> bool:
        """Whether there is any goal."""
        return any(goal is not None for goal in (self.for_rate, self.for_latency, self.fit))

    def to_json(self) -> dict[str, Any]:
        """Return those that are given."""
        given = {"rate": self.for_rate, "latency": self.for_latency, "fit": self.fit}
        units = {"rate": "rate_per_second", "latency": "latency_seconds", "fit": "memory_bytes"}
        return {units[name]: value for name, value in given.items() if value is not None}


@dataclass(frozen=True)
class Answer:
    """The fewest stages that reach a goal on one target.

    Attributes
    ----------
    stages : int or None
        None if no row does.
    ruled_out : int
        So many stages, and fewer, provably do not; 0 if nothing is ruled out.
    proof : str
        What rules them out: ``"rate"``, ``"latency"`` or ``"memory"``, empty if nothing is.
    proved_seconds : float or None
        Lower bound of the bottleneck or of the latency that does.
    forever : bool
        Whether it rules out every number of stages, also beyond those asked for.
    """

    stages: int | None
    ruled_out: int = 0
    proof: str = ""
    proved_seconds: float | None = None
    forever: bool = False

    @property
    def proved(self) -> bool:
        """Whether one stage fewer is ruled out."""
        return self.stages is not None and self.stages == self.ruled_out + 1

    def to_json(self) -> dict[str, Any]:
        """Return an entry of ``answers``."""
        return {
            "stages": self.stages,
            "fewest": self.proved,
            "ruled_out": self.ruled_out,
            "proof": self.proof or None,
            "proved_seconds": self.proved_seconds,
            "for_any_number": self.forever,
        }


def answer(goals: Goals, rows: Sequence[Row]) -> Answer:
    """Return the fewest stages of some rows, ascending and for one target, that reach all goals."""
    stages = next((row.stages for row in rows if _reached(goals, row)), None)
    best = Answer(stages)
    for row in rows:
        if stages is not None and row.stages >= stages:
            break
        for proof, seconds, forever in _impossible(goals, row):
            best = Answer(stages, row.stages, proof, seconds, forever)
            break
        else:
            if row.result is not None and row.result.partition.exactly:
                break  # no stage may be empty: a proof for more stages says nothing of these
    return best


def _reached(goals: Goals, row: Row) -> bool:
    """Whether a row's partition does what is asked; the hard limit of ``fit`` holds for every partition."""
    if row.result is None:
        return False
    rate, latency = goals.for_rate, goals.for_latency
    slow = rate is not None and row.bottleneck_seconds is not None and _above(row.bottleneck_seconds, rate)
    late = latency is not None and row.latency_seconds is not None and _later(row.latency_seconds, latency)
    return not (slow or late)


def _impossible(goals: Goals, row: Row) -> Iterator[tuple[str, float | None, bool]]:
    """Yield what rules a row out, the time it proves, and whether it holds for every number of stages."""
    if row.refusal is not None and row.refusal.proved and row.refusal.reason == "memory":
        yield "memory", None, False
    if goals.for_rate is not None:
        for bound in () if row.result is None else row.result.bounds:
            # The others depend on the number of stages.
            if bound.method == "min-cut" and _above(bound.seconds, goals.for_rate):
                yield "rate", bound.seconds, True
        if row.lower_bound_seconds is not None and _above(row.lower_bound_seconds, goals.for_rate):
            yield "rate", row.lower_bound_seconds, False
    if goals.for_latency is not None:
        if _later(row.least_latency_ever_seconds, goals.for_latency):
            yield "latency", row.least_latency_ever_seconds, True
        elif _later(row.least_latency_seconds, goals.for_latency):
            yield "latency", row.least_latency_seconds, False


def _above(seconds: float, rate: float) -> bool:
    """Whether a period is too long for a rate."""
    return seconds * rate > CLOSE


def _later(seconds: float, limit: float | str) -> bool:
    """Whether a latency is beyond a limit."""
    return seconds > float(limit) * CLOSE
