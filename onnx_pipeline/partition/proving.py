"""The proving side of a run: cheap bounds, then solver models and exact questions of growing effort."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterator
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from onnx_pipeline.partition.bounds.crossings import SHARES_LIMIT, Crossings, paid_once_bound
from onnx_pipeline.partition.bounds.mincut import mincut
from onnx_pipeline.partition.bounds.windows import Reach, reach_by_cuts, reach_by_sets, window_bound
from onnx_pipeline.partition.ideals.exhaustive import exhaust
from onnx_pipeline.partition.ideals.ladder import Ladder
from onnx_pipeline.partition.incumbent import Incumbent
from onnx_pipeline.partition.instance.instance import Instance
from onnx_pipeline.partition.result import Bound
from onnx_pipeline.partition.task import Task
from onnx_pipeline.stop import AnyOf, Asked, Deadline, Stop

if TYPE_CHECKING:
    from onnx_pipeline.partition.bounds.models.linear import SolveParams

#: Share of the time limit for windows and for crossings, and arcs that their maximum flows visit per second,
#: about: they end after so many flows, not by the clock.
FLOW_SHARE, FLOW_ARCS = 0.1, 3e6
#: Share of the time limit for each of the paper's MIPs, and the size up to which they are worth it.
MIP_SHARE = 0.1
MIP_LIMIT = 2_000
#: The exact search keeps bitsets of n^2 bits; above this size it is left out.
EXACT_LIMIT = 6_000
#: Size n k up to which the exact models are built, in CP-SAT and in HiGHS.
MODEL_LIMIT, MIP_MODEL_LIMIT = 20_000, 200_000


class Prover(NamedTuple):
    """Who computes a bound, and whether by exact integer reasoning or as a solver's claim."""

    solver: str | None
    exact: bool


ARITHMETIC = Prover(None, exact=True)
MAX_FLOW = Prover("ortools max-flow", exact=True)
CP_SAT = Prover("ortools CP-SAT", exact=False)
HIGHS = Prover("HiGHS", exact=False)


def prove(known: Incumbent, method: str, prover: Prover, bound: Callable[[], int]) -> None:
    """Compute a bound, and add it together with the time it took."""
    start = time.perf_counter()
    value = bound()
    known.bound(Bound(method, value, prover.exact, prover.solver, time.perf_counter() - start))


