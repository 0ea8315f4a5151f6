"""Verification finds what is broken, and says so about nothing else."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from models import builders
from onnx_pipeline.errors import InputError, VerificationError
from onnx_pipeline.verification.checks import inspect, verify
from onnx_pipeline.verification.compare import compare_output
from tests.splitting import save, split

TEXT = """m (float[N, 4] x) => (float[N, 4] y) <float[4] w = {1,2,3,4}> {
    a = Relu(x)
    b = Neg(a)
    c = Add(b, w)
    y = Mul(c, a)
}"""


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A model split into three stages beside it, in ``out``."""
    path = save(tmp_path, TEXT)
    split(path, tmp_path / "out", 3)
    return path


def edit(directory: Path, change: Callable[[dict[str, Any]], None]) -> None:
    """Change the manifest."""
    file = directory / "manifest.json"
    document = json.loads(file.read_text())
    change(document)
    file.write_text(json.dumps(document))


def test_a_sound_directory_passes(model: Path, tmp_path: Path) -> None:
    """All checks are listed; the outputs are equal bit for bit."""
    report = verify(tmp_path / "out", model=model, dims={"N": 3}, seed=5)
    assert report.ok
    assert report.checks == (
        "files and hashes",
        "wiring",
        "stage models",
        "certificate",
        "outputs",
    )
    assert [(o.name, o.equal, o.max_abs) for o in report.outputs] == [("y", True, 0.0)]
    json.dumps(report.to_json(), allow_nan=False)
    np.savez(tmp_path / "x.npz", x=np.ones((2, 4), np.float32))
    assert verify(tmp_path / "out", model=model, inputs=tmp_path / "x.npz").ok
    assert verify(tmp_path / "out").outputs == ()


def test_changed_and_missing_files(model: Path, tmp_path: Path) -> None:
    """A flipped byte and a missing file are both reported."""
    data = bytearray((tmp_path / "out" / "stage_0.onnx").read_bytes())
    data[-1] ^= 1
    (tmp_path / "out" / "stage_0.onnx").write_bytes(data)
    (tmp_path / "out" / "stage_2.onnx").unlink()
    with pytest.raises(VerificationError, match=r"stage_0\.onnx is not the file.*stage_2\.onnx is missing"):
        verify(tmp_path / "out", model=model)


def test_changed_weights(tmp_path: Path) -> None:
    """Data files are hashed, too."""
    onnx.save(builders.mlp(layers=2, width=600), tmp_path / "m.onnx")
    split(tmp_path / "m.onnx", tmp_path / "out", 2)
    with (tmp_path / "out" / "stage_1.onnx.data").open("r+b") as file:
        file.seek(1000)
        file.write(b"\xff")
    with pytest.raises(VerificationError, match=r"stage_1\.onnx\.data"):
        verify(tmp_path / "out")


def _loop(document: dict[str, Any]) -> None:
    document["stages"][0]["inputs"][0]["source"] = 2


def _dtype(document: dict[str, Any]) -> None:
    document["stages"][1]["inputs"][0]["dtype"] = "int64"


def _target(document: dict[str, Any]) -> None:
    document["stages"][0]["outputs"][0]["targets"] = ["model"]


def _order(document: dict[str, Any]) -> None:
    document["stages"].reverse()


def _bottleneck(document: dict[str, Any]) -> None:
    document["certificate"]["bottleneck_seconds"] /= 2


def _bound(document: dict[str, Any]) -> None:
    document["certificate"]["bounds"][0]["seconds"] *= 100


def _lower(document: dict[str, Any]) -> None:
    document["certificate"]["lower_bound_seconds"] *= 1.5


def _status(document: dict[str, Any]) -> None:
    document["certificate"]["status"] = "optimal"


def _cost(document: dict[str, Any]) -> None:
    document["stages"][1]["cost"]["input_seconds"] += 1e-6


def _names(document: dict[str, Any]) -> None:
    document["stages"][1]["node_names"] = []


