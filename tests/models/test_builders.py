"""The model builders: valid, runnable, reproducible and as large as they say."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest

from models import builders
from models.demo import demo

ROOT = Path(__file__).resolve().parents[2]


def run(model: onnx.ModelProto | Path) -> list[np.ndarray]:
    """Run a model once on seeded inputs, symbolic dims 2."""
    source = str(model) if isinstance(model, Path) else model.SerializeToString()
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(source, options, providers=["CPUExecutionProvider"])
    rng = np.random.default_rng(0)
    feeds = {}
    for value in session.get_inputs():
        shape = [dim if isinstance(dim, int) else 2 for dim in value.shape]
        if value.type == "tensor(int64)":
            feeds[value.name] = rng.integers(0, 2, shape)
        else:
            feeds[value.name] = rng.standard_normal(shape, dtype=np.float32)
    return session.run(None, feeds)


@pytest.mark.parametrize("name", builders.SMALL)
def test_small_models_are_valid_and_run(name: str) -> None:
    """The checker with type inference accepts the model, and its outputs are finite and not constant."""
    model = builders.SMALL[name]()
    onnx.checker.check_model(model, full_check=True)
    for output in run(model):
        assert np.isfinite(output).all()
        assert np.unique(output).size > 1


@pytest.mark.parametrize("name", builders.SMALL)
def test_same_seed_same_bytes(name: str) -> None:
    """A builder is a function of its arguments; another seed gives other weights."""
    build = builders.SMALL[name]
    assert build().SerializeToString(deterministic=True) == build().SerializeToString(deterministic=True)
    assert build(seed=1).SerializeToString() != build().SerializeToString()


def test_symbolic_sequence_length() -> None:
    """The dynamic transformer computes what the static one does at the same length."""
    dynamic = builders.transformer_encoder(1, seq="seq", batch="batch", max_positions=4)
    (output,) = run(dynamic)
    assert output.shape == (2, 2, 32)


def test_resnet50_layout() -> None:
    """The bottleneck blocks have the layer count of ResNet-50: 53 convolutions and one Gemm."""
    model = builders.cnn((3, 4, 6, 3), 2, 32, 10, bottleneck=True)
    kinds = [node.op_type for node in model.graph.node]
    assert (kinds.count("Conv"), kinds.count("Gemm")) == (53, 1)
    assert run(model)[0].shape == (2, 10)


def test_subgraph_captures() -> None:
    """The bodies read values of the main graph that are not inputs of the If and Loop nodes."""
    nodes = {node.name: node for node in builders.with_subgraph().graph.node}
    body = next(a.g for a in nodes["loop"].attribute if a.name == "body")
    inner = next(node for node in body.node if node.op_type == "If")
    branch = next(a.g for a in inner.attribute if a.name == "then_branch")
    assert "outer_weight" in branch.node[0].input
    assert "outer_weight" not in nodes["loop"].input


def test_external_data(tmp_path: Path) -> None:
    """The weights lie in a file of their own and the model still computes the same."""
    path = builders.with_external_data(tmp_path / "m")
    assert {p.name for p in path.parent.iterdir()} == {"model.onnx", "weights.bin"}
    assert path.stat().st_size < (path.parent / "weights.bin").stat().st_size
    np.testing.assert_array_equal(run(path)[0], run(builders.mlp(4, 64))[0])


def test_demo(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """The demo splits for eight devices, verifies, and shows the commands that it runs."""
    output = tmp_path / "demo" / "out"
    assert demo(output, ("--cost-model", "analytic", "--time-limit", "1")) == 0
    shown = capfd.readouterr().out
    assert [line.split()[2] for line in shown.splitlines() if line.startswith("$ ")] == ["split", "verify"]
    assert (output / "manifest.json").is_file()


def test_no_large_binaries() -> None:
    """Nothing binary above 100 kB lies beside the builders."""
    large = [p.name for p in (ROOT / "models").iterdir() if p.is_file() and p.stat().st_size > 100_000]
    assert large == []
