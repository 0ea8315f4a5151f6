"""Costs measured with onnxruntime."""
