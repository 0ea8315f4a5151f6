"""The command line: arguments in, one call of the library, a result on stdout."""

from onnx_pipeline.cli.entry import main

__all__ = ["main"]
