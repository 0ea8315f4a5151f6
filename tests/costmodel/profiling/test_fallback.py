"""Nodes that an execution provider leaves to the CPU."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import onnx
import pytest

from models import builders
from onnx_pipeline.costmodel.profiling.fallback import left_to_cpu
from onnx_pipeline.costmodel.request import CostRequest
from onnx_pipeline.errors import InputError
from onnx_pipeline.model.source import load
from onnx_pipeline.parameters import ProfileParams
from onnx_pipeline.price import price_source
from tests.splitting import save

SHAPED = """m (float[4,8] x) => (float[8,4] y, int64[2] r) {
 a = Relu (x)
 s = Shape (a)
 r = Identity (s)
 b = Transpose (a)
 y = Sigmoid (b)
}"""


class FakeRunner:
    """A session whose profile says who ran which node."""

    def __init__(self, folder: Path, placed: dict[str, str]) -> None:
        self.file, self.placed = folder / "trace.json", placed

    def session(self, **_: Any) -> FakeRunner:
        """Return itself as the session."""
        return self

    def run(self, _: Any) -> None:
        """Write the profile."""
        events = [
            {
                "cat": "Node",
                "name": f"{name}_kernel_time",
                "ts": 10 * i,
                "dur": 1,
                "args": {"op_name": "X", "provider": provider},
            }
            for i, (name, provider) in enumerate(self.placed.items())
        ]
        end = {"cat": "Session", "name": "model_run", "ts": 0, "dur": 99}
        self.file.write_text(json.dumps([*events, end]))

    def end_profiling(self) -> str:
        """Return the file."""
        return str(self.file)


def request(path: Path, provider: str) -> CostRequest:
    """Return what a cost model is asked about a model."""
    return replace(price_source(load(path), ProfileParams("analytic")).request, provider=provider)


def test_what_the_cpu_runs_is_unsupported_but_shapes(tmp_path: Path) -> None:
    """Nodes that only make small integers stay on the CPU by choice; all others cannot run elsewhere."""
    asked = request(save(tmp_path, SHAPED), "OtherProvider")
    names = {node.op_type: str(node.name) for node in asked.nodes}
    placed = dict.fromkeys(names.values(), "OtherProvider")
    for op in ("Sigmoid", "Shape"):
        placed[names[op]] = "CPUExecutionProvider"
    runner: Any = FakeRunner(tmp_path, placed)
    assert left_to_cpu(asked, runner, tmp_path) == (names["Sigmoid"],)


def test_the_cpu_leaves_nothing(tmp_path: Path) -> None:
    """No session is made for it."""
    path = tmp_path / "mlp.onnx"
    onnx.save(builders.mlp(), path)
    assert left_to_cpu(request(path, "CPUExecutionProvider"), None, tmp_path) == ()  # type: ignore[arg-type]


def test_a_provider_that_runs_nothing(tmp_path: Path) -> None:
    """Its times would be the CPU's: an error, not a profile."""
    asked = request(save(tmp_path, SHAPED), "OtherProvider")
    runner: Any = FakeRunner(tmp_path, {str(node.name): "CPUExecutionProvider" for node in asked.nodes})
    with pytest.raises(InputError, match="OtherProvider runs no node of the model"):
        left_to_cpu(asked, runner, tmp_path)
