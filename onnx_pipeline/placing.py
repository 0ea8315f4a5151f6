"""Stages on devices that differ: what runs where."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from onnx_pipeline.graph.constraints import NO_DEMANDS
from onnx_pipeline.parameters import SearchParams
from onnx_pipeline.progress import ProgressLike, shows_progress, silent

if TYPE_CHECKING:
    from onnx_pipeline.fleet_planning import FleetLike
    from onnx_pipeline.graph.costgraph import CostGraph, IntArray
    from onnx_pipeline.graph.fleet import FleetTarget
    from onnx_pipeline.graph.objective import StageCost
    from onnx_pipeline.partition.fleets.known import FleetKnown
    from onnx_pipeline.partition.result import Bound


@dataclass(frozen=True, eq=False)
class Placement:
    """Stages, the device of each, and the proof how much better another placement could be.

    Attributes
    ----------
    graph : CostGraph
        With the work of every kind in ``work_on``.
    fleet : FleetTarget
        The devices.
    stage_of : int64[n]
        Stage of every node; numbered without gaps, along the tensors.
    device_of : tuple of int
        Device of every stage.
    bounds : tuple of Bound
        Lower bounds on the largest load of a device.
    method : str
        What found the placement.
    interrupted : bool
        Whether Ctrl-C ended the search.
    seconds : float
        Wall time of the search.
    """

    graph: CostGraph
    fleet: FleetTarget
    stage_of: IntArray
    device_of: tuple[int, ...]
    bounds: tuple[Bound, ...]
    method: str
    interrupted: bool = False
    seconds: float = 0.0

    def __repr__(self) -> str:
        """Return the verdict in one line."""
        from onnx_pipeline.brief import of_placement

        return of_placement(self)

    @property
    def stages(self) -> int:
        """Number of stages."""
        return len(self.device_of)

    @property
    def loads(self) -> list[StageCost]:
        """Load of every device, recomputed by the one objective; what targets charge is rounded up."""
        from onnx_pipeline.graph.fleet import device_loads

        return device_loads(self.graph, self.fleet, self.stage_of, self.device_of, up=True)

    @property
    def upper(self) -> int:
        """Largest load in ticks, as searches count it."""
        from onnx_pipeline.graph.fleet import device_loads

        loads = device_loads(self.graph, self.fleet, self.stage_of, self.device_of)
        return max(load.total for load in loads)

    @property
    def lower(self) -> int:
        """Best lower bound in ticks."""
        return max((bound.ticks for bound in self.bounds), default=0)

    @property
    def bottleneck(self) -> float:
        """Largest load of a device in seconds, rounded up."""
        return self.graph.seconds(max(load.total for load in self.loads))

    @property
    def latency(self) -> float:
        """Seconds that all devices together spend on one request, rounded up."""
        return self.graph.seconds(sum(load.total for load in self.loads))

    @property
    def lower_bound(self) -> float:
        """Seconds that the bottleneck is at least, whatever the placement, rounded down."""
        return self.graph.seconds(self.lower)

    @property
    def gap(self) -> float:
        """1 - lower bound / bottleneck."""
        upper = self.upper
        return 1 - self.lower / upper if upper else 0.0

    @property
    def status(self) -> str:
        """``"optimal"`` when bound and bottleneck agree to the tick, else ``"feasible"``."""
        return "optimal" if self.lower >= self.upper else "feasible"

    def to_json(self) -> dict[str, Any]:
        """Return the figures: times in seconds, stages by their nodes."""
        names = self.graph.node_names
        nodes: list[list[str]] = [[] for _ in self.device_of]
        for v, stage in enumerate(self.stage_of.tolist()):
            nodes[stage].append(names[v])
        return {
            "devices": [self.fleet.kind_of(device).name for device in range(len(self.fleet.devices))],
            "stages": [
                {"device": device, "node_names": members}
                for device, members in zip(self.device_of, nodes, strict=True)
            ],
            "load_seconds": [self.graph.seconds(load.total) for load in self.loads],
            "bottleneck_seconds": self.bottleneck,
            "latency_seconds": self.latency,
            "lower_bound_seconds": self.lower_bound,
            "gap": self.gap,
            "status": self.status,
            "bounds": [bound.to_json() for bound in self.bounds],
            "method": self.method,
            "interrupted": self.interrupted,
        }


@shows_progress("searching")
def place(
    graph: CostGraph,
    fleet: FleetTarget | FleetLike,
    *,
    time_limit: float = 10.0,
    gap: float = 0.0,
    seed: int = 0,
    pins: Mapping[str, int] | None = None,
    together: Iterable[Collection[str]] = (),
    no_cut: Collection[str] = (),
    progress: ProgressLike = silent,
) -> Placement:
    """Place a cost graph on devices that differ and certify the bottleneck.

    Every device is of a kind, which has links, memory and overheads of its own and does a node's work in a
    time of its own, ``graph.work_on``, or not at all. The bottleneck is the largest load of a device; some
    may stay empty.

    Parameters
    ----------
    graph : CostGraph
    fleet : FleetTarget, Fleet, mapping, str or path-like
        The devices, also as a TOML file; in the order of the pipeline, unless they may be taken in any.
    time_limit : float
        Seconds of search, proofs included.
    gap : float
        Stop once this gap is proved; 0 asks for a proof of optimality.
    seed : int
        Same seed and no time limit reached: same placement.
    pins : mapping of str to int, optional
        Device, counted from 0, that a node must be on, where devices are in a fixed order. The names here and
        below may be patterns (``encoder/*``).
    together, no_cut, progress
        As in :func:`onnx_pipeline.partition`.

    Returns
    -------
    Placement
        After a KeyboardInterrupt, the best so far with ``interrupted`` set.

    Raises
    ------
    UsageError
        If a parameter is out of range or of the wrong kind, a name is unknown, or a pin names no device.
    InfeasibleError
        If no placement is found that runs: there is a node that no device runs, or pins or hard memory
        limits stand against it.

    Examples
    --------
    >>> import numpy as np
    >>> from dataclasses import replace
    >>> from onnx_pipeline import GraphBuilder, Target
    >>> from onnx_pipeline.graph.fleet import FleetTarget, Kind
    >>> builder = GraphBuilder("two", ticks_per_second=1000)
    >>> a, b = builder.add_node("a", 3e6), builder.add_node("b", 6e6)
    >>> _ = builder.add_net("t", a, [b], nbytes=0)
    >>> graph = replace(builder.build(), work_on={"fast": np.array([1, 2])})
    >>> fleet = FleetTarget((Kind("fast", Target()), Kind("slow", Target())), (1, 0))
    >>> placement = place(graph, fleet)
    >>> placement.device_of, placement.bottleneck
    ((1,), 0.003)
    """
    from onnx_pipeline.partition.fleets.planning import plan_fleet

    params = SearchParams(time_limit, gap, seed)
    graph = NO_DEMANDS.joined(pins, together, no_cut).apply(graph)
    graph, chosen = as_fleet(graph, fleet)
    return _placement(plan_fleet(graph, chosen, params, progress))


def as_fleet(graph: CostGraph, fleet: FleetTarget | FleetLike) -> tuple[CostGraph, FleetTarget]:
    """Return a graph with the work of every kind, and the devices, from any form that callers give.

    Raises
    ------
    UsageError
        If it is none of them.
    InputError
        If the fleet's file is wrong.
    """
    from onnx_pipeline.costmodel.fleets import load_fleet
    from onnx_pipeline.graph.fleet import FleetTarget

    if isinstance(fleet, FleetTarget):
        return graph, fleet
    loaded = load_fleet(fleet)
    return loaded.priced(graph), loaded.target(graph)


def _placement(known: FleetKnown) -> Placement:
    return Placement(
        known.graph,
        known.fleet,
        known.stage_of,
        known.device_of,
        tuple(known.bounds),
        known.method,
        known.interrupted,
        known.seconds,
    )
