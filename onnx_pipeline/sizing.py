"""Figures that follow from a partition: what a request waits, what a device must hold, what replicas do."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from onnx_pipeline.graph.target import INFEASIBLE

if TYPE_CHECKING:
    from onnx_pipeline.partition.result import Partition
    from onnx_pipeline.solution import Solution


def latency_seconds(result: Solution) -> float:
    """Seconds that one request takes through all stages, transfers included: the sum of their totals."""
    return result.graph.seconds(sum(cost.total for cost in result.costs))


def memory_bytes(result: Solution) -> int:
    """Return the bytes that the fullest stage holds: its parameters and the peak of its live activations."""
    return held(result.partition)


def held(partition: Partition) -> int:
    """Return the bytes of parameters and live activations of the fullest stage."""
    stages = zip(partition.costs, partition.schedules, strict=True)
    return max((cost.parameter_bytes + schedule.peak for cost, schedule in stages), default=0)


@dataclass(frozen=True)
class Whole:
    """The whole model on one device, of which k devices could run k replicas.

    Attributes
    ----------
    seconds : float or None
        Of one request, what exceeds the memory streamed; None where a hard limit forbids it.
    memory_bytes : int
        Parameters and peak of live activations.
    fits : bool
        Whether one device's memory holds it.
    """

    seconds: float | None
    memory_bytes: int
    fits: bool

    @classmethod
    def of(cls, result: Solution) -> Whole:
        """Return the unsplit graph of a result on one of its devices."""
        whole = replace(result.partition, stages=1, stage_of=np.zeros_like(result.stage_of), exactly=False)
        tick, ticks = result.graph.ticks_per_second, sum(cost.total for cost in whole.costs)
        needed = held(whole)
        counted = needed if result.target.activations else whole.costs[0].parameter_bytes
        return cls(ticks / tick if ticks < INFEASIBLE else None, needed, counted <= result.target.memory)

    def rate(self, devices: int) -> float | None:
        """Requests per second of a replica on each of so many devices."""
        return devices / self.seconds if self.seconds else None


def alternatives(result: Solution) -> dict[str, Any]:
    """Return the latency of a partition, and what replicas on its devices would do instead."""
    whole = Whole.of(result)
    return {
        "latency_seconds": latency_seconds(result),
        "replicas": {
            "rate_per_second": whole.rate(result.problem.devices),
            "latency_seconds": whole.seconds,
            "memory_bytes": whole.memory_bytes,
            "fits": whole.fits,
        },
    }
