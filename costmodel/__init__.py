"""What a node costs and what a device can do.

A *cost model* is a function from a :class:`CostRequest` to :class:`NodeCosts`. Three come with the
package (``profile``, ``analytic``, a file of costs); others register under the entry-point group
``onnx_pipeline.cost_models``. Nothing heavy is imported before a model is asked for.
"""

from __future__ import annotations

from pathlib import Path

from onnx_pipeline.costmodel.devices import Device, load_device
from onnx_pipeline.costmodel.plugins import load_plugin, plugin_names, plugin_version
from onnx_pipeline.costmodel.request import CostModel, CostRequest, NodeCosts
from onnx_pipeline.errors import UsageError

__all__ = ["CostModel", "CostRequest", "Device", "NodeCosts", "cost_model", "load_device"]

COST_MODEL_GROUP = "onnx_pipeline.cost_models"

BUILT_IN = ("profile", "analytic")


def cost_model(name_or_path: str | CostModel) -> CostModel:
    """Return the cost model of that name, one that reads the costs from a file, or one that calls a function.

    Parameters
    ----------
    name_or_path : str or callable
        ``"profile"``, ``"analytic"``, the name of an installed plug-in, the path of a COSTS.json or CSV file,
        or a function from :class:`CostRequest` to :class:`NodeCosts`. A file is read here, so that a bad one
        fails before any work is done; errors of a function are reported with its name.

    Raises
    ------
    UsageError
        If it is neither a known name nor a path.
    InputError
        If the file is missing or malformed.
    """
    if not isinstance(name_or_path, str):
        from onnx_pipeline.costmodel.called import called

        return called(name_or_path)
    if name_or_path == "profile":
        from onnx_pipeline.costmodel.cache import cached
        from onnx_pipeline.costmodel.profiling.profile import profile

        return cached(profile)
    if name_or_path == "analytic":
        from onnx_pipeline.costmodel.computed.analytic import analytic

        return analytic
    plugin = load_plugin(COST_MODEL_GROUP, name_or_path)
    if plugin is not None:
        from onnx_pipeline.costmodel.called import called

        if not callable(plugin):
            raise UsageError(f"the installed cost model {name_or_path!r} is not callable")
        return called(plugin, name_or_path, plugin_version(COST_MODEL_GROUP, name_or_path))
    path = Path(name_or_path)
    if path.exists() or path.suffix or len(path.parts) > 1:
        from onnx_pipeline.costmodel.imported.files import read_costs

        return read_costs(path)
    known = ", ".join((*BUILT_IN, *plugin_names(COST_MODEL_GROUP)))
    raise UsageError(
        f"unknown cost model {name_or_path!r}: give {known}, or the path of a COSTS.json or CSV file"
    )
