"""The steps of a split as ``onnx_ir`` passes: profile, partition, emit.

Each pass is a thin wrapper over a plain function of its module. Costs and stages travel as metadata of the
model (:mod:`onnx_pipeline.passes.metadata`), so another pass can replace any of them.

Examples
--------
>>> from onnx_ir.passes import PassManager
>>> from onnx_pipeline.model.source import load
>>> from onnx_pipeline.passes import EmitPass, PartitionPass, ProfilePass
>>> s = load("model.onnx")  # doctest: +SKIP
>>> steps = [ProfilePass(s), PartitionPass(s, stages=4), EmitPass(s, output="out")]  # doctest: +SKIP
>>> PassManager(steps)(s.ir)  # doctest: +SKIP
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from onnx_pipeline.passes.emit import EmitPass as EmitPass
    from onnx_pipeline.passes.emit import emit_stages as emit_stages
    from onnx_pipeline.passes.partition import PartitionPass as PartitionPass
    from onnx_pipeline.passes.partition import annotate_stages as annotate_stages
    from onnx_pipeline.passes.profile import ProfilePass as ProfilePass
    from onnx_pipeline.passes.profile import annotate_costs as annotate_costs
    from onnx_pipeline.passes.registry import load_pass as load_pass
    from onnx_pipeline.passes.registry import pass_names as pass_names

_HOME = {
    "EmitPass": "emit",
    "PartitionPass": "partition",
    "ProfilePass": "profile",
    "annotate_costs": "profile",
    "annotate_stages": "partition",
    "emit_stages": "emit",
    "load_pass": "registry",
    "pass_names": "registry",
}

__all__ = list(_HOME)


def __getattr__(name: str) -> Any:
    """Import a public name's module on first use (PEP 562): the registry loads nothing heavy."""
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
