"""The cost graph, the target and the objective; knows nothing of ONNX."""

from onnx_pipeline.graph.costgraph import (
    CostGraph,
    StageCost,
    Target,
    bottleneck,
    check_partition,
    stage_costs,
    topological_order,
)

__all__ = [
    "CostGraph",
    "StageCost",
    "Target",
    "bottleneck",
    "check_partition",
    "stage_costs",
    "topological_order",
]
