"""``report``: the file is complete or not there, and errors say what to do."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

import pytest

import onnx_pipeline as op
from onnx_pipeline.errors import InputError, PipelineError, UsageError
from onnx_pipeline.reporting import build, recordings
from tests.reporting.subjects import chain, cut

DRAWS = all(importlib.util.find_spec(module) for module in build.NEEDED)
needs_libraries = pytest.mark.skipif(not DRAWS, reason="the libraries that draw are not installed")


def test_missing_libraries_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before anything is read."""
    monkeypatch.setattr(build, "NEEDED", {"no_such_module": "no-such-package"})
    with pytest.raises(
        UsageError, match=r"reports need no-such-package; pip install 'onnx-pipeline\[report\]'"
    ):
        op.report(tmp_path / "none", tmp_path / "report.html")


@needs_libraries
def test_an_existing_file_is_kept_unless_forced(tmp_path: Path) -> None:
    """``force`` replaces it."""
    output = tmp_path / "report.html"
    output.write_text("mine", encoding="utf-8")
    result = cut(chain(["a", "b"]), 2)
    with pytest.raises(UsageError, match="already exists"):
        op.report(result, output)
    assert output.read_text(encoding="utf-8") == "mine"
    assert op.report(result, output, force=True) == output
    assert output.read_text(encoding="utf-8").startswith("<!doctype html>")


@needs_libraries
def test_a_report_that_fails_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither the file nor a part of it, whether drawing or writing fails."""
    with pytest.raises(InputError):
        op.report(tmp_path / "none", tmp_path / "report.html")

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_text", full)
    with pytest.raises(PipelineError, match="no space left on device"):
        op.report(cut(chain(["a", "b"]), 2), tmp_path / "report.html")
    assert not list(tmp_path.iterdir())


@needs_libraries
def test_a_trace_makes_the_timeline(tmp_path: Path) -> None:
    """Its spans instead of computed ones."""
    span = {"ph": "X", "cat": "stage", "tid": 0, "ts": 0, "dur": 1500000, "args": {"request": 41}}
    trace = tmp_path / "trace.json"
    trace.write_text(json.dumps({"traceEvents": [span]}), encoding="utf-8")
    output = op.report(cut(chain(["a", "b"]), 2), tmp_path / "report.html", trace=trace)
    text = output.read_text(encoding="utf-8")
    assert "request 41 in stage 0: 0 s to 1.50 s" in text
    assert "The last requests of the trace" in text


@pytest.mark.parametrize(
    "document",
    [
        [],
        {"traceEvents": 3},
        {"traceEvents": [3]},
        {"traceEvents": [{"ph": "X", "cat": "stage", "tid": 0, "ts": "0", "dur": 1, "args": {"request": 0}}]},
        {"traceEvents": [{"ph": "X", "cat": "stage", "tid": -1, "ts": 0, "dur": 1, "args": {"request": 0}}]},
        {"traceEvents": [{"ph": "X", "cat": "stage", "tid": 0, "ts": 0, "dur": 1, "args": 3}]},
        {
            "traceEvents": [
                {"ph": "X", "cat": "stage", "tid": 0, "ts": 0, "dur": 1, "args": {"request": 0, "stage": "x"}}
            ]
        },
    ],
)
def test_what_is_no_trace_is_refused(document: Any, tmp_path: Path) -> None:
    """Whatever is wrong with it."""
    path = tmp_path / "trace.json"
    path.write_text(json.dumps(document), encoding="utf-8")
    with pytest.raises(InputError, match="not a trace of a pipeline"):
        recordings.read_trace(path)


@needs_libraries
def test_a_benchmark_says_what_was_measured(tmp_path: Path) -> None:
    """Its times instead of those of the split."""
    stages = [{"index": i, "predicted_seconds": 0.5, "measured_seconds": 0.75} for i in range(2)]
    bench = tmp_path / "bench.json"
    bench.write_text(json.dumps({"period_seconds": 0.8, "stages": stages}), encoding="utf-8")
    output = op.report(cut(chain(["a", "b"]), 2), tmp_path / "report.html", bench=bench)
    text = output.read_text(encoding="utf-8")
    assert "a request every 800 ms, 1.25/s" in text
    assert "stage 1: measured 750 ms" in text
    assert "-33.3 %" in text


@pytest.mark.parametrize(
    "document",
    [
        [],
        {"stages": []},
        {"stages": 1, "period_seconds": 1},
        {"stages": [{"index": 0, "predicted_seconds": 1, "measured_seconds": "1"}], "period_seconds": 1},
        {"stages": [{"index": 0, "predicted_seconds": -1, "measured_seconds": 1}], "period_seconds": 1},
        {"stages": [{"index": True, "predicted_seconds": 1, "measured_seconds": 1}], "period_seconds": 1},
    ],
)
def test_what_is_no_benchmark_is_refused(document: Any, tmp_path: Path) -> None:
    """Whatever is wrong with it."""
    path = tmp_path / "bench.json"
    path.write_text(json.dumps(document), encoding="utf-8")
    with pytest.raises(InputError, match="not a result of a benchmark"):
        recordings.read_bench(path)
