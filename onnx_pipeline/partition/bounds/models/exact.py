"""The exact model: k blocks, each at most T.

Prefix variables z[v, b] = [stage(v) <= b], one indicator per (tensor, stage), one column for the parameter
overflow of a stage; see :mod:`blocks`. Stage windows at a known bottleneck leave few columns.

CP-SAT proves its dual bound in integers and finds partitions on the way; HiGHS, as in the paper, gives a
floating-point dual bound, less its tolerance.

References
----------
Archer et al. 2024, section 5 and appendix D (exact MIP).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from onnx_pipeline.graph.costgraph import IntArray
from onnx_pipeline.graph.target import INFEASIBLE
from onnx_pipeline.partition.bounds.models.blocks import RESOLUTION, BlockModel, scaled
from onnx_pipeline.partition.bounds.models.cpsat import solve_cpsat
from onnx_pipeline.partition.bounds.models.highs import solve_highs
from onnx_pipeline.partition.bounds.models.linear import ONE, SolveParams
from onnx_pipeline.partition.bounds.windows import reach_by_sets, windows
from onnx_pipeline.partition.instance.instance import Instance

#: Total of all costs up to which nothing is rounded: work takes up to 2**46 ticks, CP-SAT sums in 63 bits.
EXACT_RESOLUTION = 1 << 54


class ExactAnswer(NamedTuple):
    """Result of the exact model.

    Attributes
    ----------
    bound : int
        No partition has a smaller bottleneck, in nanoseconds; above ``upper`` when there is none up to it,
        but at most ``INFEASIBLE``.
    stage_of : int64[n] or None
        The best partition of the instance's nodes that the solver found.
    """

    bound: int
    stage_of: IntArray | None


def exact_cpsat(inst: Instance, k: int, lower: int, upper: int, params: SolveParams) -> ExactAnswer:
    """Minimise the bottleneck with CP-SAT.

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
    params : SolveParams
    """
    chain = _exact_model(inst, k, lower, upper, EXACT_RESOLUTION)
    outcome = solve_cpsat(chain.model, params)
    bound = chain.costs.bound(outcome.bound)
    if outcome.infeasible:
        bound = min(max(bound, upper + 1), INFEASIBLE)
    if outcome.values is None:
        return ExactAnswer(bound, None)
    stage_of = np.full(inst.n, k, dtype=np.int64)
    for row in chain.prefix[1:]:
        stage_of -= np.array([outcome.values[c] if c >= 0 else c == ONE for c in row], dtype=np.int64)
    return ExactAnswer(bound, stage_of)


def exact_highs(inst: Instance, k: int, lower: int, upper: int, params: SolveParams) -> int:
    """Return a lower bound in nanoseconds from HiGHS; parameters as in :func:`exact_cpsat`."""
    chain = _exact_model(inst, k, lower, upper, RESOLUTION)
    return chain.costs.bound(solve_highs(chain.model, params).bound)


def _exact_model(inst: Instance, k: int, lower: int, upper: int, resolution: int) -> BlockModel:
    """Build the model within the stage windows at ``upper``, costs rounded down above ``resolution``."""
    costs = scaled(inst, resolution)
    allowed = windows(inst, reach_by_sets(inst), k, upper)
    chain = BlockModel(inst, costs, allowed, k, max(0, costs.limit(lower)), costs.limit(upper))
    for b in range(k):
        chain.at_most(chain.cost((b, b + 1)))
    return chain
