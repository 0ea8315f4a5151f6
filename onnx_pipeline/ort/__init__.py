"""The one door to onnxruntime."""
