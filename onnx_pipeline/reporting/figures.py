"""The numbers of a report, taken from the document and its partition: plain rows, no markup."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from onnx_pipeline.figures import format_bytes, format_seconds
from onnx_pipeline.graph.costgraph import HOST
from onnx_pipeline.partition.result import Partition

Row = dict[str, Any]
#: Parts of a stage's cost in the order of their bars.
PARTS = ("in", "work", "out", "overflow", "overhead")
_FIELDS = {"in": "input", "work": "work", "out": "output", "overflow": "overflow", "overhead": "overhead"}
#: Requests in a computed timeline: enough to fill the pipeline and to see it full.
REQUESTS = 8
#: Spans of a trace in a chart.
MOST_SPANS = 600
OUTSIDE = "host"


@dataclass(frozen=True)
class Scale:
    """A unit of time that keeps the figures of a chart short."""

    seconds: float
    name: str

    def of(self, seconds: float) -> float:
        """Return a time in this unit."""
        return seconds / self.seconds

    @staticmethod
    def text(seconds: float) -> str:
        """Return a time as people read it."""
        return format_seconds(seconds)


def scale_for(largest: float) -> Scale:
    """Return the unit for times up to ``largest`` seconds."""
    for limit, unit, name in (
        (1e-6, 1e-9, "nanoseconds"),
        (1e-3, 1e-6, "microseconds"),
        (1.0, 1e-3, "milliseconds"),
    ):
        if largest < limit:
            return Scale(unit, name)
    return Scale(1.0, "seconds")


def stage_rows(stages: Sequence[Mapping[str, Any]]) -> list[Row]:
    """Return one row per stage and part of its cost that is not zero; work is always there."""
    rows = []
    for stage in stages:
        for part in PARTS:
            seconds = stage["cost"].get(f"{_FIELDS[part]}_seconds", 0.0)
            if seconds or part == "work":
                tip = f"stage {stage['index']}: {part} {format_seconds(seconds)}"
                rows.append({"stage": stage["index"], "part": part, "seconds": seconds, "tip": tip})
    return rows


def memory_rows(stages: Sequence[Mapping[str, Any]]) -> list[Row]:
    """Return one row per stage and kind of memory."""
    rows = []
    for stage in stages:
        for part, key in (("parameters", "parameter_bytes"), ("activations", "peak_activation_bytes")):
            if key in stage:
                tip = f"stage {stage['index']}: {part} {format_bytes(stage[key])}"
                rows.append({"stage": stage["index"], "part": part, "bytes": stage[key], "tip": tip})
    return rows


def transfer_rows(partition: Partition) -> list[Row]:
    """Return one row per pair of stages between which tensors go; the host sends and takes, too.

    A tensor that several stages read is in a row of each.
    """
    graph = partition.graph
    pairs: dict[tuple[int, int], list[int]] = {}
    after = partition.stages  # the host as a reader
    for t in range(graph.num_nets):
        producer = int(graph.net_producer[t])
        home = HOST if producer == HOST else int(partition.stage_of[producer])
        readers = {int(partition.stage_of[v]) for v in graph.consumers(t)} - {home}
        if producer != HOST and graph.net_to_host[t]:
            readers.add(after)
        for reader in readers:
            pairs.setdefault((home, reader), []).append(t)
    used = sorted({int(s) for s in partition.stage_of})
    rank = {stage: at for at, stage in enumerate(used)}
    rows = []
    for (home, reader), nets in sorted(pairs.items()):
        size = sum(int(graph.net_bytes[t]) for t in nets)
        skip = home != HOST and reader != after and rank[reader] > rank[home] + 1
        source, target = (OUTSIDE if end in (HOST, after) else str(end) for end in (home, reader))
        names = [graph.net_names[t] for t in nets]
        tip = f"{source} to {target}: {format_bytes(size)} in {len(nets)} tensor{'s'[: len(nets) > 1]}"
        rows.append(
            {
                "source": source,
                "target": target,
                "bytes": size,
                "size": format_bytes(size),
                "skip": skip,
                "tensors": names,
                "tip": f"{tip}, skips stages" if skip else tip,
            }
        )
    return rows


def comparison(stages: Sequence[Mapping[str, Any]], bench: Mapping[str, Any] | None) -> list[Row]:
    """Return predicted and measured seconds of every stage, by ``bench`` or by the split itself.

    Nothing where neither measured them; ``spread`` is that of the split's measurements.
    """
    if bench is not None:
        return [
            {"stage": s["index"], "predicted": s["predicted_seconds"], "measured": s["measured_seconds"]}
            for s in bench["stages"]
        ]
    if not all(stage.get("measured") for stage in stages):
        return []
    return [
        {
            "stage": stage["index"],
            "predicted": stage["measured"]["predicted_seconds"],
            "measured": stage["measured"]["seconds"],
            "spread": stage["measured"]["spread"],
        }
        for stage in stages
    ]


def measured_rows(comparison: Sequence[Row]) -> list[Row]:
    """Return a row per stage and kind of time."""
    return [
        {
            "stage": stage["stage"],
            "kind": kind,
            "seconds": stage[kind],
            "tip": f"stage {stage['stage']}: {kind} {format_seconds(stage[kind])}",
        }
        for stage in comparison
        for kind in ("predicted", "measured")
    ]


def history_rows(history: Sequence[Mapping[str, Any]]) -> list[Row]:
    """Return the bottleneck and the bound at every time that one of them improved."""
    rows = []
    for point in history:
        for kind, key in (("bottleneck", "upper_seconds"), ("lower bound", "lower_seconds")):
            if point[key]:
                when, value = format_seconds(point["seconds"]), format_seconds(point[key])
                tip = f"{when}: {kind} {value} ({point['method']})"
                rows.append({"seconds": point["seconds"], "kind": kind, "value": point[key], "tip": tip})
    return rows


def timeline_rows(stages: Sequence[Mapping[str, Any]]) -> list[Row]:
    """Return when each of the first requests is in which stage, by the stages' costs and replicas."""
    from onnx_pipeline.measurement.simulation import simulate_stages
    from onnx_pipeline.runtime.layout import Layout

    indices = [stage["index"] for stage in stages]
    workers = tuple((at,) for at, stage in enumerate(stages) for _ in range(stage.get("replicas", 1)))
    costs = [stage["cost"]["total_seconds"] for stage in stages]
    found = simulate_stages(costs, REQUESTS, layout=Layout(workers, len(stages)))
    return [
        _span(indices[span.stage], line.number, span.start / 1e9, span.end / 1e9)
        for line in found.timelines
        for span in line.spans
    ]


def trace_rows(events: Sequence[Mapping[str, Any]]) -> list[Row]:
    """Return the stages' spans of a trace in Chrome's format: the last ones, from zero."""
    spans = [e for e in events if e.get("ph") == "X" and e.get("cat") == "stage"][-MOST_SPANS:]
    zero = min((e["ts"] for e in spans), default=0.0)
    starts = [(e["ts"] - zero) / 1e6 for e in spans]
    return [
        _span(e["args"].get("stage", e["tid"]), e["args"]["request"], start, start + e["dur"] / 1e6)
        for e, start in zip(spans, starts, strict=True)
    ]


def _span(stage: int, request: int, start: float, end: float) -> Row:
    tip = f"request {request} in stage {stage}: {format_seconds(start)} to {format_seconds(end)}"
    return {"stage": stage, "request": request, "start": start, "end": end, "tip": tip}
