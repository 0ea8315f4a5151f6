"""The exact model: k blocks, each at most T.

Prefix variables z[v, b] = [stage(v) <= b], one indicator per (tensor, stage), one column for the parameter
overflow of a stage; see :mod:`blocks`. Stage windows at a known bottleneck leave few columns.

References
----------
Archer et al. 2024, section 5 and appendix D (exact MIP).
"""

from __future__ import annotations

from onnx_pipeline.graph.costgraph import IntArray
from onnx_pipeline.partition.bounds.models.blocks import BlockModel, ScaledCosts
from onnx_pipeline.partition.bounds.windows import Windows
from onnx_pipeline.partition.instance.instance import Instance


def exact_model(
    inst: Instance,
    k: int,
    costs: ScaledCosts,
    allowed: Windows,
    lower: int,
    upper: int,
    stage_of: IntArray | None = None,
) -> BlockModel:
    """Build the model.

    Parameters
    ----------
    inst : Instance
    k : int
        Number of stages.
    costs : ScaledCosts
    allowed : Windows
        Stages that each node can be in when no stage costs more than ``upper``.
    lower, upper : int
        Known bounds of the bottleneck in nanoseconds.
    stage_of : int64[n], optional
        A known partition within the windows, for hints.
    """
    least = max(0, costs.limit(lower))
    chain = BlockModel(inst, costs, allowed, k, least, costs.limit(upper), stage_of)
    for b in range(k):
        chain.at_most(chain.cost((b, b + 1)))
    return chain
