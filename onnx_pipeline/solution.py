"""What planners return: documents, files and tables take any of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Union

if TYPE_CHECKING:
    from onnx_pipeline.partition.result import PartitionResult
    from onnx_pipeline.replica_plan import ReplicaPlan

#: A partition with its certificate: ``bottleneck`` is the time between two requests, ``problem`` what the
#: bounds are about. All have a graph, a target, costs and schedules of the stages, and the search's record.
Solution = Union["PartitionResult", "ReplicaPlan"]
