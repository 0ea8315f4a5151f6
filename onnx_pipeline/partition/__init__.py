"""Partitioning of cost graphs; knows nothing of ONNX.

The package is callable: ``onnx_pipeline.partition(graph, stages, ...)`` is the public function, and Python
binds a subpackage's name in its parent on import, so the two must be one object. It documents itself as the
function, has its signature, and can be pickled like it.
"""

from __future__ import annotations

import inspect
import sys
import textwrap
from collections.abc import Callable
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from onnx_pipeline.partition.result import PartitionResult


def _function() -> Callable[..., PartitionResult]:
    from onnx_pipeline.partition.portfolio import partition

    return partition


def _documentation(package: ModuleType) -> str:
    """Return the function's documentation with its signature below the first line, where help() shows it."""
    function = _function()
    first, _, rest = (inspect.getdoc(function) or "").partition("\n")
    call = f"partition{inspect.signature(function)}".replace("'", "")
    return f"{first}\n\n{textwrap.fill(call, 80, subsequent_indent=' ' * len('partition('))}\n{rest}"


class _CallablePackage(ModuleType):
    def __call__(self, *args: Any, **kwargs: Any) -> PartitionResult:
        """Forward to :func:`onnx_pipeline.partition.portfolio.partition`."""
        return _function()(*args, **kwargs)

    @property
    def __signature__(self) -> inspect.Signature:
        return inspect.signature(_function())

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle as what it is called: worker processes import it."""
        return import_module, (self.__name__,)

    __doc__ = property(_documentation)


sys.modules[__name__].__class__ = _CallablePackage
