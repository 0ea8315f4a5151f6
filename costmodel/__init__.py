"""What a node costs and what a device can do.

A *cost model* is a function from a :class:`CostRequest` to :class:`NodeCosts`. Three come with the
package (``profile``, ``analytic``, a file of costs); others register under the entry-point group
``onnx_pipeline.cost_models``. Nothing heavy is imported before a model is asked for.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from onnx_pipeline.costmodel.devices import Device, load_device
from onnx_pipeline.costmodel.plugins import load_plugin, plugin_names
from onnx_pipeline.errors import UsageError
from onnx_pipeline.progress import Progress, silent

if TYPE_CHECKING:
    import numpy as np
    import onnx_ir

    from onnx_pipeline.model.shapes import TensorInfo
    from onnx_pipeline.model.source import SourceModel

__all__ = ["CostModel", "CostRequest", "Device", "NodeCosts", "cost_model", "load_device"]

COST_MODEL_GROUP = "onnx_pipeline.cost_models"
BUILT_IN = ("profile", "analytic")


@dataclass(frozen=True, eq=False)
class NodeCosts:
    """The work of every executable node, and where it comes from.

    Attributes
    ----------
    kind : str
        ``"profile"``, ``"analytic"``, ``"file"`` or a plug-in's name.
    work_ns : mapping of str to int
        Nanoseconds per inference by ONNX node name, for every executable node.
    meta : mapping
        Provenance that fits into JSON: provider, runs, threads, dims, seconds per inference.
    estimated : tuple of str
        Operator types that had no rule of their own and were priced by a fallback.
    spread : mapping of str to float
        Relative scatter of a node's time, where it was measured (interquartile range / median).
    border_ns : mapping of str to int
        Nanoseconds by tensor that a stage pays when the tensor crosses its border, beyond the transfer: the
        change from the layout that the kernels use between them to the one of the model.
    parameter_bytes : mapping of str to int
        Bytes that the provider holds of a parameter, where that is known and not what the model says.
    """

    kind: str
    work_ns: Mapping[str, int]
    meta: Mapping[str, Any] = field(default_factory=dict)
    estimated: tuple[str, ...] = ()
    spread: Mapping[str, float] = field(default_factory=dict)
    border_ns: Mapping[str, int] = field(default_factory=dict)
    parameter_bytes: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class CostRequest:
    """Everything a cost model may look at.

    Attributes
    ----------
    source : SourceModel
    infos : mapping of str to TensorInfo
        Type and shape of every value of the main graph, for the bound dimensions.
    nodes : sequence of onnx_ir.Node
        The executable nodes: exactly these need a cost.
    dims : mapping of str to int
        Values of the symbolic dimensions.
    feeds : mapping of str to ndarray, or None
        Representative inputs; None for seeded random ones.
    device : Device
        Its rates serve models that compute instead of measuring.
    runs : int or None
        Rounds of measurement; None for 10, and more for models that are quick.
    provider : str
        onnxruntime execution provider to measure.
    threads : int
        Intra-op threads of the measured sessions.
    seed : int
        Seed of random inputs.
    progress : Progress
        Told about every round.
    seconds : float or None
        Bound on the wall time of a measurement; None for one that grows with ``runs``.
    cache : Path or None
        Folder of kept profiles; None to measure always and keep nothing.
    """

    source: SourceModel
    infos: Mapping[str, TensorInfo]
    nodes: Sequence[onnx_ir.Node]
    dims: Mapping[str, int]
    feeds: Mapping[str, np.ndarray[Any, Any]] | None
    device: Device
    runs: int | None = None
    provider: str = "CPUExecutionProvider"
    threads: int = 1
    seed: int = 0
    progress: Progress = silent
    seconds: float | None = None
    cache: Path | None = None


CostModel = Callable[[CostRequest], NodeCosts]


def cost_model(name_or_path: str) -> CostModel:
    """Return the cost model of that name, or one that reads the costs from a file.

    Parameters
    ----------
    name_or_path : str
        ``"profile"``, ``"analytic"``, the name of an installed plug-in, or the path of a
        COSTS.json or CSV file. A file is read here, so that a bad one fails before any work is done.

    Raises
    ------
    UsageError
        If it is neither a known name nor a path.
    InputError
        If the file is missing or malformed.
    """
    if name_or_path == "profile":
        from onnx_pipeline.costmodel.cache import cached
        from onnx_pipeline.costmodel.profiling.profile import profile

        return cached(profile)
    if name_or_path == "analytic":
        from onnx_pipeline.costmodel.computed.analytic import analytic

        return analytic
    plugin = load_plugin(COST_MODEL_GROUP, name_or_path)
    if plugin is not None:
        if not callable(plugin):
            raise UsageError(f"the installed cost model {name_or_path!r} is not callable")
        return cast(CostModel, plugin)
    path = Path(name_or_path)
    if path.exists() or path.suffix or len(path.parts) > 1:
        from onnx_pipeline.costmodel.imported.files import read_costs

        return read_costs(path)
    known = ", ".join((*BUILT_IN, *plugin_names(COST_MODEL_GROUP)))
    raise UsageError(
        f"unknown cost model {name_or_path!r}: give {known}, or the path of a COSTS.json or CSV file"
    )
