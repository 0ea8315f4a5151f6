"""From a partition to files: one ONNX model per stage, their weights and the manifest."""
