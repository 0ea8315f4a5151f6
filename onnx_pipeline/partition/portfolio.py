"""The search: cheap bounds, good orders, evolution and solver bounds, until the gap closes or time is up."""

from __future__ import annotations

import itertools
import os
import time
from collections.abc import Collection, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass
from threading import Event
from typing import TYPE_CHECKING

import numpy as np

from onnx_pipeline.errors import Advice, InfeasibleError, UsageError
from onnx_pipeline.figures import format_bytes, format_count, rounded_bytes
from onnx_pipeline.graph.constraints import NO_DEMANDS
from onnx_pipeline.graph.costgraph import CostGraph, IntArray
from onnx_pipeline.graph.objective import countable, useful_stages
from onnx_pipeline.graph.target import INFEASIBLE, Target
from onnx_pipeline.parameters import PathLike, SearchParams, as_target
from onnx_pipeline.partition.bounds.simple import simple
from onnx_pipeline.partition.bounds.windows import Reach
from onnx_pipeline.partition.incumbent import Incumbent
from onnx_pipeline.partition.instance.build import build
from onnx_pipeline.partition.instance.contract import contract
from onnx_pipeline.partition.instance.instance import Instance
from onnx_pipeline.partition.kernels import ensure_compiled
from onnx_pipeline.partition.least import Least, least_memory
from onnx_pipeline.partition.proving import ARITHMETIC, Proving, prove
from onnx_pipeline.partition.result import PartitionResult
from onnx_pipeline.partition.search.exactly import place
from onnx_pipeline.partition.searching import Searching
from onnx_pipeline.partition.task import Task
from onnx_pipeline.progress import Progress, ProgressLike, shows_progress, silent
from onnx_pipeline.settings import check
from onnx_pipeline.stop import AnyOf, Deadline, GapReached, Stop, is_interrupt

if TYPE_CHECKING:
    from onnx_pipeline.costmodel.devices import Device

#: Those of :data:`onnx_pipeline.settings.BOUNDS` that are computed unless others are asked for.
DEFAULT_BOUNDS = frozenset(
    ("simple", "min-cut", "windows", "crossings", "ideals", "bottleneck", "cp-sat", "exactly")
)


@shows_progress("searching")
def partition(
    graph: CostGraph,
    stages: int,
    target: Target | Device | PathLike | None = None,
    *,
    time_limit: float = 10.0,
    gap: float = 0.0,
    seed: int = 0,
    threads: int | None = None,
    exactly: bool = False,
    bounds: Collection[str] | None = None,
    pins: Mapping[str, int] | None = None,
    together: Iterable[Collection[str]] = (),
    no_cut: Collection[str] = (),
    progress: ProgressLike = silent,
) -> PartitionResult:
    """Partition a cost graph into pipeline stages and certify the result.

    Parameters
    ----------
    graph : CostGraph
    stages : int
        Number of stages k >= 1; some may stay empty.
    target : Target, Device, str or path-like, optional
        Devices and links, a device also by name or as a TOML file; default: free transfers, unlimited memory.
    time_limit : float
        Time limit in seconds, proofs included.
    gap : float
        Stop once this gap is proved; 0 asks for a proof of optimality.
    seed : int
        Same seed, one thread and no time limit reached: same partition.
    threads : int, optional
        With two or more, searching and proving run side by side; default: all cores.
    exactly : bool
        Leave no stage empty. Bounds are those of at most ``stages`` stages, except ``"exactly"``, which
        small graphs have.
    bounds : collection of str, optional
        Bounds to compute, out of :data:`onnx_pipeline.settings.BOUNDS`; by default those of
        ``DEFAULT_BOUNDS``.
    pins : mapping of str to int, optional
        Stage, counted from 0, that a node must be in. The names here and below may be patterns
        (``encoder/*``).
    together : iterable of collections of str
        Groups of nodes that must share a stage.
    no_cut : collection of str
        Tensors that must not cross a stage border.
    progress : Progress

    Returns
    -------
    PartitionResult
        After a KeyboardInterrupt, the best so far with ``interrupted`` set.

    Raises
    ------
    UsageError
        If a parameter is out of range or of the wrong kind, a name is unknown, or a pin is beyond the last
        stage.
    InfeasibleError
        If no partition meets the pins, the hard memory limit or the exact number of stages.

    References
    ----------
    Archer et al. 2024, sections 4 and 5.
    """
    params = SearchParams(time_limit, gap, seed, threads, exactly, bounds)
    graph = NO_DEMANDS.joined(pins, together, no_cut).apply(graph)
    return solve(graph, stages, as_target(target, graph), params, progress)


