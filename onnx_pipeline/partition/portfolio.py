"""The search: cheap bounds, good orders, evolution and solver bounds, until the gap closes or time is up."""

from __future__ import annotations

import itertools
import os
import time
from collections.abc import Callable, Collection, Iterator
from concurrent.futures import ThreadPoolExecutor, wait

import numpy as np

from onnx_pipeline.errors import Advice, InfeasibleError, UsageError
from onnx_pipeline.graph.costgraph import CostGraph, IntArray
from onnx_pipeline.graph.objective import countable
from onnx_pipeline.graph.target import INFEASIBLE, Target
from onnx_pipeline.parameters import SearchParams
from onnx_pipeline.partition.bounds.crossings import Crossings, paid_once_bound
from onnx_pipeline.partition.bounds.mincut import mincut
from onnx_pipeline.partition.bounds.simple import simple
from onnx_pipeline.partition.bounds.windows import Reach, reach_by_cuts, reach_by_sets, window_bound
from onnx_pipeline.partition.ideals.ladder import Ladder
from onnx_pipeline.partition.ideals.question import IdealSearch
from onnx_pipeline.partition.incumbent import Incumbent
from onnx_pipeline.partition.instance.build import build
from onnx_pipeline.partition.instance.coarsen import coarsen
from onnx_pipeline.partition.instance.contract import contract
from onnx_pipeline.partition.instance.instance import Instance
from onnx_pipeline.partition.kernels import ensure_compiled
from onnx_pipeline.partition.result import Bound, PartitionResult
from onnx_pipeline.partition.search import slicing, tapes
from onnx_pipeline.partition.search.annealing import Annealer
from onnx_pipeline.partition.search.beam import descend
from onnx_pipeline.partition.search.brkga import brkga
from onnx_pipeline.partition.search.orders import order_of, starting_orders
from onnx_pipeline.progress import Progress, silent
from onnx_pipeline.settings import check
from onnx_pipeline.stop import AnyOf, Deadline, GapReached

#: Those of :data:`onnx_pipeline.settings.BOUNDS` that are computed unless others are asked for.
DEFAULT_BOUNDS = frozenset(("simple", "min-cut", "windows", "crossings", "ideals", "bottleneck", "cp-sat"))
#: Share of the time left for the bottleneck MIP, and the sizes up to which it and BRKGA are worth it.
MIP_SHARE = 0.1
MIP_LIMIT = 2_000
EVOLVE_LIMIT = 3_000
#: The exact search keeps bitsets of n^2 bits; above this size it is left out.
EXACT_LIMIT = 6_000
#: Size n k up to which the exact CP-SAT model is built.
MODEL_LIMIT = 20_000
#: Instances above this size are sliced at the borders of runs.
COARSE_LIMIT = 4_000


def partition(
    graph: CostGraph,
    stages: int,
    target: Target | None = None,
    *,
    time_limit: float = 10.0,
    gap: float = 0.0,
    seed: int = 0,
    threads: int | None = None,
    exactly: bool = False,
    bounds: Collection[str] | None = None,
    progress: Progress = silent,
) -> PartitionResult:
    """Partition a cost graph into pipeline stages and certify the result.

    Parameters
    ----------
    graph : CostGraph
    stages : int
        Number of stages k >= 1; some may stay empty.
    target : Target, optional
        Devices and links; default: free transfers, unlimited memory.
    time_limit : float
        Seconds of wall time for search and certificate together.
    gap : float
        Stop as soon as this gap is proved; 0 asks for a proof of optimality.
    seed : int
        Same seed, one thread and no time limit reached: same partition.
    threads : int, optional
        With two or more, searching and proving run side by side; default: all cores.
    exactly : bool
        Leave no stage empty. The bound stays that of at most ``stages`` stages.
    bounds : collection of str, optional
        Certificates to compute, out of :data:`onnx_pipeline.settings.BOUNDS`; by default those of
        ``DEFAULT_BOUNDS``.
    progress : Progress

    Returns
    -------
    PartitionResult
        After a KeyboardInterrupt, the best so far with ``interrupted`` set.

    Raises
    ------
    UsageError
        If a parameter is out of range, or a pin is beyond the last stage.
    InfeasibleError
        If no partition meets the pins, the hard memory limit or the exact number of stages.

    References
    ----------
    Archer et al. 2024, sections 4 and 5.
    """
    params = SearchParams(time_limit, gap, seed, threads, exactly, bounds)
    return solve(graph, stages, target or Target(), params, progress)


