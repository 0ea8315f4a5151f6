"""Reading onnxruntime's profiling files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from onnx_pipeline.costmodel.profiling.trace import KernelEvent, parse_trace, read_trace
from onnx_pipeline.errors import InputError


def kernel(name: str, ts: int, dur: int) -> dict[str, Any]:
    """Make an event as onnxruntime writes it; the operator is the name's first part."""
    op = name.partition("_")[0]
    args = {"op_name": op, "node_index": "0", "provider": "CPUExecutionProvider"}
    return {"cat": "Node", "name": f"{name}_kernel_time", "ts": ts, "dur": dur, "ph": "X", "args": args}


def session(name: str, ts: int, dur: int) -> dict[str, Any]:
    """Make a session event."""
    return {"cat": "Session", "name": name, "ts": ts, "dur": dur, "ph": "X", "args": {}}


# Recorded with onnxruntime 1.31: Relu, a Loop of two iterations, and an If, times shortened.
LOOP = [
    session("session_initialization", 0, 10),
    kernel("Relu_0", 20, 7),
    kernel("Relu_1", 30, 5),
    kernel("MatMul_2", 36, 18),
    session("SequentialExecutor::Execute", 30, 25),
    kernel("Relu_1", 56, 5),
    kernel("MatMul_2", 62, 14),
    session("SequentialExecutor::Execute", 56, 20),
    kernel("Loop_1", 28, 50),
    kernel("Mul_6", 78, 0),
    kernel("Sigmoid_0", 79, 4),
    session("SequentialExecutor::Execute", 79, 5),
    kernel("If_3", 78, 7),
    session("SequentialExecutor::Execute", 19, 67),
    session("model_run", 18, 69),
]


def test_outermost_kernels() -> None:
    """Children of Loop and If are inside their parents and do not count again."""
    (run,) = parse_trace(LOOP)
    assert run == [
        KernelEvent("Relu", "Relu_0", 20, 7),
        KernelEvent("Loop", "Loop_1", 28, 50),
        KernelEvent("Mul", "Mul_6", 78, 0),
        KernelEvent("If", "If_3", 78, 7),
    ]


def test_runs_are_told_apart() -> None:
    """Every model_run closes one run; an unfinished one is left out."""
    events = [
        kernel("Add_0", 1, 2),
        session("model_run", 0, 4),
        kernel("Add_0", 5, 3),
        kernel("Mul_1", 9, 1),
        session("model_run", 4, 7),
        kernel("Add_0", 20, 2),
    ]
    assert [[e.name for e in run] for run in parse_trace(events)] == [["Add_0"], ["Add_0", "Mul_1"]]


@pytest.mark.parametrize("text", ["", "{", "{}", "3"])
def test_wrong_files(tmp_path: Path, text: str) -> None:
    """What is no list of events is an input error."""
    path = tmp_path / "trace.json"
    path.write_text(text)
    with pytest.raises(InputError, match="not an onnxruntime profile"):
        read_trace(path)


def test_reads_a_file(tmp_path: Path) -> None:
    """A file gives what its events give."""
    path = tmp_path / "trace.json"
    path.write_text(json.dumps(LOOP))
    assert read_trace(path) == parse_trace(LOOP)
