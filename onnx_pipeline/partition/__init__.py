"""Partitioning of cost graphs; knows nothing of ONNX.

The package is callable: ``onnx_pipeline.partition(graph, stages, ...)`` is the public function, and Python
binds a subpackage's name in its parent on import, so the two must be one object.
"""

from __future__ import annotations

import sys
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from onnx_pipeline.partition.result import PartitionResult


class _CallablePackage(ModuleType):
    def __call__(self, *args: Any, **kwargs: Any) -> PartitionResult:
        """Forward to :func:`onnx_pipeline.partition.portfolio.partition`."""
        from onnx_pipeline.partition.portfolio import partition

        return partition(*args, **kwargs)


sys.modules[__name__].__class__ = _CallablePackage
