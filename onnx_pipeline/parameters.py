"""Parameter objects: values that belong together, checked once.

Every object can be filled from the same configuration file that the command line reads with ``--config``.
"""

from __future__ import annotations

import math
import os
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any, Self, Union

from onnx_pipeline.errors import Advice, UsageError
from onnx_pipeline.settings import check, load

if TYPE_CHECKING:
    import numpy as np
    import onnx
    import onnx_ir

    from onnx_pipeline.costmodel.devices import Device
    from onnx_pipeline.costmodel.request import CostModel
    from onnx_pipeline.graph.costgraph import CostGraph
    from onnx_pipeline.graph.target import Target
    from onnx_pipeline.progress import Progress

PathLike = str | os.PathLike[str]
Feeds = Mapping[str, "np.ndarray[Any, Any]"]
#: A model: a file, or one in memory.
ModelLike = Union[str, os.PathLike[str], "onnx.ModelProto", "onnx_ir.Model"]


@dataclass(frozen=True)
class Parameters:
    """Base of the parameter objects, frozen dataclasses whose fields are settings.

    Raises
    ------
    UsageError
        If a value is out of its range; the message names the parameter and its legal range.
    """

    def __post_init__(self) -> None:
        """Check every value once."""
        for item in fields(self):
            object.__setattr__(self, item.name, check(item.name, getattr(self, item.name)))

    @classmethod
    def from_toml(cls, path: PathLike) -> Self:
        """Return the parameters that a configuration file sets; all others have their defaults.

        Raises
        ------
        InputError
            See :func:`onnx_pipeline.settings.load`.
        """
        names = {item.name for item in fields(cls)}
        return cls(**{name: value for name, value in load(path).items() if name in names})


def the_one(**given: Any) -> str:
    """Return the name of the one parameter that is given, of several that exclude each other.

    Raises
    ------
    UsageError
        If none is, or more than one.
    """
    chosen = [name for name, value in given.items() if value is not None]
    if len(chosen) == 1:
        return chosen[0]
    if chosen:
        raise UsageError(f"{' and '.join(chosen)} exclude each other")
    raise UsageError(f"one of {' and '.join(given)} must be given")


@dataclass(frozen=True)
class SearchParams(Parameters):
    """How long and how to search.

    Attributes
    ----------
    time_limit : float
        Time limit in seconds, proofs included; infinity for none.
    gap : float
        Stop once this gap is proved; 0 asks for a proof of optimality.
    seed : int
        Same seed, one thread and no time limit reached: same partition.
    threads : int or None
        With two or more, searching and proving run side by side; None for all cores.
    exactly : bool
        Leave no stage empty. Bounds are those of at most k stages, except ``"exactly"`` on small graphs.
    bounds : collection of str or None
        Bounds to compute, out of :data:`onnx_pipeline.settings.BOUNDS`.
    """

    time_limit: float = 10.0
    gap: float = 0.0
    seed: int = 0
    threads: int | None = None
    exactly: bool = False
    bounds: Collection[str] | None = None

    def shared(self, searches: int) -> SearchParams:
        """Return the parameters of each of several searches that share the time limit."""
        return replace(self, time_limit=self.time_limit / searches)


@dataclass(frozen=True, eq=False)
class ProfileParams(Parameters):
    """Where the costs of a model's nodes come from.

    Attributes
    ----------
    cost_model : str or callable
        ``"profile"``, ``"analytic"``, an installed cost model, a COSTS.json or CSV file, or a function from
        :class:`~onnx_pipeline.CostRequest` to :class:`~onnx_pipeline.NodeCosts`.
    device : str, path-like or Device
        Its rates serve cost models that compute instead of measure.
    dims : mapping of str to int, optional
        Values of symbolic dimensions; 1 by default.
    inputs : path-like or mapping of str to ndarray, optional
        Representative inputs (an ``.npz`` file or arrays); seeded random ones by default.
    profile_runs : int, optional
        Inferences to measure per pair of sessions; by default 10, more for quick models.
    profile_seconds : float, optional
        Time budget of the profile; by default it grows with ``profile_runs``.
    cache : bool
        Use and keep profiles in the user's cache directory.
    provider : str
        Execution provider of onnxruntime to measure.
    custom_ops : sequence of path-like
        Libraries of custom operators for onnxruntime. Loading one runs its code.
    seed : int
        Seed of random inputs.
    intra_op_threads : int
        Of the measured sessions.
    """

    cost_model: str | CostModel = "profile"
    device: PathLike | Device | None = "cpu"
    dims: Mapping[str, int] | None = None
    inputs: PathLike | Feeds | None = None
    profile_runs: int | None = None
    profile_seconds: float | None = None
    cache: bool = True
    provider: str = "CPUExecutionProvider"
    custom_ops: Sequence[PathLike] = ()
    seed: int = 0
    intra_op_threads: int = 1


