"""The exact model natively in CP-SAT: an integer proof of the dual bound, and partitions on the way."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from onnx_pipeline.graph.costgraph import IntArray
from onnx_pipeline.graph.target import INFEASIBLE
from onnx_pipeline.partition.bounds.models.blocks import scaled
from onnx_pipeline.partition.bounds.models.cpsat import solve_cpsat
from onnx_pipeline.partition.bounds.models.exact import exact_model
from onnx_pipeline.partition.bounds.models.linear import ONE
from onnx_pipeline.partition.bounds.windows import Windows, reach_by_sets, windows
from onnx_pipeline.partition.instance.instance import Instance
from onnx_pipeline.stop import never

#: Total of all costs up to which nothing is rounded: 18 minutes in nanoseconds, 2**63 is far away.
EXACT_RESOLUTION = 1 << 40


class ExactAnswer(NamedTuple):
    """Result of the exact model.

    Attributes
    ----------
    bound : int
        No partition has a smaller bottleneck, in nanoseconds; above ``upper`` when there is none up to it,
        but at most ``INFEASIBLE``.
    stage_of : int64[n] or None
        The last partition of the instance's nodes that the solver found.
    finished : bool
        The solver closed its gap.
    """

    bound: int
    stage_of: IntArray | None
    finished: bool


def exact_cpsat(
    inst: Instance,
    k: int,
    lower: int,
    upper: int,
    stage_of: IntArray | None = None,
    time_limit: float = 10.0,
    threads: int = 1,
    seed: int = 0,
    on_solution: Callable[[IntArray], None] | None = None,
    stop: Callable[[], bool] = never,
    *,
    on_bound: Callable[[int], None] | None = None,
    allowed: Windows | None = None,
    resolution: int = EXACT_RESOLUTION,
) -> ExactAnswer:
    """Minimise the bottleneck.

    Parameters
    ----------
    inst : Instance
        Contracted, or the model is needlessly large.
    k : int
        Number of stages.
    lower : int
        A valid lower bound in nanoseconds; the answer takes it as given.
    upper : int
        Only partitions up to this bottleneck count, in nanoseconds; one less than the best known asks for a
        proof that it is optimal, ``INFEASIBLE`` for any partition at all.
    stage_of : int64[n], optional
        A partition of at most ``upper``, to start from.
    time_limit : float
        Seconds.
    threads, seed : int
        For the solver; 0 threads: all cores.
    on_solution : callable, optional
        Called in a solver thread with the stages of the instance's nodes, for each better partition.
    stop : callable
        Asked about twenty times a second in the calling thread.
    on_bound : callable, optional
        Called in a solver thread with each better bound, in nanoseconds.
    allowed : Windows, optional
        Stages that each node can be in; default: the stage windows at ``upper``.
    resolution : int
        Costs are rounded down once their total exceeds this.
    """
    costs = scaled(inst, resolution)
    if allowed is None:
        allowed = windows(inst, reach_by_sets(inst), k, upper)
    chain = exact_model(inst, k, costs, allowed, lower, upper, stage_of)
    found: list[IntArray] = []

    def solution(value: Callable[[int], int]) -> None:
        stages = np.full(inst.n, k, dtype=np.int64)
        for row in chain.prefix[1:]:
            stages -= np.array([value(c) if c >= 0 else c == ONE for c in row], dtype=np.int64)
        found.append(stages)
        if on_solution is not None:
            on_solution(stages)

    outcome = solve_cpsat(
        chain.model,
        time_limit,
        threads,
        seed,
        hint=stage_of is not None,
        on_solution=solution,
        on_bound=None if on_bound is None else lambda units: on_bound(costs.bound(units)),
        stop=stop,
    )
    bound = costs.bound(outcome.bound)
    if outcome.infeasible:
        bound = min(max(bound, upper + 1), INFEASIBLE)
    return ExactAnswer(bound, found[-1] if found else None, outcome.optimal)
