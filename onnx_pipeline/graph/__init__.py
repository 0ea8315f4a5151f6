"""The cost graph, the target and the objective; knows nothing of ONNX."""

from onnx_pipeline.graph.costgraph import CostGraph, topological_order
from onnx_pipeline.graph.costs_json import graph_to_json
from onnx_pipeline.graph.networks import from_networkx, to_networkx
from onnx_pipeline.graph.objective import StageCost, bottleneck, check_partition, stage_costs
from onnx_pipeline.graph.target import Target

__all__ = [
    "CostGraph",
    "StageCost",
    "Target",
    "bottleneck",
    "check_partition",
    "from_networkx",
    "graph_to_json",
    "stage_costs",
    "to_networkx",
    "topological_order",
]
