"""Profiles that other tools have written, as layers with their times.

Formats
-------
* onnxruntime's profiling JSON (``SessionOptions.enable_profiling``), of any execution provider;
* ``trtexec --exportProfile=FILE`` of NVIDIA TensorRT: a list with ``name`` and ``averageMs`` or ``medianMs``;
* ``benchmark_app -report_type average_counters`` or ``detailed_counters`` of OpenVINO, CSV or JSON.
"""

from __future__ import annotations

import csv
import json
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from onnx_pipeline.costmodel.profiling.trace import parse_trace
from onnx_pipeline.errors import InputError


@dataclass(frozen=True)
class Layer:
    """One line of a foreign profile: its name, operator where known, and seconds per inference."""

    name: str
    seconds: float
    op: str = ""


def read_layers(path: Path) -> tuple[str, list[Layer]] | None:
    """Return the tool that wrote a file and the layers in it, or None if it is something else.

    Raises
    ------
    InputError
        If the file is such a profile, but malformed.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError):
        return None  # the reader of our own formats says what is wrong
    if text.lstrip()[:1] in ("[", "{"):
        try:
            document = json.loads(text)
        except (ValueError, RecursionError):
            return None
        return _from_json(path, document)
    header = text.partition("\n")[0]
    if "layerName" in header:
        return "OpenVINO benchmark_app", list(_openvino_csv(path, text, ";" if ";" in header else ","))
    return None


def _from_json(path: Path, document: Any) -> tuple[str, list[Layer]] | None:
    if isinstance(document, list):
        entries = [entry for entry in document if isinstance(entry, dict)]
        if any(entry.get("cat") in ("Node", "Session") for entry in entries):
            return "onnxruntime profile", _onnxruntime(path, entries)
        if any("averageMs" in entry or "timeMs" in entry for entry in entries):
            return "TensorRT trtexec", list(_tensorrt(path, entries))
    elif isinstance(document, dict):
        for key in ("avg_performance", "detailed_performance"):
            if isinstance(document.get(key), dict):
                return "OpenVINO benchmark_app", list(_openvino_json(path, document[key]))
    return None


def _onnxruntime(path: Path, events: Sequence[Mapping[str, Any]]) -> list[Layer]:
    """Take the fastest of the recorded runs for every kernel, the first one aside if there are several."""
    try:
        runs = [run for run in parse_trace(events) if run]
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise InputError(path, f"malformed onnxruntime profile: {error!r}") from None
    if not runs:
        raise InputError(path, "onnxruntime profile without a complete run")
    runs = runs[1:] or runs
    wanted = [(event.op, event.name) for event in runs[-1]]
    alike = [run for run in runs if [(event.op, event.name) for event in run] == wanted]
    best = np.array([[event.duration for event in run] for run in alike], dtype=np.float64).min(axis=0)
    return [
        Layer(name, _number(path, us, name) / 1e6, op) for (op, name), us in zip(wanted, best, strict=True)
    ]


def _tensorrt(path: Path, entries: Sequence[Mapping[str, Any]]) -> Iterator[Layer]:
    count = next((entry["count"] for entry in entries if set(entry) == {"count"}), 1)
    for entry in entries:
        if "name" not in entry:
            continue
        milliseconds = entry.get("medianMs", entry.get("averageMs"))
        if milliseconds is None:
            milliseconds = _number(path, entry.get("timeMs"), entry["name"]) / max(
                _number(path, count, "count"), 1.0
            )
        yield Layer(str(entry["name"]), _number(path, milliseconds, entry["name"]) / 1e3)


def _openvino_json(path: Path, report: Mapping[str, Any]) -> Iterator[Layer]:
    nodes = report.get("nodes")
    if not isinstance(nodes, list):
        raise InputError(path, 'an OpenVINO report without the list "nodes"')
    rows = [
        (str(node.get("name")), str(node.get("node_type", "")), node.get("real_time"))
        for node in nodes
        if isinstance(node, dict)
    ]
    yield from _mean(path, rows, 1e3)


def _openvino_csv(path: Path, text: str, separator: str) -> Iterator[Layer]:
    """Read one table per inference request (``detailed_counters``) or one mean table."""
    rows: list[tuple[str, str, Any]] = []
    columns: list[str] = []
    for row in csv.reader(text.splitlines(), delimiter=separator):
        if "layerName" in row:
            columns = [cell.strip() for cell in row]
            continue
        cells = dict(zip(columns, row, strict=False))
        time = next((cells[name] for name in columns if name.startswith("realTime") and name in cells), None)
        if time and row[0] not in ("", "Total") and not row[0].startswith("Total "):
            rows.append((row[0], cells.get("layerType", ""), time))
    per_second = 1e6 if any("(us)" in name or "(mcs)" in name for name in columns) else 1e3
    yield from _mean(path, rows, per_second)


def _mean(path: Path, rows: Sequence[tuple[str, str, Any]], per_second: float) -> Iterator[Layer]:
    """Average what repeats: a detailed report lists every layer once per request."""
    spent: dict[tuple[str, str], list[float]] = defaultdict(list)
    for name, op, time in rows:
        spent[name, op].append(_number(path, time, name) / per_second)
    for (name, op), seconds in spent.items():
        yield Layer(name, float(np.mean(seconds)), op)


def _number(path: Path, value: Any, layer: object) -> float:
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        number = -1.0
    if not 0 <= number < 1e12:
        raise InputError(path, f"layer {layer!r}: expected a time >= 0, got {value!r}")
    return number
