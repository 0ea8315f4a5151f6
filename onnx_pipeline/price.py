"""From a model's file to its cost graph: load, bind, infer, measure, lower."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from onnx_pipeline.errors import InputError, UsageError
from onnx_pipeline.progress import Progress, silent

if TYPE_CHECKING:
    import numpy as np

    from onnx_pipeline.costmodel.devices import Device
    from onnx_pipeline.costmodel.request import NodeCosts
    from onnx_pipeline.graph.costgraph import CostGraph
    from onnx_pipeline.model.shapes import TensorInfo
    from onnx_pipeline.model.source import SourceModel

PathLike = str | os.PathLike[str]
Feeds = Mapping[str, "np.ndarray[Any, Any]"]


class Phases(dict[str, float]):
    """Seconds spent per phase, in the order in which the phases ran."""

    @contextmanager
    def measure(self, phase: str, progress: Progress = silent) -> Iterator[None]:
        """Add the duration of a ``with`` block to ``phase``."""
        progress(phase, None, "")
        start = time.perf_counter()
        try:
            yield
        finally:
            self[phase] = self.get(phase, 0.0) + time.perf_counter() - start


@dataclass(frozen=True, eq=False)
class Priced:
    """A loaded model with types, shapes and costs."""

    source: SourceModel
    infos: Mapping[str, TensorInfo]
    costs: NodeCosts
    graph: CostGraph
    dims: Mapping[str, int]
    feeds: Feeds | None


def price(
    model: PathLike,
    *,
    device: str | PathLike | Device,
    cost_model: str,
    dims: Mapping[str, int] | None,
    inputs: PathLike | Feeds | None,
    profile_runs: int | None,
    profile_seconds: float | None,
    cache: bool,
    provider: str,
    seed: int,
    progress: Progress,
    phases: Phases,
    custom_ops: Sequence[PathLike] = (),
) -> Priced:
    """Load, bind, infer, measure and lower: everything up to the cost graph."""
    with phases.measure("load", progress):
        from onnx_pipeline.costmodel import cost_model as find_cost_model
        from onnx_pipeline.costmodel.cache import cache_dir
        from onnx_pipeline.costmodel.request import CostRequest
        from onnx_pipeline.model.lowering import lower
        from onnx_pipeline.model.roles import executable_nodes
        from onnx_pipeline.model.shapes import value_infos
        from onnx_pipeline.model.source import load
        from onnx_pipeline.ort.providers import check_providers

        # Before any work: what can be wrong with the options is wrong with them now.
        measure = find_cost_model(cost_model)
        spec = as_device(device)
        if cost_model == "profile":
            check_providers([provider])
        source = load(Path(model), custom_ops)
        bound, feeds = bind(source, dims, inputs, progress)
    with phases.measure("shapes", progress):
        infos = value_infos(source, bound, feeds)
        nodes = executable_nodes(source)
    if not nodes:
        raise InputError(source.path, "no output depends on an input: there is nothing to split")
    with phases.measure("profile", progress):
        costs = measure(
            CostRequest(
                source=source,
                infos=infos,
                nodes=nodes,
                dims=bound,
                feeds=feeds,
                device=spec,
                runs=profile_runs,
                provider=provider,
                seed=seed,
                progress=progress,
                seconds=profile_seconds,
                cache=cache_dir() if cache else None,
            )
        )
    if costs.estimated:
        kinds = ", ".join(costs.estimated)
        progress("note", None, f"no cost rule for {kinds}: priced by the bytes they move")
    with phases.measure("lower", progress):
        return Priced(source, infos, costs, lower(source, infos, costs), bound, feeds)


def bind(
    source: SourceModel,
    dims: Mapping[str, int] | None,
    inputs: PathLike | Feeds | None,
    progress: Progress = silent,
) -> tuple[dict[str, int], Feeds | None]:
    """Return a value for every symbolic dimension, and the given inputs as arrays.

    Inputs determine the dimensions that they have; a ``dims`` entry that contradicts them is a UsageError.
    """
    from onnx_pipeline.model.dimensions import bound_dims, dims_of
    from onnx_pipeline.model.inputs import check_feeds, load_feeds

    given = dict(dims or {})
    feeds: Feeds | None = None
    if inputs is not None:
        if isinstance(inputs, Mapping):
            feeds = inputs
            check_feeds(source, dict(feeds))
        else:
            feeds = load_feeds(inputs, source)
        for name, value in dims_of(source, dict(feeds)).items():
            if given.setdefault(name, value) != value:
                raise UsageError(f"dimension {name!r} is {given[name]} by --dim and {value} in the inputs")
    bound = bound_dims(source, given)
    left = [name for name in bound if name not in given]
    if left:
        progress(
            "note", None, f"symbolic dimensions left at 1: {', '.join(left)} (set them with --dim NAME=INT)"
        )
    return bound, feeds


def as_device(device: str | PathLike | Device) -> Device:
    """Return a device as it is, or by name or file."""
    from onnx_pipeline.costmodel.devices import Device, load_device

    return device if isinstance(device, Device) else load_device(os.fspath(device))