class Proving:
    """Raises the lower bound of a task.

    Parameters
    ----------
    task : Task
    wanted : collection of str
        Methods by name, out of :data:`onnx_pipeline.settings.BOUNDS`.
    seed : int
        Of the solvers.
    deadline : Deadline
        The run's, to share out what is left of it.
    stop : Stop
        Ends every method within about 50 ms, except HiGHS. What each may do before that is counted, so that
        one thread does the same in every run; only HiGHS goes by the clock.
    reach : Reach, optional
        Of the instance, where it is known.
    """

    def __init__(
        self,
        task: Task,
        wanted: Collection[str],
        seed: int,
        deadline: Deadline,
        stop: Stop,
        reach: Reach | None = None,
    ) -> None:
        self.task, self.inst, self.known = task, task.inst, task.known
        self.wanted = wanted
        self.seed = seed
        self.deadline = deadline
        self.stop = stop
        self.reach = reach
        self.ladder: Ladder | None = None

    def by_mincut(self) -> None:
        """Cheapest set around each node."""
        if "min-cut" in self.wanted:
            self._prove("min-cut", MAX_FLOW, lambda: mincut(self.inst, self.stop, self.known.upper))

    def by_windows(self) -> None:
        """Least limit at which every node has a stage."""
        if "windows" not in self.wanted or self.inst.n > EXACT_LIMIT:
            return
        pause = self._pause()

        def bound() -> int:
            self.reach = self.reach or reach_by_cuts(self.inst, reach_by_sets(self.inst), pause)
            return window_bound(self.inst, self.task.k, self.known.upper, self.reach)

        self._prove("windows", MAX_FLOW, bound)

    def by_ideals(self) -> None:
        """Exact questions, as far as they are cheap."""
        if "ideals" not in self.wanted or self.inst.n > EXACT_LIMIT:
            return
        self.ladder = Ladder(self.task, self.stop)
        for _ in range(2):
            self.ladder.round()

    def by_crossings(self) -> None:
        """What all stages pay together."""
        if "crossings" not in self.wanted:
            return
        inst, k, known = self.inst, self.task.k, self.known
        if inst.n > EXACT_LIMIT or inst.m * k > SHARES_LIMIT:
            self._prove("crossings", ARITHMETIC, lambda: min(paid_once_bound(inst, k), known.upper))
            return
        pause = self._pause()
        reach = self.reach or reach_by_sets(inst)
        self._prove(
            "crossings", MAX_FLOW, lambda: Crossings(inst, k, reach).bound(known.lower, known.upper, pause)
        )

    def by_exhaustion(self, full: Instance) -> None:
        """Every partition, where ideals and their bounds are not exact and the graph is small.

        Parameters
        ----------
        full : Instance
            Uncontracted.
        """
        known = self.known
        if not (known.exactly or full.need.any()):
            return
        start = time.perf_counter()
        best = exhaust(known.graph, known.target, known.stages, full, exactly=known.exactly, stop=self.stop)
        if best is None:
            return
        known.offer(best.stage_of, "exhaustion")
        method = "exactly" if known.exactly else "ideals"
        if method in self.wanted:
            known.bound(Bound(method, best.ticks, True, None, time.perf_counter() - start))

    def turns(self) -> Iterator[None]:
        """Solve each of the paper's models once, then ask exact questions of growing effort."""
        yield from self._models()
        length = 1.0
        models = "cp-sat" in self.wanted and self.inst.n * self.task.k <= MODEL_LIMIT
        while not self.stop() and (self.ladder or models):
            if self.ladder:
                self.ladder.round()
                yield
            if models and not self.stop():
                self._exact_model(length)
                length *= 3
                yield

    def _pause(self) -> Stop:
        """Stop after the maximum flows that a tenth of the time limit is for."""
        arcs = 4 * (self.inst.n + self.inst.m + len(self.inst.net_cons))
        return AnyOf(self.stop, Asked(FLOW_SHARE * self.deadline.seconds * FLOW_ARCS / arcs))

    def _prove(self, method: str, prover: Prover, bound: Callable[[], int]) -> None:
        prove(self.known, method, prover, bound)

    def _models(self) -> Iterator[None]:
        """The paper's MIPs; on large instances they have nothing to say within their share."""
        from onnx_pipeline.partition.bounds.models.bottleneck import bottleneck
        from onnx_pipeline.partition.bounds.models.exact import exact_highs
        from onnx_pipeline.partition.bounds.models.guess import bottleneck_guess

        inst, k, known = self.inst, self.task.k, self.known
        models: tuple[tuple[str, Prover, Callable[[SolveParams], int]], ...] = (
            ("bottleneck", CP_SAT, lambda params: bottleneck(inst, k, known.upper, params)),
            ("guess", CP_SAT, lambda params: bottleneck_guess(inst, k, known.upper, params)),
            ("mip", HIGHS, lambda params: exact_highs(inst, k, known.lower, known.upper, params)),
        )
        for name, prover, model in models:
            if name == "mip" and inst.n * k > MIP_MODEL_LIMIT:
                continue
            if name in self.wanted and inst.n <= MIP_LIMIT and not self.stop():
                # Nothing but models asked for: they may have all the time.
                share = MIP_SHARE if self.ladder else 0.5
                params = self._solving(share * self.deadline.seconds)
                self._prove(name, prover, partial(model, params))
                yield

    def _solving(self, effort: float) -> SolveParams:
        from onnx_pipeline.partition.bounds.models.linear import SolveParams

        return SolveParams(self.deadline.remaining, self.seed, self.stop, effort)

    def _exact_model(self, seconds: float) -> None:
        """Ask CP-SAT for something better than the incumbent, or a proof that there is nothing."""
        from onnx_pipeline.partition.bounds.models.exact import exact_cpsat

        params = self._solving(seconds)
        upper = self.known.upper

        def bound() -> int:
            answer = exact_cpsat(self.inst, self.task.k, self.known.lower, upper - 1, params)
            if answer.stage_of is not None:
                self.task.offer(answer.stage_of, "cp-sat")
            return min(answer.bound, upper)

        self._prove("cp-sat", CP_SAT, bound)
