"""The rows of an exploration: what a number of stages, or of devices, comes to on one kind of devices."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, cast

if TYPE_CHECKING:
    from onnx_pipeline.graph.costgraph import CostGraph
    from onnx_pipeline.graph.target import Target
    from onnx_pipeline.partition.sweep import Refusal
    from onnx_pipeline.replica_plan import ReplicaPlan
    from onnx_pipeline.sizing import Whole
    from onnx_pipeline.solution import Solution


class Figures(NamedTuple):
    """What a partition comes to, however many stages stay empty."""

    bottleneck: float
    latency: float
    memory: int
    used: int


@dataclass(frozen=True, eq=False)
class Setup:
    """One kind of devices for one graph, and the whole model on one of them."""

    graph: CostGraph
    target: Target
    whole: Whole
    _known: dict[int, Figures] = field(default_factory=dict, repr=False)

    def figures(self, result: Solution) -> Figures:
        """Return the figures of a result; rows that share their partition share them."""
        from onnx_pipeline.sizing import latency_seconds, memory_bytes

        key = id(result.stage_of)  # it stays alive with the row
        if key not in self._known:
            latency, memory = latency_seconds(result), memory_bytes(result)
            self._known[key] = Figures(result.bottleneck, latency, memory, result.used)
        return self._known[key]

    def least_latency(self, stages: int | None) -> float:
        """Seconds that one request takes at least on so many stages, or on any number."""
        from onnx_pipeline.partition.bounds.crossings import paid_once

        # What any number of devices hold together is beyond every model.
        paid = paid_once(self._instance, 1 << 40 if stages is None else stages)
        return self.graph.seconds(self._instance.alpha + paid)

    @cached_property
    def _instance(self) -> Any:
        from onnx_pipeline.partition.instance.build import build

        return build(self.graph, self.target)


@dataclass(frozen=True, eq=False)
class Row:
    """One number of stages on one kind of devices.

    Attributes
    ----------
    stages : int
        Number of devices k.
    setup : Setup
    result : PartitionResult, ReplicaPlan or None
        None where no partition is known.
    refusal : Refusal or None
        Why there is none.
    """

    #: What is counted.
    noun: ClassVar[str] = "stage"

    stages: int
    setup: Setup = field(repr=False)
    result: Solution | None
    refusal: Refusal | None = None

    @property
    def figures(self) -> Figures | None:
        """What the partition comes to, None without one."""
        return None if self.result is None else self.setup.figures(self.result)

    @property
    def bottleneck_seconds(self) -> float | None:
        """Largest stage cost, rounded up."""
        return None if self.figures is None else self.figures.bottleneck

    @property
    def lower_bound_seconds(self) -> float | None:
        """Best lower bound of the bottleneck, rounded down."""
        return None if self.result is None else self.result.lower_bound

    @property
    def rate_per_second(self) -> float | None:
        """Requests per second, 1 / bottleneck."""
        return 1 / self.bottleneck_seconds if self.bottleneck_seconds else None

    @property
    def latency_seconds(self) -> float | None:
        """Seconds that one request takes through all stages."""
        return None if self.figures is None else self.figures.latency

    @property
    def memory_bytes(self) -> int | None:
        """Bytes that the fullest stage holds: parameters and peak of live activations."""
        return None if self.figures is None else self.figures.memory

    @property
    def speed_up(self) -> float | None:
        """Rate in terms of one device's."""
        whole, bottleneck = self.setup.whole.seconds, self.bottleneck_seconds
        return whole / bottleneck if whole is not None and bottleneck else None

    @property
    def least_latency_seconds(self) -> float:
        """Seconds that one request takes at least on so many stages, whatever the partition."""
        only = self.latency_seconds if self.stages == 1 else None
        return self.setup.least_latency(self.stages) if only is None else only

    @property
    def least_latency_ever_seconds(self) -> float:
        """Seconds that one request takes at least on any number of stages."""
        return self.setup.least_latency(None)

    @property
    def status(self) -> str:
        """``"optimal"``, ``"feasible"``, ``"infeasible"`` where that is proved, or ``"unknown"``."""
        if self.result is not None:
            return self.result.status
        return "infeasible" if self.refusal is not None and self.refusal.proved else "unknown"

    def to_json(self) -> dict[str, Any]:
        """Return the figures: times in seconds, sizes in bytes, null for what is unknown or unlimited."""
        from onnx_pipeline.planfile import target_fields

        fields = target_fields(self.setup.target, self.stages)
        result, whole = self.result, self.setup.whole
        best = None if result is None else max(result.bounds, key=lambda bound: bound.ticks, default=None)
        return {
            "stages": self.stages,
            "used": None if self.figures is None else self.figures.used,
            "bandwidth_bytes_per_second": fields["bandwidth_bytes_per_second"],
            "memory_limit_bytes": fields["memory_bytes"],
            "bottleneck_seconds": self.bottleneck_seconds,
            "rate_per_second": self.rate_per_second,
            "latency_seconds": self.latency_seconds,
            "lower_bound_seconds": self.lower_bound_seconds,
            "bound_method": None if best is None else best.method,
            "gap": None if result is None else result.gap,
            "status": self.status,
            "memory_bytes": self.memory_bytes,
            "speed_up": self.speed_up,
            "replicas_rate_per_second": whole.rate(self.stages),
            "replicas_fit": whole.fits,
            "wall_seconds": None if result is None else result.search.wall_seconds,
        }


@dataclass(frozen=True, eq=False)
class DeviceRow(Row):
    """One number of devices for stages with replicas; its ``stages`` is that number."""

    noun: ClassVar[str] = "device"

    @property
    def plan(self) -> ReplicaPlan | None:
        """Stages and replicas."""
        return cast("ReplicaPlan | None", self.result)

    @property
    def figures(self) -> Figures | None:
        """What the plan comes to, None without one; ``used`` counts devices."""
        if self.plan is None:
            return None
        own = self.plan.figures
        return Figures(own.period, own.latency, own.memory_bytes, self.plan.used)

    def to_json(self) -> dict[str, Any]:
        """Return the figures of :class:`Row` for a number of devices, with the devices of each stage."""
        own = super().to_json()
        del own["stages"]
        replicas = None if self.plan is None else [r for r in self.plan.replicas if r]
        return {"devices": self.stages, "replicas": replicas, **own}


def front(rows: Sequence[Row]) -> list[Row]:
    """Return the rows of one target, ascending, that bring something over fewer devices or stages."""
    kept: list[Row] = []
    for row in rows:
        own = row.figures
        known = [each.figures for each in kept if each.figures is not None]
        if own is not None and all(
            own.bottleneck < each.bottleneck or own.latency < each.latency for each in known
        ):
            kept.append(row)
    return kept
