"""Cost models that callers and plug-ins bring: named, checked, their errors told in one line."""

from __future__ import annotations

import json
import sys
import traceback
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from numbers import Real
from pathlib import Path
from typing import Any, NoReturn

from onnx_pipeline.costmodel.request import CostModel, CostRequest, NodeCosts
from onnx_pipeline.errors import PipelineError, UsageError

_SHOWN = 5


def called(function: CostModel, name: str | None = None, version: str | None = None) -> CostModel:
    """Return a cost model that asks a function of somebody else's.

    Parameters
    ----------
    function : callable
        From :class:`CostRequest` to :class:`NodeCosts`.
    name : str, optional
        How errors and the manifest call it; by default module and name of the function.
    version : str, optional
        For the manifest; by default the function's or its module's ``__version__``.

    Returns
    -------
    callable
        Its costs carry ``name`` and ``version`` in ``meta``, and all numbers in them are Python's. It raises
        UsageError where the function fails, or returns anything but a cost for every node.
    """
    name = name or name_of(function)
    version = version or _version_of(function)
    origin = {"name": name} | ({} if version is None else {"version": version})

    def ask(request: CostRequest) -> NodeCosts:
        """Ask, check, and say who was asked."""
        try:
            costs = function(request)
        except PipelineError:
            raise
        except Exception as error:  # whatever the code of others does
            last = traceback.extract_tb(error.__traceback__)[-1]
            where = f"{Path(last.filename).name}, line {last.lineno}"
            raise UsageError(
                f"the cost model {name} failed: {type(error).__name__}: {error} ({where})"
            ) from error
        return replace(_checked(costs, request, name), meta={**origin, **costs.meta})

    return ask


def name_of(function: CostModel) -> str:
    """Return module and name of a function, or of the class of a callable object."""
    if isinstance(function, partial):
        function = function.func
    named = function if hasattr(function, "__qualname__") else type(function)
    module = getattr(named, "__module__", None)
    return named.__qualname__ if module in (None, "__main__") else f"{module}.{named.__qualname__}"


def _version_of(function: CostModel) -> str | None:
    module = sys.modules.get(getattr(function, "__module__", None) or "")
    version = getattr(function, "__version__", getattr(module, "__version__", None))
    return None if version is None else str(version)


def _checked(costs: Any, request: CostRequest, name: str) -> NodeCosts:
    """Return the costs with plain numbers; refuse what no graph can be made of."""

    def fail(problem: str) -> NoReturn:
        raise UsageError(f"the cost model {name} {problem}")

    if not isinstance(costs, NodeCosts):
        fail(f"returned {type(costs).__name__}, not NodeCosts")
    if not isinstance(costs.kind, str) or not costs.kind:
        fail(f"gives no kind of its costs, but {costs.kind!r}")
    document = costs.to_json() | {
        "work_ns": _plain(costs.work_ns),
        "border_ns": _plain(costs.border_ns),
        "spread": _plain(costs.spread),
        "parameter_bytes": _plain(costs.parameter_bytes),
    }
    try:
        json.dumps(document["meta"], allow_nan=False)
        plain = NodeCosts.from_json(document)
    except (TypeError, ValueError) as error:
        fail(f"gives costs that cannot be used: {error}")
    names = [str(node.name) for node in request.nodes]
    missing = [each for each in names if each not in plain.work_ns]
    if missing:
        shown = ", ".join(missing[:_SHOWN]) + (", ..." if len(missing) > _SHOWN else "")
        fail(f"gives no work_ns for {len(missing)} of {len(names)} nodes: {shown}")
    return plain


def _plain(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return numbers of other libraries as Python's."""
    return {
        key: float(value) if isinstance(value, Real) and not isinstance(value, bool | int | float) else value
        for key, value in dict(values).items()
    }
