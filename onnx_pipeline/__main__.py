"""``python -m onnx_pipeline`` is ``onnx-pipeline``."""

from __future__ import annotations

import sys

from onnx_pipeline.cli.entry import main

if __name__ == "__main__":
    sys.exit(main())