def solve(
    graph: CostGraph, stages: int, target: Target, params: SearchParams, progress: Progress = silent
) -> PartitionResult:
    """Partition and certify, as :func:`partition` does, with a parameter object."""
    stages = check("stages", stages)
    ensure_compiled(progress)
    graph = countable(graph, target, stages)
    known = Incumbent(graph, target, stages, progress)
    if not (graph.pinned >= 0).any():
        known.offer(np.zeros(graph.num_nodes, dtype=np.int64), "one stage")
    elif int(graph.pinned.max()) >= stages:
        name = graph.node_names[int(graph.pinned.argmax())]
        raise UsageError(f"node {name!r} is pinned to stage {graph.pinned.max()}, beyond {stages - 1}")
    search = _Search(known, params)
    interrupted = False
    try:
        search.run()
    except KeyboardInterrupt:
        interrupted = True
    if params.exactly:
        search.fill_stages()
    if known.upper >= INFEASIBLE:
        raise _infeasible(graph, target, stages, known.lower >= INFEASIBLE)
    return known.result(params.seed, interrupted)


def _infeasible(graph: CostGraph, target: Target, stages: int, proved: bool) -> InfeasibleError:
    total = int(graph.group_bytes[np.diff(graph.group_ptr) > 0].sum())
    certainty = "no partition" if proved or total > stages * target.memory else "no partition was found that"
    held = "the parameters and live activations" if target.activations else "the parameters"
    return InfeasibleError(
        f"{certainty} keeps {held} of every stage within {target.memory:.0f} bytes "
        f"({total} bytes of parameters in all, {stages} stages)",
        Advice("allow more stages, more memory, or {memory_mode}", memory_mode="overflow"),
    )