def _output(document: dict[str, Any]) -> None:
    document["model"]["outputs"].append({"name": "q", "dtype": "float32", "shape": None})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (_loop, "source 2 is not an earlier stage"),
        (_dtype, "int64 expected, float32 produced"),
        (_target, "does not read it"),
        (_order, "not numbered"),
        (_bottleneck, "certificate"),
        (_bound, "above the partition"),
        (_lower, "not the best of the bounds"),
        (_status, "status should be 'feasible'"),
        (_cost, "cost of stage 1"),
        (_names, "in no stage"),
        (_output, "no stage produces the model output 'q'"),
    ],
)
def test_a_wrong_manifest(
    change: Callable[[dict[str, Any]], None], message: str, model: Path, tmp_path: Path
) -> None:
    """Wiring and certificate are recomputed, not believed."""
    edit(tmp_path / "out", change)
    with pytest.raises(VerificationError, match=message):
        verify(tmp_path / "out")


def test_costs_are_needed_for_the_certificate(model: Path, tmp_path: Path) -> None:
    """Without ``costs.json`` nothing can be recomputed."""
    (tmp_path / "out" / "costs.json").unlink()
    assert any("costs.json" in problem for problem in inspect(tmp_path / "out").problems)


def test_another_model(model: Path, tmp_path: Path) -> None:
    """Comparing with a model that was not split is refused."""
    other = save(tmp_path, TEXT.replace("Neg", "Abs"), name="other.onnx")
    with pytest.raises(VerificationError, match="not the model that was split"):
        verify(tmp_path / "out", model=other)
    with pytest.raises(InputError):
        verify(tmp_path / "out", model=tmp_path / "none.onnx")


def test_wrong_stages_are_found_by_their_outputs(model: Path, tmp_path: Path) -> None:
    """A stage that computes something else, with a matching hash, fails the comparison."""
    import hashlib

    path = tmp_path / "out" / "stage_1.onnx"
    stage = onnx.load(path)
    next(n for n in stage.graph.node if n.op_type in ("Neg", "Add")).op_type = (
        "Sub" if stage.graph.initializer else "Abs"
    )
    onnx.save(stage, path)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    edit(tmp_path / "out", lambda document: document["stages"][1].update(sha256=digest))
    with pytest.raises(VerificationError, match="output 'y' differs"):
        verify(tmp_path / "out", model=model)


def test_random_models_are_compared_by_form(tmp_path: Path) -> None:
    """Random numbers differ from run to run: types and shapes are compared, and this is said."""
    text = """m (float[4] x) => (float[4] y) { r = RandomNormal <shape = [4]> ()  y = Add(x, r) }"""
    path = save(tmp_path, text)
    split(path, tmp_path / "out", 2)
    report = verify(tmp_path / "out", model=path)
    assert report.outputs == ()
    assert "random" in report.notes[0]


@pytest.mark.parametrize(
    ("actual", "expected", "equal", "ok"),
    [
        ([1.0, np.nan, np.inf], [1.0, np.nan, np.inf], True, True),
        ([1.0, 2.0], [1.0, 2.0001], False, True),
        ([1.0, 2.0], [1.0, 2.1], False, False),
        ([1.0, np.nan], [1.0, 2.0], False, False),
        ([1.0, 2.0], [1.0, np.inf], False, False),
        ([1, 2], [1, 3], False, False),
        (["a"], ["b"], False, False),
        ([1.0], [1.0, 2.0], False, False),
        ([0.0], [1e-9], False, False),
    ],
)
def test_comparison(actual: list[Any], expected: list[Any], equal: bool, ok: bool) -> None:
    """NaN equals NaN; tolerance is relative to the largest value; integers and text have none."""
    check = compare_output("y", np.array(actual), np.array(expected), 1e-4)
    assert (check.equal, check.ok) == (equal, ok)


def test_comparison_of_sequences() -> None:
    """Element by element, lengths included."""
    a, b = np.ones(2), np.zeros(2)
    assert compare_output("s", [a, b], [a, b], 0.0).equal
    assert not compare_output("s", [a], [a, b], 0.0).ok
    assert not compare_output("s", [b, b], [a, b], 0.0).ok


def test_verify_proves_the_bound_again(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """``recheck`` reaches the proof, and its verdict counts."""
    asked: list[float] = []

    def fail(partition: object, proofs: object, seconds: float) -> list[str]:
        asked.append(seconds)
        return ["not proved again"]

    monkeypatch.setattr("onnx_pipeline.partition.certificate.recheck", fail)
    assert verify(tmp_path / "out").ok
    assert asked == []
    with pytest.raises(VerificationError, match="not proved again"):
        verify(tmp_path / "out", recheck=7)
    assert asked == [7]
