"""Stages and their replicas together: search and proof for :mod:`onnx_pipeline.graph.replicas`."""
