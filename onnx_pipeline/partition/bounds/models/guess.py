"""The bottleneck-guess MIPs: the index b of the bottleneck stage is known, so each side is held to its share.

With T' = T - alpha and the superblocks A = stages before b, S = stage b, C = stages after (b counts from 0),

    T' >= work(S) + io of S,   work(A) + io(A, rest) <= b T',   work(C) + io(rest, C) <= (k - 1 - b) T'

every superblock plus the overflow of its parameters. Some stage is the bottleneck, so the minimum over b of
the optimal T is a lower bound. Once an index has the bound L, the others need not be looked at from L on.

References
----------
Archer et al. 2024, section 5 and appendix D.
"""

from __future__ import annotations

import math
from dataclasses import replace

from onnx_pipeline.partition.bounds.models.blocks import RESOLUTION, BlockModel, scaled
from onnx_pipeline.partition.bounds.models.cpsat import solve_cpsat
from onnx_pipeline.partition.bounds.models.linear import SolveParams
from onnx_pipeline.partition.bounds.windows import pins_only
from onnx_pipeline.partition.instance.instance import Instance
from onnx_pipeline.stop import Deadline


def bottleneck_guess(inst: Instance, k: int, upper: int, params: SolveParams) -> int:
    """Return a lower bound in nanoseconds: the minimum over all indices of the bottleneck stage.

    Parameters
    ----------
    inst : Instance
    k : int
        Number of stages.
    upper : int
        A known bottleneck in nanoseconds; the solver need not look above it.
    params : SolveParams
        The limits are for all indices together, the effort shared evenly among those still to come.
    """
    costs = scaled(inst, RESOLUTION)
    allowed = pins_only(inst, k)
    # The three rows of a model add up to work <= k T': no index can be below that, whatever its solver says.
    average = -(-sum(costs.work) // k)
    best = costs.limit(upper) + 1
    deadline, effort = Deadline(params.time_limit), min(params.effort, params.time_limit)
    for done, b in enumerate(sorted(range(k), key=lambda b: abs(2 * b - k + 1))):
        if best <= average:
            break
        chain = BlockModel(inst, costs, allowed.around(b), 3, 0, best - 1)
        chain.at_most(chain.cost((0, 1), stages=b), b)
        chain.at_most(chain.cost((1, 2)))
        chain.at_most(chain.cost((2, 3), stages=k - 1 - b), k - 1 - b)
        share = replace(params, time_limit=deadline.remaining, effort=effort / (k - done))
        outcome = solve_cpsat(chain.model, share)
        effort -= outcome.effort
        if not outcome.infeasible:
            best = min(best, max(average, math.ceil(outcome.bound)))
    return min(upper, costs.bound(best))
