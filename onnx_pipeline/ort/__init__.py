"""The one door to onnxruntime: its sessions, their calls, and its errors as one line."""
