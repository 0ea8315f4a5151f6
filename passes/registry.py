"""Passes by kebab-case name, imported on demand.

Other packages add theirs under the entry-point group ``onnx_pipeline.passes``.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from onnx_pipeline.errors import UsageError

if TYPE_CHECKING:
    from onnx_ir.passes import PassBase

PASS_GROUP = "onnx_pipeline.passes"

#: Name to ``module:class``, as an entry point writes it.
BUILT_IN = {
    "profile": "onnx_pipeline.passes.profile:ProfilePass",
    "partition": "onnx_pipeline.passes.partition:PartitionPass",
    "emit": "onnx_pipeline.passes.emit:EmitPass",
}


def pass_names() -> list[str]:
    """Names that :func:`load_pass` knows: the built-in ones in the order of a split, then installed ones."""
    from onnx_pipeline.costmodel.plugins import plugin_names

    return [*BUILT_IN, *(name for name in plugin_names(PASS_GROUP) if name not in BUILT_IN)]


def load_pass(name: str) -> type[PassBase]:
    """Return the pass class of that name; only its own module is imported.

    Raises
    ------
    UsageError
        If there is no such pass; the message lists the known ones.
    """
    from onnx_pipeline.costmodel.plugins import load_plugin

    if name in BUILT_IN:
        module, _, attribute = BUILT_IN[name].partition(":")
        loaded = getattr(import_module(module), attribute)
    else:
        loaded = load_plugin(PASS_GROUP, name)
    if loaded is None:
        raise UsageError(f"unknown pass {name!r}: known are {', '.join(pass_names())}")
    if not isinstance(loaded, type):
        raise UsageError(f"the installed pass {name!r} is not a class: {loaded!r}")
    return loaded
