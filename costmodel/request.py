"""The question to a cost model and its answer."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from onnx_pipeline.costmodel.devices import Device
from onnx_pipeline.progress import Progress, silent

if TYPE_CHECKING:
    import numpy as np
    import onnx_ir

    from onnx_pipeline.model.shapes import TensorInfo
    from onnx_pipeline.model.source import SourceModel


@dataclass(frozen=True, eq=False)
class NodeCosts:
    """The work of every executable node, and where it comes from.

    Attributes
    ----------
    kind : str
        ``"profile"``, ``"analytic"``, ``"file"`` or a plug-in's name.
    work_ns : mapping of str to float
        Nanoseconds per inference, whole or not, by ONNX node name, for every executable node.
    meta : mapping
        Provenance that fits into JSON: provider, runs, threads, dims, seconds per inference.
    estimated : tuple of str
        Operator types without a rule of their own, priced by a fallback.
    spread : mapping of str to float
        Relative scatter of a node's time, where it was measured (interquartile range / median).
    border_ns : mapping of str to float
        Nanoseconds by tensor that a stage pays when the tensor crosses its border, beyond the transfer: the
        change from the layout that the kernels use between them to the one of the model.
    parameter_bytes : mapping of str to int
        Bytes that the provider holds of a parameter, where known and not what the model says.
    unsupported : tuple of str
        ONNX nodes that another provider than the CPU's was asked for and left to the CPU.
    """

    kind: str
    work_ns: Mapping[str, float]
    meta: Mapping[str, Any] = field(default_factory=dict)
    estimated: tuple[str, ...] = ()
    spread: Mapping[str, float] = field(default_factory=dict)
    border_ns: Mapping[str, float] = field(default_factory=dict)
    parameter_bytes: Mapping[str, int] = field(default_factory=dict)
    unsupported: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Return a JSON document; :meth:`from_json` gives equal costs back."""
        return {
            "kind": self.kind,
            "work_ns": dict(self.work_ns),
            "meta": dict(self.meta),
            "estimated": list(self.estimated),
            "spread": dict(self.spread),
            "border_ns": dict(self.border_ns),
            "parameter_bytes": dict(self.parameter_bytes),
            "unsupported": list(self.unsupported),
        }

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> NodeCosts:
        """Read what :meth:`to_json` wrote; everything but the work may be missing.

        Raises
        ------
        ValueError
            If an entry has the wrong type or a number is negative or not finite.
        """
        return cls(
            kind=str(document.get("kind", "annotated")),
            work_ns=_numbers(document, "work_ns"),
            meta=_object(document, "meta"),
            estimated=tuple(map(str, document.get("estimated", ()))),
            spread=_numbers(document, "spread"),
            border_ns=_numbers(document, "border_ns"),
            parameter_bytes={name: int(x) for name, x in _numbers(document, "parameter_bytes").items()},
            unsupported=tuple(map(str, document.get("unsupported", ()))),
        )


def _object(document: Mapping[str, Any], key: str) -> dict[str, Any]:
    value = document.get(key, {})
    if not isinstance(value, dict):
        raise ValueError(f"{key!r} must be an object")
    return value


def _numbers(document: Mapping[str, Any], key: str) -> dict[str, float]:
    values = _object(document, key)
    for name, value in values.items():
        if (
            isinstance(value, bool)
            or not isinstance(value, int | float)
            or not 0 <= value <= sys.float_info.max
        ):
            raise ValueError(f"{key!r} of {name!r} must be a finite number >= 0, got {value!r}")
    return values


@dataclass(frozen=True, eq=False)
class CostRequest:
    """Everything that a cost model can use.

    Attributes
    ----------
    source : SourceModel
    infos : mapping of str to TensorInfo
        Type and shape of every value of the main graph, for the bound dimensions.
    nodes : sequence of onnx_ir.Node
        The executable nodes: exactly these must be priced.
    dims : mapping of str to int
        Values of the symbolic dimensions.
    feeds : mapping of str to ndarray, or None
        Representative inputs; None for seeded random ones.
    device : Device
        Its rates serve cost models that compute instead of measure.
    runs : int or None
        Rounds to measure; None for 10, more for quick models.
    provider : str
        Execution provider of onnxruntime to measure.
    threads : int
        Intra-op threads of the measured sessions.
    seed : int
        Seed of random inputs.
    progress : Progress
        Called after every round.
    seconds : float or None
        Time budget of a measurement; None for one that grows with ``runs``.
    cache : Path or None
        Folder of the cache; None to measure always and keep nothing.
    provider_options : mapping
        Of the provider.
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
    provider_options: Mapping[str, Any] = field(default_factory=dict)


CostModel = Callable[[CostRequest], NodeCosts]
