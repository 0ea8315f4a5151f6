"""What a split delivers on this machine, measured in rounds that measure everything once.

Clocks and neighbours make a machine faster and slower within seconds, so only times of the same round are
compared, and medians over rounds of their ratios are reported.
"""

from __future__ import annotations

import math
import os
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from onnx_pipeline.errors import Advice, UsageError
from onnx_pipeline.figures import format_count
from onnx_pipeline.manifest import Manifest
from onnx_pipeline.measurement.baselines import unsplit
from onnx_pipeline.measurement.feeds import request_feeds
from onnx_pipeline.measurement.simulation import simulate
from onnx_pipeline.measurement.timeline import Observe
from onnx_pipeline.parameters import ModelLike
from onnx_pipeline.progress import ProgressLike, shows_progress, silent
from onnx_pipeline.runtime import PipelineSession
from onnx_pipeline.runtime.inputs import check_feeds
from onnx_pipeline.runtime.layout import Layout
from onnx_pipeline.runtime.placement import usable_cores
from onnx_pipeline.runtime.stats import NS, Span, Timeline, latencies

#: Seconds that one measurement should last, when the number of requests is not given.
MEASUREMENT = 0.5
#: From one stage to the next when both are idle: a wake-up and a call of onnxruntime.
HANDOVER_SECONDS = {"threads": 35e-6, "processes": 60e-6}
#: onnxruntime's threads spin for a moment after their last call, on the cores of whoever comes next.
PAUSE = 0.01


@dataclass
class _Round:
    """Seconds, measured shortly after each other."""

    period: float = math.nan
    stages: list[float] = field(default_factory=list)
    alone: float = math.nan
    baselines: dict[str, float] = field(default_factory=dict)


@shows_progress()
def bench(
    directory: str | os.PathLike[str],
    *,
    requests: int | None = None,
    rounds: int = 5,
    model: ModelLike | None = None,
    inputs: Mapping[str, Any] | None = None,
    dims: Mapping[str, int] | None = None,
    providers: Any = None,
    backend: str = "auto",
    queue_depth: int = 2,
    max_in_flight: int | None = None,
    custom_ops: Sequence[str | os.PathLike[str]] = (),
    allow_reference: str | os.PathLike[str] | None = None,
    baselines: bool = True,
    progress: ProgressLike = silent,
    observe: Observe | None = None,
) -> dict[str, Any]:
    """Measure a split against its prediction, its simulation and the unsplit model.

    Parameters
    ----------
    directory : path-like
        Output of ``split``.
    requests : int, optional
        Pipelined requests in total; by default each measurement takes about half a second.
    rounds : int
        Every round measures each contender once.
    model : path-like, onnx.ModelProto or onnx_ir.Model, optional
        The unsplit model; reassembled from the stages by default.
    inputs : mapping of str to array, optional
        One request; random numbers by default.
    dims : mapping of str to int, optional
        Symbolic dimensions of random inputs; the profile's by default.
    providers, backend, queue_depth, max_in_flight, custom_ops, allow_reference
        As for :class:`~onnx_pipeline.PipelineSession`. The unsplit model runs on the first stage's provider.
    baselines : bool
        Also run the unsplit model: with one thread, with all, and as replicas side by side.
    observe : Observe, optional
        Called with the timelines of the last round's pipelined requests.

    Returns
    -------
    dict
        A JSON document; all times are seconds, those of ``baselines`` per request.

    Raises
    ------
    UsageError
        If there is nothing to measure, a model is given without baselines, or a dimension is unknown or
        contradicts the inputs.
    InputError
        If the split or the inputs cannot be used.
    """
    if rounds < 1 or (requests is not None and requests < 1):
        raise UsageError("requests and rounds must be at least 1")
    if model is not None and not baselines:
        hint = Advice("leave out {model}", model=...)
        raise UsageError("without baselines the unsplit model is not used", hint)
    progress("load", None, "the stages")
    with PipelineSession(
        directory,
        providers,
        backend=backend,
        queue_depth=queue_depth,
        max_in_flight=max_in_flight,
        custom_ops=custom_ops,
        allow_reference=allow_reference,
    ) as session:
        feeds = request_feeds(session.directory, session.manifest, dims, inputs, progress)
        check_feeds(session.manifest, feeds)
        contenders: dict[str, Callable[[int], float]] = {}
        if baselines:
            progress("load", None, "the unsplit model")
            contenders = unsplit(session, model, feeds)
        session.run(None, feeds)
        each = _requests_per_round(session, feeds, requests, rounds)
        session.warm_up(2, feeds)
        for measure in contenders.values():
            measure(len(session.manifest.stages))
        found: list[_Round] = []
        lines: list[Timeline] = []
        for index in range(rounds):
            progress(
                "bench", index / rounds, f"round {index + 1} of {rounds}, {format_count(each, 'request')}"
            )
            found.append(_measure(session, feeds, each, contenders, lines, index))
        progress("bench", 1.0, "done")
        if observe is not None:
            observe(lines[-each:], [stage.file for stage in session.manifest.stages])
        return _document(session, found, lines, each)


