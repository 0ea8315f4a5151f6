"""Readers of quantities with units, where they always were; a target reads them, too."""

from onnx_pipeline.graph.units import parse_bandwidth, parse_bytes, parse_seconds

__all__ = ["parse_bandwidth", "parse_bytes", "parse_seconds"]