class _Search:
    """One run: cheap phases in order, then searching and proving, in turns or in two threads."""

    def __init__(self, known: Incumbent, params: SearchParams) -> None:
        self.known = known
        self.wanted = DEFAULT_BOUNDS if params.bounds is None else frozenset(params.bounds)
        self.seed = params.seed
        self.threads = params.threads or os.cpu_count() or 1
        self.deadline = Deadline(params.time_limit)
        self.criterion = AnyOf(GapReached(params.gap), self.deadline)
        self.cancelled = False
        self.rng = np.random.default_rng(params.seed)
        self.k = known.stages
        self.full = build(known.graph, known.target)
        self._timed("simple", lambda: simple(self.full, self.k))
        self.inst: Instance = contract(self.full, self.stop)
        self.arrays = tapes.arrays(self.inst)
        # One original node of each instance node, to translate partitions back.
        self._first = np.unique(self.inst.node_of, return_index=True)[1]
        self.orders: list[IntArray] = []
        self.reach: Reach | None = None
        self.ladder: Ladder | None = None

    def stop(self) -> bool:
        """Whether gap, time or the user say stop."""
        return self.cancelled or self.criterion(self.known.upper, self.known.lower)

    def run(self) -> None:
        """Run all phases."""
        for phase in (self._start, self._mincut, self._windows, self._prove_cheaply, self._crossings):
            if self.stop() or not self.inst.n:
                return
            phase()
        if self.stop():
            return
        if self.threads > 1:
            self._in_parallel()
        else:
            self._in_turns()

    def _in_turns(self) -> None:
        """Search and prove alternately, each turn longer than the one before."""
        searching, proving = self._searching(), self._proving()
        for turn in itertools.count():
            if self.stop():
                return
            next(searching)
            if turn % 2 and not self.stop():
                next(proving, None)

    def _in_parallel(self) -> None:
        """Search in one thread and prove in another; kernels and solvers release the interpreter lock."""

        def drain(steps: Iterator[None]) -> None:
            for _ in steps:
                if self.stop():
                    return

        with ThreadPoolExecutor(2) as pool:
            futures = [pool.submit(drain, steps) for steps in (self._searching(), self._proving())]
            try:
                for future in futures:
                    while not future.done():
                        wait([future], timeout=0.1)
                    future.result()
            finally:
                # Whatever ends this block, Ctrl-C included, ends both threads within a kernel call.
                self.cancelled = True

    def fill_stages(self) -> None:
        """Replace the partition by the best one found that leaves no stage empty."""
        if self.known.used == self.k:
            return
        # Contraction may have merged what must part now.
        full = self.full
        g = tapes.arrays(full)
        first = np.unique(full.node_of, return_index=True)[1]
        orders = [order_of(g, self.known.stage_of[first])]
        orders += [order for _, order in starting_orders(g, self.rng)]
        low, high = self.known.lower, self.known.upper
        self.known.forget()
        for order in orders:
            ends = np.zeros(self.k, dtype=np.int64)
            if slicing.slice_exactly(tapes.make_tape(g, order), self.k, low, high, ends):
                self.known.offer(full.expand(slicing.stages_of(order, ends, self.k)), "exactly k")
        if not len(self.known.stage_of):
            raise InfeasibleError(
                f"{self.k} stages cannot all be filled: the graph has {full.n} nodes or groups of nodes"
            )

    def _searching(self) -> Iterator[None]:
        """Improve the partition: annealing most of the time, a beam over ideals, evolution."""
        annealer = Annealer(self.inst, self.k, self.seed)
        length = 0.2
        while True:
            self._anneal(annealer, self._pause(2 * length))
            yield
            if self.ladder and not (self.inst.pin >= 0).any():
                self._beam(self.ladder.searches[0], self._pause(length / 2))
                yield
            if self.inst.n <= EVOLVE_LIMIT:
                self._evolve(self._pause(length))
                yield
            length *= 1.5

    def _proving(self) -> Iterator[None]:
        """Raise the bound: one solver model for the record, then exact questions of growing effort."""
        yield from self._bottleneck()
        length = 1.0
        models = "cp-sat" in self.wanted and self.inst.n * self.k <= MODEL_LIMIT
        while self.ladder or models:
            if self.ladder:
                self.ladder.round()
                yield
            if models and not self.stop():
                self._exact_model(length)
                length *= 3
                yield

    def _pause(self, seconds: float) -> Callable[[], bool]:
        turn = Deadline(seconds)
        return lambda: self.stop() or turn(0, 0)

    def _start(self) -> None:
        for name, order in starting_orders(self.arrays, self.rng):
            self.orders.append(order)
            self._offer(order, name)
            if self.stop():
                return

    def _offer(self, order: IntArray, method: str) -> None:
        """Slice an order, on large graphs at the borders of its runs, and offer the partition."""
        inst, g = self.inst, self.arrays
        if inst.n > COARSE_LIMIT:
            inst = coarsen(self.inst, self.arrays, order)
            g, order = tapes.arrays(inst), np.arange(inst.n)
        low, high = max(self.known.lower, 1), self.known.upper - 1
        ends = np.zeros(self.k, dtype=np.int64)
        if high > 4 * low:
            # A pass at a large limit is quadratic: come from below.
            found, _ = slicing.evaluate(g, order, self.k, low, low + low // 50, 2 * low, ends)
        else:
            found, _ = slicing.slice_order(tapes.make_tape(g, order), self.k, low, high, ends)
        self.known.evaluations += 1
        if found:
            self.known.offer(inst.expand(slicing.stages_of(order, ends, found)), method)

    def _mincut(self) -> None:
        if "min-cut" not in self.wanted:
            return
        self._timed(
            "min-cut",
            lambda: mincut(self.inst, lambda: self.deadline(0, 0), self.known.upper),
            solver="ortools max-flow",
        )

    def _windows(self) -> None:
        if self.inst.n > EXACT_LIMIT or "windows" not in self.wanted:
            return
        start = time.perf_counter()
        pause = self._pause(0.1 * self.deadline.remaining)
        self.reach = reach_by_cuts(self.inst, reach_by_sets(self.inst), pause)
        self._timed(
            "windows",
            lambda: window_bound(self.inst, self.k, self.known.upper, self.reach),
            "ortools max-flow",
            time.perf_counter() - start,
        )

    def _crossings(self) -> None:
        if "crossings" not in self.wanted:
            return
        if self.inst.n > EXACT_LIMIT:
            self._timed("crossings", lambda: min(paid_once_bound(self.inst, self.k), self.known.upper))
            return
        pause = self._pause(0.1 * self.deadline.remaining)
        reach = self.reach or reach_by_sets(self.inst)
        known = self.known
        self._timed(
            "crossings",
            lambda: Crossings(self.inst, self.k, reach).bound(known.lower, known.upper, pause),
            "ortools max-flow",
        )

    def _prove_cheaply(self) -> None:
        if self.inst.n <= EXACT_LIMIT and "ideals" in self.wanted:
            self.ladder = Ladder(self.inst, self.known, self.stop)
            for _ in range(2):
                self.ladder.round()

    def _bottleneck(self) -> Iterator[None]:
        """The paper's MIPs; on large instances they have nothing to say within their share."""
        from onnx_pipeline.partition.bounds.models.bottleneck import bottleneck
        from onnx_pipeline.partition.bounds.models.exact_mip import exact_mip
        from onnx_pipeline.partition.bounds.models.guess import bottleneck_guess

        inst, k, known = self.inst, self.k, self.known
        for name, solver, model in (
            ("bottleneck", "ortools CP-SAT", lambda t: bottleneck(inst, k, t, known.upper, 1, self.seed)),
            ("guess", "ortools CP-SAT", lambda t: bottleneck_guess(inst, k, t, known.upper, 1, self.seed)),
            ("mip", "HiGHS", lambda t: exact_mip(inst, k, known.lower, known.upper, t)),
        ):
            if name in self.wanted and inst.n <= MIP_LIMIT and not self.stop():
                # Nothing but models asked for: they may have all the time.
                share = MIP_SHARE if self.ladder else 0.5
                limit = share * self.deadline.remaining
                self._timed(name, lambda model=model, limit=limit: model(limit), solver)  # type: ignore[misc]
                yield

    def _exact_model(self, seconds: float) -> None:
        """Ask CP-SAT for something better than the incumbent, or a proof that there is nothing."""
        from onnx_pipeline.partition.bounds.models.exact_cpsat import exact_cpsat

        start = time.perf_counter()
        upper = self.known.upper
        answer = exact_cpsat(
            self.inst,
            self.k,
            self.known.lower,
            upper - 1,
            time_limit=min(seconds, self.deadline.remaining),
            threads=1,
            seed=self.seed,
            stop=self.stop,
        )
        if answer.stage_of is not None:
            self.known.offer(self.inst.expand(answer.stage_of), "cp-sat")
        wall = time.perf_counter() - start
        self.known.bound(Bound("cp-sat", min(answer.bound, upper), False, "ortools CP-SAT", wall))

    def _anneal(self, annealer: Annealer, stop: Callable[[], bool]) -> None:
        annealer.turn(
            self.known.stage_of[self._first],
            self.known.lower,
            self.known.upper,
            lambda stage: self.known.offer(self.inst.expand(stage), "anneal"),
            stop,
        )

    def _beam(self, search: IdealSearch, stop: Callable[[], bool]) -> None:
        known = self.known
        descend(
            search,
            lambda: known.lower,
            lambda: known.upper,
            lambda stage: known.offer(self.inst.expand(stage), "beam"),
            stop,
        )

    def _evolve(self, stop: Callable[[], bool]) -> None:
        def improved(value: int, order: IntArray) -> None:
            self._offer(order, "brkga")

        self.known.evaluations += brkga(
            self.arrays, self.k, self.known.lower, self.orders, self.known.upper, self.rng, improved, stop
        )

    def _timed(
        self, method: str, run: Callable[[], int], solver: str | None = None, spent: float = 0.0
    ) -> None:
        start = time.perf_counter() - spent
        value = run()
        # Maximum flows are exact integer arithmetic; models are a solver's claim.
        exact = solver is None or "max-flow" in solver
        self.known.bound(Bound(method, value, exact, solver, time.perf_counter() - start))
