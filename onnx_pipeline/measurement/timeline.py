"""Timelines of requests: Chrome's trace format, which Perfetto opens, and a picture."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from onnx_pipeline.errors import UsageError
from onnx_pipeline.files.atomic import new_file
from onnx_pipeline.runtime.stats import Timeline

#: Shown timelines and the names of the stages' files.
Observe = Callable[[Sequence[Timeline], Sequence[str]], None]
#: Requests in a picture: the last ones.
SHOWN = 24
#: Colours of consecutive requests; neighbours differ.
PALETTE = ("#4c78a8", "#f58518", "#54a24b", "#e45756", "#72b7b2", "#eeca3b", "#b279a2", "#9d755d")


def trace_events(timelines: Sequence[Timeline], files: Sequence[str]) -> dict[str, Any]:
    """Return a document in Chrome's trace event format: a row per replica of a stage, one for whole requests.

    Parameters
    ----------
    timelines : sequence of Timeline
    files : sequence of str
        Names of the stages.

    References
    ----------
    *Trace Event Format*, complete ("X"), asynchronous ("b", "e") and metadata ("M") events.
    """
    rows = _rows(timelines, files)
    events: list[dict[str, Any]] = [
        {"ph": "M", "pid": 0, "tid": i, "name": "thread_name", "args": {"name": f"{name} ({files[stage]})"}}
        for i, ((stage, _), name) in enumerate(rows.items())
    ]
    number = {key: i for i, key in enumerate(rows)}
    zero = min((line.submitted for line in timelines), default=0)
    for line in timelines:
        name, common = f"request {line.number}", {"pid": 0, "cat": "request", "id": line.number}
        events.append({**common, "ph": "b", "tid": 0, "name": name, "ts": _us(line.submitted - zero)})
        events.append({**common, "ph": "e", "tid": 0, "name": name, "ts": _us(line.done - zero)})
        for span in line.spans:
            row = {"pid": 0, "tid": number[span.stage, span.replica], "ph": "X"}
            where = {"request": line.number, "stage": span.stage, "replica": span.replica}
            events.append(
                {
                    **row,
                    "cat": "stage",
                    "name": name,
                    "ts": _us(span.start - zero),
                    "dur": _us(span.end - span.start),
                    "args": where | {"bytes": span.nbytes, "copy_us": _us(span.copy)},
                }
            )
            if span.sent > span.end:
                wait = {"cat": "wait", "name": "wait for room"}
                times = {"ts": _us(span.end - zero), "dur": _us(span.sent - span.end)}
                events.append({**row, **wait, **times, "args": where})
    return {"traceEvents": events, "displayTimeUnit": "ms"}


def write_trace(path: Path, timelines: Sequence[Timeline], files: Sequence[str]) -> None:
    """Write :func:`trace_events` to a file."""
    with new_file(path) as temporary:
        temporary.write_text(json.dumps(trace_events(timelines, files)) + "\n", encoding="utf-8")


def check_plot() -> None:
    """Refuse to promise a picture that cannot be drawn.

    Raises
    ------
    UsageError
        If matplotlib is not installed.
    """
    if importlib.util.find_spec("matplotlib") is None:
        raise UsageError("plots need matplotlib", "pip install 'onnx-pipeline[benchmarks]'")


def write_plot(path: Path, timelines: Sequence[Timeline], files: Sequence[str]) -> None:
    """Draw the last requests: stages, or replicas of stages, as rows, requests as colours.

    Parameters
    ----------
    path : Path
        A PNG file.
    timelines : sequence of Timeline
    files : sequence of str
        Names of the stages.
    """
    from matplotlib.figure import Figure

    shown = list(timelines)[-SHOWN:]
    zero = min((span.start for line in shown for span in line.spans), default=0)
    rows = _rows(shown, files)
    number = {key: i for i, key in enumerate(rows)}
    figure = Figure(figsize=(10, 0.9 + 0.55 * len(rows)), layout="constrained")
    axes = figure.add_subplot()
    for line in shown:
        colour = PALETTE[line.number % len(PALETTE)]
        for span in line.spans:
            begin, width = (span.start - zero) / 1e6, (span.end - span.start) / 1e6
            row = number[span.stage, span.replica]
            axes.barh(row, width, left=begin, height=0.8, color=colour, edgecolor="white", linewidth=0.5)
            axes.text(begin + width / 2, row, str(line.number), ha="center", va="center", fontsize=7)
    axes.set_yticks(range(len(rows)), list(rows.values()))
    axes.invert_yaxis()
    axes.set_xlabel("milliseconds")
    axes.spines[["top", "right"]].set_visible(False)
    with new_file(path) as temporary:
        figure.savefig(temporary, format="png")


def _rows(timelines: Sequence[Timeline], files: Sequence[str]) -> dict[tuple[int, int], str]:
    """Return the names of the rows by stage and replica, in order."""
    seen = {(span.stage, span.replica) for line in timelines for span in line.spans}
    keys = sorted(seen | {(stage, 0) for stage in range(len(files))})
    several = {stage for stage, replica in keys if replica}
    return {
        (stage, replica): f"stage {stage}" + (f", replica {replica}" if stage in several else "")
        for stage, replica in keys
    }


def _us(nanoseconds: int) -> float:
    return nanoseconds / 1000
