"""What runs left behind, read with every value checked: traces and results of ``bench``."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from onnx_pipeline.errors import InputError
from onnx_pipeline.files.json import read_json


def read_trace(path: str | os.PathLike[str]) -> list[dict[str, Any]]:
    """Read the events of a trace in Chrome's format.

    Raises
    ------
    InputError
        If it is not one that this package wrote.
    """
    document = read_json(path)
    events = document.get("traceEvents") if isinstance(document, dict) else None
    if not isinstance(events, list) or not all(map(_is_event, events)):
        raise InputError(path, "not a trace of a pipeline", "`onnx-pipeline run` with --trace writes one")
    return events


def _is_event(event: object) -> bool:
    """Whether an event is complete where it is a stage's span."""
    if not isinstance(event, dict):
        return False
    if event.get("ph") != "X" or event.get("cat") != "stage":
        return True
    arguments = event.get("args")
    known = arguments if isinstance(arguments, dict) else {}
    whole = [event.get("tid"), known.get("request"), known.get("stage", 0)]
    return _is_time(event.get("ts")) and _is_time(event.get("dur")) and all(map(_is_count, whole))


def read_bench(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Read what ``bench`` found.

    Raises
    ------
    InputError
        If the period or the times of a stage are missing.
    """
    document = read_json(path)
    known = document if isinstance(document, dict) else {}
    stages, period = known.get("stages"), known.get("period_seconds")
    if not isinstance(stages, list) or not all(map(_is_stage, stages)) or not _is_time(period):
        raise InputError(path, "not a result of a benchmark", "`onnx-pipeline bench` with --json prints one")
    return {"period_seconds": period, "stages": stages}


def _is_stage(stage: object) -> bool:
    return (
        isinstance(stage, Mapping)
        and _is_count(stage.get("index"))
        and _is_time(stage.get("predicted_seconds"))
        and _is_time(stage.get("measured_seconds"))
    )


def _is_time(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < 1e15


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 1 << 31