@dataclass(frozen=True)
class TargetParams(Parameters):
    """The devices: one by name or file, with overrides.

    Attributes
    ----------
    device : str, path-like or Device, optional
        By default ``"cpu"``; for a graph that brings its own transfer times ``"ideal"``, without
        overheads and limits.
    bandwidth, memory : float or str, optional
        Bytes/second between devices and bytes of fast memory, also as ``"16GB/s"`` and ``"8GiB"``. The memory
        ``"file"`` is the limit that a graph's file states, for parameters only.
    memory_mode : {"overflow", "hard"}
        Whether what exceeds the memory is streamed over the link or forbidden.
    activations : bool
        Whether the peak of live activations counts against the memory, next to parameters.
    """

    device: PathLike | Device | None = None
    bandwidth: float | str | None = None
    memory: float | str | None = None
    memory_mode: str = "overflow"
    activations: bool = True

    def target(self, graph: CostGraph | None = None) -> Target:
        """Return the partitioner's view of the devices.

        Parameters
        ----------
        graph : CostGraph, optional
            May state a memory limit, and whether model inputs and outputs are paid for.

        Raises
        ------
        UsageError
            If the device is unknown, or the memory is that of a file which states none.
        InputError
            If the device's file is wrong.
        """
        meta = {} if graph is None else graph.meta
        target = self._device(graph).target(host_io=meta.get("host_io", True) is not False)
        overrides: dict[str, Any] = {"memory_mode": self.memory_mode, "activations": self.activations}
        if self.bandwidth is not None:
            overrides["bandwidth"] = self.bandwidth
        if self.memory == "file":
            overrides |= {"memory": _stated_memory(meta), "activations": False}
        elif self.memory is not None:
            overrides["memory"] = self.memory
        return replace(target, **overrides)

    def check_costs(self, graph: CostGraph, progress: Progress) -> None:
        """Note where a graph's work is not that of these devices."""
        from onnx_pipeline.costmodel.devices import measured_elsewhere

        warning = measured_elsewhere(graph.meta, self._device(graph))
        if warning is not None:
            progress("note", None, warning)

    def _device(self, graph: CostGraph | None) -> Device:
        from onnx_pipeline.costmodel.devices import load_device

        own_times = graph is not None and graph.net_time is not None
        return load_device(self.device or ("ideal" if own_times else "cpu"))


def as_target(given: Target | Device | PathLike | None, graph: CostGraph | None = None) -> Target:
    """Return the target that somebody gave in one of its forms; none is free transfers, unlimited memory.

    Parameters
    ----------
    given : Target, Device, str, path-like or None
        A device may be given by name or as a TOML file.
    graph : CostGraph, optional
        Says whether model inputs and outputs are paid for, where a device is given.

    Raises
    ------
    UsageError
        If it is something else, or the device is unknown.
    InputError
        If the device's file is wrong.
    """
    from onnx_pipeline.graph.target import Target

    if given is None or isinstance(given, Target):
        return given or Target()
    try:
        device = check("device", given)
    except UsageError:
        raise UsageError(f"target must be a Target, a Device or the name of one, got {given!r}") from None
    return TargetParams(device).target(graph)


def _stated_memory(meta: Mapping[str, Any]) -> float:
    if "file_memory_bytes" not in meta:
        raise UsageError(
            "the graph file states no memory limit (maxSizePerFPGA)",
            Advice("{memory} needs one that does", memory="file"),
        )
    limit = meta["file_memory_bytes"]
    return math.inf if limit is None else float(limit)


@dataclass(frozen=True)
class MeasureParams(Parameters):
    """The closed loop.

    Attributes
    ----------
    measure : int or None
        How many other partitions may be measured to find a faster one; 0 measures nothing. By default 3 for
        profiled costs, none for others.
    measure_seconds : float or None
        Time that measuring may take, sessions' loading included; no round begins that would not end before.
        By default 4 seconds, or 64 inferences of a slower model, a minute at most.
    """

    measure: int | None = None
    measure_seconds: float | None = None

    def rounds(self, cost_model: str | CostModel) -> int:
        """Return how often for costs of this kind."""
        return 3 * (cost_model == "profile") if self.measure is None else self.measure


@dataclass(frozen=True)
class OutputParams(Parameters):
    """What is written.

    Attributes
    ----------
    force : bool
        Replace an existing output of this package.
    annotate : bool
        Also write the whole model with the standard's ``pipeline_stage`` on its nodes.
    weights : {"copy", "link", "reference"}
        Large weights in external data: copied into each stage's data file, hard-linked into the output, or
        used where they are.
    """

    force: bool = False
    annotate: bool = False
    weights: str = "copy"
