"""How a pipeline would run on devices that are not here, simulated: a discrete-event simulation.

References
----------
J. A. Buzacott, J. G. Shanthikumar, *Stochastic Models of Manufacturing Systems*, 1993, chapter 5: tandem
queues with blocking after service.
"""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from onnx_pipeline import manifest
from onnx_pipeline.errors import UsageError
from onnx_pipeline.manifest import Manifest
from onnx_pipeline.measurement.events import Service, Times
from onnx_pipeline.runtime.layout import Layout
from onnx_pipeline.runtime.stats import Span, Timeline, latencies

#: Timelines count nanoseconds in 64 bits, and requests add up.
_LONGEST = 1e6


@dataclass(frozen=True)
class Simulation:
    """Result of a simulation; times in seconds.

    Attributes
    ----------
    requests : int
    period_seconds : float
        Time between completions once the pipeline is full.
    throughput_per_second : float
    latency_seconds : dict
        ``p50``, ``p95``, ``p99`` from admission to completion.
    utilisation : tuple of float
        Share of the total time that each stage computes, on average over its replicas.
    devices : tuple of float
        Share of the total time that each device computes: by stage, replicas one after the other, stages that
        share a device only once.
    timelines : list of Timeline
        Every request in every stage, as a real session gives them.
    """

    requests: int
    period_seconds: float
    throughput_per_second: float
    latency_seconds: dict[str, float | None]
    utilisation: tuple[float, ...]
    devices: tuple[float, ...]
    timelines: list[Timeline] = field(repr=False)

    def to_json(self) -> dict[str, Any]:
        """Return a JSON document without the timelines."""
        return {
            "requests": self.requests,
            "period_seconds": self.period_seconds,
            "throughput_per_second": self.throughput_per_second,
            "latency_seconds": self.latency_seconds,
            "utilisation": list(self.utilisation),
            "device_utilisation": list(self.devices),
        }


def simulate(
    split: Manifest | str | os.PathLike[str],
    requests: int = 100,
    queue_depth: int = 2,
    *,
    max_in_flight: int | None = None,
    stage_seconds: npt.ArrayLike | None = None,
    handover_seconds: float = 0.0,
    arrival_seconds: npt.ArrayLike | None = None,
) -> Simulation:
    """Simulate a pipeline whose stages have the devices that the split says.

    That is a device per stage, or several for a stage with replicas, or one for several stages: that one
    serves the latest stage at which a request waits.

    Parameters
    ----------
    split : Manifest or path-like
        A split, or its directory.
    requests : int
    queue_depth, max_in_flight : int
        As for :class:`~onnx_pipeline.PipelineSession`.
    stage_seconds : array_like, optional
        Time of every stage, shape (k,), or of every request in every stage, shape (requests, k). By default
        the costs of the manifest, transfers and overheads included.
    handover_seconds : float
        From one stage to the next, and from the last to the caller, if stage times exclude it.
    arrival_seconds : array_like, optional
        When each request arrives, not decreasing; all at once by default.

    Raises
    ------
    UsageError
        If there is nothing to simulate, or the times do not fit the stages.

    Examples
    --------
    >>> simulate("out", 1000).throughput_per_second  # doctest: +SKIP
    """
    document = split if isinstance(split, Manifest) else manifest.read(split)
    stages = len(document.stages)
    if requests < 1 or queue_depth < 1 or (max_in_flight is not None and max_in_flight < 1):
        raise UsageError("requests, queue_depth and max_in_flight must be at least 1")
    given = [s.cost["total_seconds"] for s in document.stages] if stage_seconds is None else stage_seconds
    times = _finite("stage_seconds", given, (requests, stages))
    arrivals = _finite("arrival_seconds", 0.0 if arrival_seconds is None else arrival_seconds, (requests,))
    handover = float(_finite("handover_seconds", handover_seconds, ()))
    if (np.diff(arrivals) < 0).any():
        raise UsageError("arrival_seconds must not decrease")
    layout = Layout.of(document)
    limit = max_in_flight or layout.capacity(queue_depth)
    return _summary(Service(layout, times, arrivals, queue_depth, limit, handover))


def simulate_stages(
    stage_seconds: Sequence[float], requests: int, queue_depth: int = 2, layout: Layout | None = None
) -> Simulation:
    """Simulate stages that take the same time for every request, all of which wait at the door.

    Parameters and errors as in :func:`simulate`; without a layout, every stage has a device.
    """
    times = _finite("stage_seconds", stage_seconds, (requests, len(stage_seconds)))
    layout = layout or Layout.chain(len(stage_seconds))
    limit = layout.capacity(queue_depth)
    return _summary(Service(layout, times, np.zeros(requests), queue_depth, limit, 0.0))


_Array = npt.NDArray[np.float64]


def _finite(name: str, values: npt.ArrayLike, shape: tuple[int, ...]) -> _Array:
    """Return times of that shape; one for all requests, or one for everything, will do."""
    try:
        times: _Array = np.broadcast_to(np.asarray(values, dtype=np.float64), shape)
    except (ValueError, TypeError, OverflowError):
        fits = f"numbers of shape {shape}, or what broadcasts to it" if shape else "a number"
        raise UsageError(f"{name} must be {fits}") from None
    if not ((times >= 0) & (times <= _LONGEST)).all():
        raise UsageError(f"{name} must be from 0 to {_LONGEST:g} seconds")
    return times


def _summary(service: Service) -> Simulation:
    layout, seconds, times = service.layout, service.seconds, service.run()
    requests, stages = seconds.shape
    done = np.sort(times.done)
    total = float(done[-1])
    replicas = np.array([len(workers) for workers in layout.serving])
    busy = np.zeros(len(layout.workers))
    np.add.at(busy, times.worker, seconds)
    # The first requests fill the pipeline, the last ones empty it: a quarter of all, where there are enough.
    skip = min(requests - 1, max(stages, requests // 4)) if requests > 1 else 0
    tail = min(service.limit, (requests - skip) // 4)
    period = _period(done[skip : requests - tail], math.lcm(*replicas.tolist())) or total / requests
    return Simulation(
        requests,
        period,
        1 / period if period else float("inf"),
        latencies((times.done - times.enter)[skip:].tolist()),
        tuple((seconds.sum(axis=0) / replicas / total).tolist()) if total else (0.0,) * stages,
        tuple((busy / total).tolist()) if total else (0.0,) * len(busy),
        _timelines(layout, times),
    )


def _period(done: _Array, cycle: int) -> float:
    """Return the mean time between completions, over whole cycles: replicas may finish all at once."""
    count = len(done) - 1
    count = max(count // cycle * cycle, min(count, cycle))
    return float(done[-1] - done[-1 - count]) / count if count > 0 else 0.0


def _timelines(layout: Layout, times: Times) -> list[Timeline]:
    def nanoseconds(values: _Array) -> list[Any]:
        whole: list[Any] = np.rint(values * 1e9).astype(np.int64).tolist()
        return whole

    rows = [nanoseconds(values) for values in (times.idle, times.start, times.end, times.sent)]
    idle, start, end, sent = rows
    replica = np.array(layout.replica)[times.worker].tolist()
    return [
        Timeline(
            i,
            entered,
            done,
            tuple(
                Span(s, idle[i][s], start[i][s], end[i][s], sent[i][s], 0, 0, replica[i][s])
                for s in range(layout.stages)
            ),
        )
        for i, (entered, done) in enumerate(
            zip(nanoseconds(times.enter), nanoseconds(times.done), strict=True)
        )
    ]