def solve(
    graph: CostGraph,
    stages: int,
    target: Target,
    params: SearchParams,
    progress: Progress = silent,
    *,
    given: IntArray | None = None,
) -> PartitionResult:
    """Partition and certify, as :func:`partition` does, with a parameter object.

    ``given`` is a valid partition that is known already.
    """
    stages = check("stages", stages)
    started = time.monotonic()
    ensure_compiled(progress)
    # Loading kernels counts, but for half of the time at most: the rest must find something.
    loading = min(time.monotonic() - started, params.time_limit / 2)
    deadline = Deadline(params.time_limit, loading)
    check_stages(graph, stages, params.exactly)
    useful = useful_stages(graph, stages)
    known = Incumbent(countable(graph, target, stages), target, useful, progress, params.exactly)
    full = build(known.graph, target)
    start(Task(full, known))
    if given is not None:
        known.offer(given, "given")
    small = contract(full, AnyOf(GapReached(known, params.gap), deadline))
    interrupted = False
    try:
        improve(known, Forms(full, small), params, deadline)
    except (KeyboardInterrupt, SystemError) as error:
        if not is_interrupt(error):
            raise
        interrupted = True
    if known.upper >= INFEASIBLE:
        least = None if params.exactly else least_memory(known.graph, target, useful, small, deadline)
        if least is not None and least.stage_of is not None:
            known.offer(least.stage_of, "least memory")  # found while asking what would do: it may fit
    if known.upper >= INFEASIBLE:
        raise _infeasible(known, least)
    return known.result(stages, params.seed, interrupted)


@dataclass
class Forms:
    """A graph priced for a target, as it is and contracted, and what is known of the contracted form.

    ``reach``, once it is computed, serves every number of stages.
    """

    full: Instance
    small: Instance
    reach: Reach | None = None


def improve(known: Incumbent, forms: Forms, params: SearchParams, deadline: Deadline) -> None:
    """Search and prove until the gap closes or time is up; Ctrl-C leaves what is known as it is."""
    cancelled = Event()
    stop = AnyOf(GapReached(known, params.gap), deadline, cancelled.is_set)
    # Contraction keeps the optimum, but may merge what has to part where no stage may stay empty.
    searching = Searching(Task(forms.full if params.exactly else forms.small, known), params.seed, stop)
    proving = Proving(Task(forms.small, known), wanted(params), params.seed, deadline, stop, forms.reach)
    _begin(searching, proving, forms.full)
    forms.reach = proving.reach
    _go_on(searching, proving, cancelled, params.threads or os.cpu_count() or 1)


def wanted(params: SearchParams) -> frozenset[str]:
    """Return the names of the bounds to compute."""
    return DEFAULT_BOUNDS if params.bounds is None else frozenset(params.bounds)


def check_stages(graph: CostGraph, stages: int, exactly: bool) -> None:
    """Refuse pins beyond the last stage, and fewer nodes than stages to fill."""
    last = int(graph.pinned.max(initial=-1))
    if last >= stages:
        name = graph.node_names[int(graph.pinned.argmax())]
        there_are = f"stages are 0 to {stages - 1}" if stages > 1 else "there is only stage 0"
        raise UsageError(f"node {name!r} is pinned to stage {last}: {there_are}")
    if exactly and stages > graph.num_nodes:
        nodes = format_count(graph.num_nodes, "node")
        raise InfeasibleError(f"{stages} stages cannot all be filled: the graph has {nodes}")


