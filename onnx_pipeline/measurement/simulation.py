"""How a pipeline would run on k devices, simulated.

Requests keep their order, so the events of one request follow from those of earlier ones: a discrete-event
simulation without an event list. For request i, stage s, queue depth d and at most m requests inside:

    enter(i)   = max(arrival(i), done(i - m))
    start(i,s) = max(free(i-1,s), handed(i,s-1) + handover)
    end(i,s)   = start(i,s) + time(i,s)
    handed(i,s) = free(i,s) = max(end(i,s), start(i-d,s+1))         the next queue has room again
    done(i)    = end(i,k-1) + handover

References
----------
J. A. Buzacott, J. G. Shanthikumar, *Stochastic Models of Manufacturing Systems*, 1993, chapter 5: tandem
queues with blocking after service.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from onnx_pipeline import manifest
from onnx_pipeline.errors import UsageError
from onnx_pipeline.manifest import Manifest
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
        Share of the total time that each stage computes.
    timelines : list of Timeline
        Every request in every stage, as a real session gives them.
    """

    requests: int
    period_seconds: float
    throughput_per_second: float
    latency_seconds: dict[str, float | None]
    utilisation: tuple[float, ...]
    timelines: list[Timeline] = field(repr=False)

    def to_json(self) -> dict[str, Any]:
        """Return a JSON document without the timelines."""
        return {
            "requests": self.requests,
            "period_seconds": self.period_seconds,
            "throughput_per_second": self.throughput_per_second,
            "latency_seconds": self.latency_seconds,
            "utilisation": list(self.utilisation),
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
    """Simulate a pipeline that is one device per stage.

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
    limit = max_in_flight or Layout.chain(stages).capacity(queue_depth)
    enter, start, end, handed, done = _flow(times, arrivals, queue_depth, limit, handover)
    return _summary(times, enter, start, end, handed, done)


def simulate_stages(stage_seconds: Sequence[float], requests: int, queue_depth: int = 2) -> Simulation:
    """Simulate stages that take the same time for every request, all of which wait at the door.

    Parameters and errors as in :func:`simulate`.
    """
    times = _finite("stage_seconds", stage_seconds, (requests, len(stage_seconds)))
    limit = Layout.chain(len(stage_seconds)).capacity(queue_depth)
    return _summary(times, *_flow(times, np.zeros(requests), queue_depth, limit, 0.0))


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


def _flow(
    times: _Array, arrivals: _Array, depth: int, limit: int, handover: float
) -> tuple[_Array, _Array, _Array, _Array, _Array]:
    """Evaluate the recurrences of the module's text; arrays of shape (requests,) or (requests, k)."""
    requests, stages = times.shape
    enter, done = np.zeros(requests), np.zeros(requests)
    start, end, handed = (np.zeros((requests, stages)) for _ in range(3))
    for i in range(requests):
        enter[i] = max(arrivals[i], done[i - limit] if i >= limit else 0.0)
        ready = enter[i]
        for s in range(stages):
            start[i, s] = max(ready + handover, handed[i - 1, s] if i else 0.0)
            end[i, s] = handed[i, s] = start[i, s] + times[i, s]
            if s + 1 < stages and i >= depth:
                handed[i, s] = max(end[i, s], start[i - depth, s + 1])
            ready = handed[i, s]
        done[i] = ready + handover
    return enter, start, end, handed, done


def _summary(
    times: _Array, enter: _Array, start: _Array, end: _Array, handed: _Array, done: _Array
) -> Simulation:
    requests, stages = times.shape
    # The first requests fill the pipeline: a quarter of all is left out, where there are enough.
    skip = min(requests - 1, max(stages, requests // 4)) if requests > 1 else 0
    full = requests - 1 - skip
    period = float(done[-1] - done[skip]) / full if full > 0 else float(done[-1] / requests)
    nanoseconds = [np.rint(a * 1e9).astype(np.int64).tolist() for a in (enter, start, end, handed, done)]
    entered, began, ended, sent, finished = nanoseconds
    timelines = [
        Timeline(
            i,
            entered[i],
            finished[i],
            tuple(
                Span(s, sent[i - 1][s] if i else 0, began[i][s], ended[i][s], sent[i][s], 0, 0)
                for s in range(stages)
            ),
        )
        for i in range(requests)
    ]
    return Simulation(
        requests,
        period,
        1 / period if period else float("inf"),
        latencies((done - enter)[skip:].tolist()),
        tuple((times.sum(axis=0) / done[-1]).tolist()) if done[-1] else (0.0,) * stages,
        timelines,
    )