def _requests_per_round(
    session: PipelineSession, feeds: Mapping[str, Any], requests: int | None, rounds: int
) -> int:
    """Return how many requests each measurement takes: enough to fill the pipeline, once it is known."""
    layout = Layout.of(session.manifest)
    least = 2 * max(layout.stages, len(layout.workers))
    if requests is not None:
        return max(least, -(-requests // rounds))
    begin = time.perf_counter()
    session.run(None, feeds)
    seconds = (time.perf_counter() - begin) / least * 2
    return max(least, min(900, math.ceil(MEASUREMENT / seconds)))


def _measure(
    session: PipelineSession,
    feeds: Mapping[str, Any],
    count: int,
    contenders: Mapping[str, Callable[[int], float]],
    lines: list[Timeline],
    index: int,
) -> _Round:
    """Measure everything once, in an order that turns from round to round."""
    found = _Round()

    def alone() -> None:
        mark = _mark(session)
        most = max(stage.replicas for stage in session.manifest.stages)
        for _ in range(max(3 * most, count // (2 * len(session.manifest.stages)))):
            session.run(None, feeds)
        spans = [line.spans for line in _since(session, mark)]
        stages = range(len(session.manifest.stages))
        found.stages = [statistics.median((row[s].end - row[s].start) / NS for row in spans) for s in stages]
        found.alone = statistics.median((line.done - line.submitted) / NS for line in _since(session, mark))

    def pipelined() -> None:
        mark = _mark(session)
        fill = session.max_in_flight
        for _ in session.map(feeds for _ in range(count + fill + 1)):
            pass
        full = sorted(_since(session, mark), key=lambda line: line.done)[fill:]
        lines.extend(full)
        found.period = (full[-1].done - full[0].done) / (len(full) - 1) / NS

    def baseline(name: str) -> Callable[[], None]:
        return lambda: found.baselines.update({name: contenders[name](max(2, count // 2))})

    steps = [alone, pipelined, *map(baseline, contenders)]
    for step in steps[index % len(steps) :] + steps[: index % len(steps)]:
        time.sleep(PAUSE)
        step()
    return found


def _mark(session: PipelineSession) -> int:
    lines = session.timelines()
    return lines[-1].number if lines else -1


def _since(session: PipelineSession, mark: int) -> list[Timeline]:
    return sorted((line for line in session.timelines() if line.number > mark), key=lambda line: line.number)


def _document(
    session: PipelineSession, rounds: Sequence[_Round], lines: Sequence[Timeline], each: int
) -> dict[str, Any]:
    document = session.manifest
    layout = Layout.of(document)
    period = statistics.median(r.period for r in rounds)
    measured = [statistics.median(values) for values in zip(*(r.stages for r in rounds), strict=True)]
    predicted = [stage.cost["total_seconds"] for stage in document.stages]
    names = rounds[0].baselines
    model = simulate(
        document,
        max(each, 4 * session.max_in_flight),
        session.queue_depth,
        max_in_flight=session.max_in_flight,
        stage_seconds=measured,
        handover_seconds=HANDOVER_SECONDS[session.backend],
    )
    return {
        "model": document.model.file,
        "directory": os.fspath(session.directory),
        "backend": session.backend,
        "cores": len(usable_cores()),
        "rounds": len(rounds),
        "requests": each * len(rounds),
        "queue_depth": session.queue_depth,
        "max_in_flight": session.max_in_flight,
        "period_seconds": period,
        "throughput_per_second": 1 / period,
        "efficiency": statistics.median(max(layout.load(r.stages)) / r.period for r in rounds),
        "latency_seconds": latencies([(line.done - line.submitted) / NS for line in lines]),
        "unloaded_latency_seconds": statistics.median(r.alone for r in rounds),
        "bottleneck": {
            "predicted_seconds": max(layout.load(predicted)),
            "measured_seconds": max(layout.load(measured)),
        },
        "stages": [
            {
                "index": i,
                "file": stage.file,
                "predicted_seconds": predicted[i],
                "measured_seconds": measured[i],
            }
            | _mean_spans([line.spans[i] for line in lines])
            | _by_replica([line.spans[i] for line in lines], stage.replicas, predicted[i], measured[i])
            for i, stage in enumerate(document.stages)
        ],
        "devices": _by_device(document, layout, lines, predicted, measured, period),
        "baselines": {name: statistics.median(r.baselines[name] for r in rounds) for name in names}
        | ({"replicas": len(layout.workers)} if names else {}),
        "speedup": {
            name.removesuffix("_seconds"): statistics.median(r.baselines[name] / r.period for r in rounds)
            for name in names
        },
        "simulated": model.to_json(),
    }


def _mean_spans(spans: Sequence[Span]) -> dict[str, float]:
    """Return where a stage's time went while the pipeline was full, per request."""
    count = max(1, len(spans))
    return {
        "busy_seconds": sum(s.end - s.start - s.copy for s in spans) / count / NS,
        "wait_input_seconds": sum(s.start - s.idle for s in spans) / count / NS,
        "wait_output_seconds": sum(s.sent - s.end for s in spans) / count / NS,
        "transfer_seconds": sum(s.copy for s in spans) / count / NS,
        "transfer_bytes": sum(s.nbytes for s in spans) / count,
    }


def _by_replica(spans: Sequence[Span], replicas: int, predicted: float, measured: float) -> dict[str, Any]:
    """Return how often a stage of these costs finishes a request, and what each replica did of it."""
    mine = [[span for span in spans if span.replica == replica] for replica in range(replicas)]
    return {
        "replicas": replicas,
        "predicted_period_seconds": predicted / replicas,
        "measured_period_seconds": measured / replicas,
        "by_replica": [
            {"replica": i, "requests": len(each)} | _mean_spans(each) for i, each in enumerate(mine)
        ],
    }


def _by_device(
    document: Manifest,
    layout: Layout,
    lines: Sequence[Timeline],
    predicted: Sequence[float],
    measured: Sequence[float],
    period: float,
) -> list[dict[str, Any]]:
    """Return what every device has to do for each request, and its share of time at work when full."""
    fleet = document.target.get("fleet")
    busy = [0.0] * len(layout.workers)
    for span in (span for line in lines for span in line.spans):
        busy[layout.serving[span.stage][span.replica]] += (span.end - span.start) / NS
    rows = []
    for worker, own in enumerate(layout.workers):
        device = document.stages[own[0]].device
        kind = None if fleet is None or device is None else fleet["kinds"][fleet["devices"][device]]["name"]
        rows.append(
            {
                "device": device,
                "kind": kind,
                "stages": list(own),
                "replica": layout.replica[worker],
                "predicted_seconds": layout.load(predicted)[worker],
                "measured_seconds": layout.load(measured)[worker],
                "utilisation": busy[worker] / (period * max(1, len(lines))),
            }
        )
    return rows
