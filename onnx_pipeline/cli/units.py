"""Sizes, rates and times for display, under the name that the command line has always had for them."""

from onnx_pipeline.figures import (
    format_bandwidth,
    format_bytes,
    format_count,
    format_percent,
    format_rate,
    format_seconds,
)

__all__ = [
    "format_bandwidth",
    "format_bytes",
    "format_count",
    "format_percent",
    "format_rate",
    "format_seconds",
]
