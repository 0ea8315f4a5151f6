"""The unsplit model as a contender: what goes wrong in it is told, in whatever thread."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import onnx
import pytest

from models import builders
from onnx_pipeline.errors import InputError
from onnx_pipeline.measurement.baselines import unsplit
from onnx_pipeline.ort.call import Runner
from onnx_pipeline.runtime import PipelineSession
from onnx_pipeline.runtime.inputs import blank_feeds
from tests.splitting import split


@pytest.mark.parametrize("name", ["one_thread_seconds", "replicas_seconds"])
def test_a_failure_is_no_speed(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A replica that fails in its thread would be the fastest of all."""
    onnx.save(builders.mlp(3), tmp_path / "model.onnx")
    split(tmp_path / "model.onnx", tmp_path / "out", 2)
    with PipelineSession(tmp_path / "out") as session:
        contender = unsplit(session, None, blank_feeds(session.manifest))[name]
        assert contender(2) > 0

        def fail(self: Runner, feeds: Any) -> Any:
            raise RuntimeError("out of memory")

        monkeypatch.setattr(Runner, "__call__", fail)
        with pytest.raises(InputError, match="the unsplit model does not run: out of memory"):
            contender(2)
