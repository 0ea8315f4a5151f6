"""The bottleneck MIP: a partition seen as before / bottleneck stage / after.

With T' = T - alpha and the three superblocks A, S, C of :mod:`blocks`,

    T' >= work(S) + io of S,      work(A) + io(A, rest) + work(C) + io(rest, C) <= (k - 1) T'

where costs inside A and C are relaxed away, and every superblock adds the overflow of its parameters.

References
----------
Archer et al. 2024, section 5 (three-superblock MIP) and appendix D.
"""

from __future__ import annotations

import numpy as np

from onnx_pipeline.partition.bounds.models.blocks import RESOLUTION, BlockModel, scaled
from onnx_pipeline.partition.bounds.models.cpsat import solve_cpsat
from onnx_pipeline.partition.bounds.models.linear import SolveParams
from onnx_pipeline.partition.bounds.windows import Windows
from onnx_pipeline.partition.instance.instance import Instance


def bottleneck(inst: Instance, k: int, upper: int, params: SolveParams) -> int:
    """Return a lower bound in nanoseconds: the solver's dual bound, scaled back.

    Parameters
    ----------
    inst : Instance
    k : int
        Number of stages.
    upper : int
        A known bottleneck in nanoseconds; the solver need not look above it.
    params : SolveParams
    """
    costs = scaled(inst, RESOLUTION)
    # The index of the bottleneck stage is not known, so pins say nothing here.
    zeros = np.zeros(inst.n, dtype=np.int64)
    chain = BlockModel(inst, costs, Windows(zeros, zeros + 2), 3, 0, costs.limit(upper))
    chain.at_most(chain.cost((1, 2)))
    chain.at_most(chain.cost((0, 1), (2, 3), stages=k - 1), k - 1)
    return costs.bound(solve_cpsat(chain.model, params).bound)
