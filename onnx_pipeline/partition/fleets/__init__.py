"""Devices that differ: search and proof for :mod:`onnx_pipeline.graph.fleet`."""
