"""Annotate a model with costs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy.typing as npt
import onnx_ir as ir
from onnx_ir.passes import InPlacePass, PassResult, PostconditionError, PreconditionError

from onnx_pipeline.costmodel.devices import Device
from onnx_pipeline.costmodel.request import CostModel, NodeCosts
from onnx_pipeline.model.roles import executable_nodes
from onnx_pipeline.model.source import SourceModel
from onnx_pipeline.parameters import ProfileParams
from onnx_pipeline.passes import metadata
from onnx_pipeline.passes.origin import origin
from onnx_pipeline.price import price_source
from onnx_pipeline.progress import Progress, silent


def annotate_costs(
    source: SourceModel,
    *,
    cost_model: str | CostModel = "profile",
    device: str | Path | Device = "cpu",
    dims: Mapping[str, int] | None = None,
    feeds: Mapping[str, npt.NDArray[Any]] | None = None,
    runs: int = 10,
    provider: str = "CPUExecutionProvider",
    threads: int = 1,
    seed: int = 0,
    progress: Progress = silent,
) -> NodeCosts:
    """Price every executable node and annotate the model; return the costs.

    Parameters
    ----------
    source : SourceModel
        Its ``ir`` is annotated in place.
    cost_model : str or callable
        Cost model: ``"profile"``, ``"analytic"``, an installed one, a file or a function.
    device : str, Path or Device
        Its rates serve cost models that compute instead of measure.
    dims : mapping of str to int
        Values of symbolic dimensions, default 1.
    feeds : mapping of str to ndarray
        Representative inputs; seeded random ones by default.
    runs, provider, threads, seed
        As in :class:`~onnx_pipeline.costmodel.CostRequest`.

    Raises
    ------
    UsageError
        If the cost model, the device or a dimension is unknown.
    InputError
        If the model cannot be priced.
    """
    params = ProfileParams(
        cost_model,
        device,
        dims,
        feeds,
        runs,
        cache=False,
        provider=provider,
        seed=seed,
        intra_op_threads=threads,
    )
    priced = price_source(source, params, progress)
    metadata.write_costs(source.ir, priced.infos, priced.costs, priced.dims)
    return priced.costs


@dataclass(eq=False)
class ProfilePass(InPlacePass):
    """:func:`annotate_costs` as a pass; ``source`` is the file's :class:`SourceModel`, when there is one.

    Parameters
    ----------
    source : SourceModel or None
        Where the model came from; None if it was not loaded from a file.
    cost_model, device, dims, feeds, runs, provider, threads, seed
        As in :func:`annotate_costs`.
    """

    source: SourceModel | None = None
    cost_model: str | CostModel = "profile"
    device: str | Path | Device = "cpu"
    dims: Mapping[str, int] = field(default_factory=dict)
    feeds: Mapping[str, npt.NDArray[Any]] | None = None
    runs: int = 10
    provider: str = "CPUExecutionProvider"
    threads: int = 1
    seed: int = 0

    def requires(self, model: ir.Model) -> None:
        """Demand unique node names: costs are kept by name."""
        metadata.require_names(model)

    def call(self, model: ir.Model) -> PassResult:
        """Annotate in place."""
        annotate_costs(
            origin(model, self.source),
            cost_model=self.cost_model,
            device=self.device,
            dims=self.dims,
            feeds=self.feeds,
            runs=self.runs,
            provider=self.provider,
            threads=self.threads,
            seed=self.seed,
        )
        return PassResult(model, modified=True)

    def ensures(self, model: ir.Model) -> None:
        """Promise work on every executable node, which a foreign cost model may have missed."""
        try:
            metadata.read_costs(model, executable_nodes(origin(model, self.source)))
        except PreconditionError as error:
            raise PostconditionError(str(error)) from None
