"""Running a split model: workers with onnxruntime sessions for their stages, requests streaming through."""

from onnx_pipeline.runtime.inputs import NodeArg, check_feeds
from onnx_pipeline.runtime.session import PipelineSession
from onnx_pipeline.runtime.stats import ReplicaStats, Span, StageStats, Stats, Timeline

__all__ = [
    "NodeArg",
    "PipelineSession",
    "ReplicaStats",
    "Span",
    "StageStats",
    "Stats",
    "Timeline",
    "check_feeds",
]
