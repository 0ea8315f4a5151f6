"""ONNX shape inference on a model without its weights."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx

from onnx_pipeline.model import inputs, shapes
from onnx_pipeline.model.inference import skeleton
from onnx_pipeline.model.source import load
from tests.splitting import save


def test_large_weights_do_not_enter_inference(tmp_path: Path) -> None:
    """The skeleton for inference holds shapes of weights, not their bytes."""
    weight = onnx.numpy_helper.from_array(np.ones((512, 512), np.float32), "w")
    proto = onnx.load(
        save(tmp_path, "m (float[1, 512] x, float[512, 512] w) => (float[1, 512] y) { y = MatMul(x, w) }")
    )
    proto.graph.initializer.append(weight)
    onnx.save(proto, tmp_path / "m.onnx")
    source = load(tmp_path / "m.onnx")
    assert skeleton(source, {}).ByteSize() < 1000
    assert shapes.value_infos(source)["y"].declared == (1, 512)
    assert inputs.make_feeds(source)["x"].shape == (1, 512)
