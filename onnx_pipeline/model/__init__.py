"""ONNX models: read, checked, given shapes and inputs, and lowered to cost graphs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from onnx_pipeline.model.source import SourceModel as SourceModel
    from onnx_pipeline.model.source import load as load

__all__ = ["SourceModel", "load"]


def __getattr__(name: str) -> Any:
    """Import the public names on first use (PEP 562): limits and the like need no ONNX library."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module("onnx_pipeline.model.source"), name)
