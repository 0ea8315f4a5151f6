"""The architectures of the fidelity benchmark, at sizes that run in a moment."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest

from models import real
from onnx_pipeline.model.inputs import make_feeds
from onnx_pipeline.model.source import load

SMALL: dict[str, Callable[[], onnx.ModelProto]] = {
    "mobilenetv3": partial(real.mobilenetv3, image=32),
    "convnext": partial(real.convnext, (1, 1), 8, 32),
    "densenet121": partial(real.densenet, (2, 2), 4, 32),
    "gpt2": partial(real.gpt2, 1, 16, 2, 8, 32),
    "vit-base": partial(real.vit_base, 1, 16, 2, 16, 8),
    "unet": partial(real.unet, 4, 2, 16),
    "resnet18-qdq": partial(real.qdq, (1, 1), 4, 32),
}


def test_every_architecture_is_here() -> None:
    """The benchmark's list, with the two that have tests of their own."""
    assert set(SMALL) | {"resnet50", "bert-base"} == set(real.REAL)


@pytest.mark.parametrize("name", SMALL)
def test_runs(name: str, tmp_path: Path) -> None:
    """Valid for the checker, finite in onnxruntime, and the same bytes again."""
    model = SMALL[name]()
    onnx.checker.check_model(model, full_check=True)
    path = tmp_path / "model.onnx"
    onnx.save(model, path)
    source = load(path)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    (output,) = session.run(None, make_feeds(source, {}))
    assert np.isfinite(output).all()
    assert list(output.shape) == [d.dim_value for d in model.graph.output[0].type.tensor_type.shape.dim]
    assert SMALL[name]().SerializeToString() == model.SerializeToString()