def start(task: Task) -> None:
    """Offer a first partition, everything as early as pins and stages to fill allow, and the simple bound."""
    inst, known = task.inst, task.known
    first = place(inst, known.stages, every=known.exactly)
    if first is None:
        unfilled = f"{format_count(known.stages, 'stage')} cannot all be filled"
        if (inst.pin >= 0).any():
            raise InfeasibleError(f"{unfilled} with nodes pinned like this")
        raise InfeasibleError(f"{unfilled}: there are {inst.n} nodes or groups of nodes that stay together")
    task.offer(first, "first")
    prove(known, "simple", ARITHMETIC, lambda: simple(inst, known.stages))


def _begin(searching: Searching, proving: Proving, full: Instance) -> None:
    """Run the cheap phases in order."""
    for phase in (
        searching.start,
        proving.by_mincut,
        proving.by_windows,
        proving.by_ideals,
        proving.by_crossings,
        lambda: proving.by_exhaustion(full),
    ):
        if searching.stop() or not searching.task.inst.n:
            return
        phase()


def _go_on(searching: Searching, proving: Proving, cancelled: Event, threads: int) -> None:
    """Search and prove until it is time to stop."""
    stop = searching.stop
    if stop() or not searching.task.inst.n:
        return
    turns = searching.turns(proving.ladder), proving.turns()
    if threads > 1:
        _in_parallel(*turns, stop, cancelled)
    else:
        _in_turns(*turns, stop)


def _in_turns(searching: Iterator[None], proving: Iterator[None], stop: Stop) -> None:
    """Search and prove alternately, each turn longer than the one before."""
    for turn in itertools.count():
        if stop():
            return
        next(searching, None)
        if turn % 2 and not stop():
            next(proving, None)


def _in_parallel(searching: Iterator[None], proving: Iterator[None], stop: Stop, cancelled: Event) -> None:
    """Search in one thread and prove in another; kernels and solvers release the interpreter lock."""

    def drain(steps: Iterator[None]) -> None:
        for _ in steps:
            if stop():
                return

    with ThreadPoolExecutor(2) as pool:
        futures = [pool.submit(drain, steps) for steps in (searching, proving)]
        try:
            for future in futures:
                while not future.done():
                    wait([future], timeout=0.1)
                future.result()
        finally:
            # Whatever ends this block, Ctrl-C included, ends both threads within a kernel call.
            cancelled.set()


def _infeasible(known: Incumbent, least: Least | None) -> InfeasibleError:
    """Say why no partition of finite cost is known, and which memory would do."""
    graph, target, stages = known.graph, known.target, known.stages
    proved = known.lower >= INFEASIBLE
    total = int(graph.group_bytes[np.diff(graph.group_ptr) > 0].sum())
    room, k = format_bytes(target.memory), format_count(stages, "stage")
    held = f"{format_bytes(total)} of parameters in all{', plus live activations' * target.activations}"
    each = " each" if stages > 1 else ""
    proved = proved or (least is not None and least.refuted > target.memory)
    if proved or total > stages * target.memory:
        message = f"{k} {'does' if stages == 1 else 'do'} not fit in {room}{each}"
    else:
        message = f"no partition into {k} was found that fits in {room}{each}"
    return InfeasibleError(
        f"{message}{'' if least is None else _smallest(least)} ({held})",
        Advice("allow more stages, more memory, or {memory_mode}", memory_mode="overflow"),
    )


def _smallest(found: Least) -> str:
    """Say which memory works, rounded up, and which is proved not to, rounded down."""
    works = format_bytes(rounded_bytes(found.works, up=True))
    if found.exact:
        return f"; the smallest that works is {works}"
    return f"; {works} works, less than {format_bytes(rounded_bytes(found.refuted, up=False))} does not"
