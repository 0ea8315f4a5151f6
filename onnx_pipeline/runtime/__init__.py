"""Running a split model: one onnxruntime session and one worker per stage, requests streaming through."""

from onnx_pipeline.runtime.inputs import NodeArg, check_feeds
from onnx_pipeline.runtime.session import PipelineSession
from onnx_pipeline.runtime.stats import Span, StageStats, Stats, Timeline

__all__ = ["NodeArg", "PipelineSession", "Span", "StageStats", "Stats", "Timeline", "check_feeds"]
