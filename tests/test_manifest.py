"""The manifest: round trip, schema, errors."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from onnx_pipeline import manifest
from onnx_pipeline.errors import InputError
from tests.splitting import save, split

CHAIN = "m (float[N, 4] x) => (float[N, 4] y) { a = Relu(x)  b = Neg(a)  y = Abs(b) }"


def test_round_trip(tmp_path: Path) -> None:
    """Reading what was written gives the same object and the same JSON."""
    written = split(save(tmp_path, CHAIN), tmp_path / "out", 3)
    read = manifest.read(tmp_path / "out")
    assert read.to_json() == written.to_json() == json.loads(json.dumps(written.to_json()))
    assert manifest.Manifest.from_json(read.to_json()) == read


def test_field_names_are_the_contract(tmp_path: Path) -> None:
    """Scripts outside rely on these names."""
    document = split(save(tmp_path, CHAIN), tmp_path / "out", 2).to_json()
    assert document["format"] == "onnx-pipeline/manifest"
    assert document["format_version"] == 1
    assert {"tool", "model", "target", "cost_model", "certificate", "search", "stages"} <= document.keys()
    assert document["model"]["inputs"] == [{"name": "x", "dtype": "float32", "shape": ["N", 4]}]
    assert {"file", "sha256", "inputs", "outputs"} <= document["model"].keys()
    assert {"device", "stages", "bandwidth_bytes_per_second", "memory_bytes", "host_io"} <= document[
        "target"
    ].keys()
    assert document["target"]["memory_bytes"] is None
    certificate = {"bottleneck_seconds", "lower_bound_seconds", "ratio", "gap", "status", "bounds"}
    assert certificate <= document["certificate"].keys()
    stage = document["stages"][0]
    assert stage["file"] == "stage_0.onnx"
    assert stage["outputs"][0] == {
        "name": "b",
        "dtype": "float32",
        "shape": ["N", 4],
        "bytes": 16,
        "targets": [1],
    }
    costs = {"total_seconds", "work_seconds", "input_seconds", "output_seconds", "overflow_seconds"}
    assert costs <= stage["cost"].keys()


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (("format",), "other", "not a manifest"),
        (("format_version",), 2, "version 2"),
        (("stages",), [], "stages"),
        (("stages", 0, "file"), "../evil.onnx", "file"),
        (("stages", 0, "file"), "/etc/passwd", "file"),
        (("stages", 0, "sha256"), "abc", "sha256"),
        (("stages", 0, "inputs", 0, "source"), "moon", "source"),
        (("stages", 0, "cost", "work_seconds"), -1, "work_seconds"),
        (("certificate", "status"), "great", "status"),
        (("target", "stages"), "two", "stages"),
    ],
)
def test_malformed_manifests_are_refused(
    path: tuple[str | int, ...], value: object, message: str, tmp_path: Path
) -> None:
    """One line with the file and the place; file names never leave the directory."""
    split(save(tmp_path, CHAIN), tmp_path / "out", 2)
    file = tmp_path / "out" / "manifest.json"
    document = json.loads(file.read_text())
    place = document
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    file.write_text(json.dumps(document))
    with pytest.raises(InputError, match=message) as caught:
        manifest.read(tmp_path / "out")
    assert str(caught.value).startswith(str(file))
    assert "\n" not in str(caught.value)


def test_missing_manifests_are_refused(tmp_path: Path) -> None:
    """No directory, a file, an empty directory, no JSON, another document."""
    with pytest.raises(InputError, match="no such directory"):
        manifest.read(tmp_path / "none")
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="not a directory"):
        manifest.read(tmp_path / "file")
    with pytest.raises(InputError, match="no manifest"):
        manifest.read(tmp_path)
    for text in ("{", "[]", "{}"):
        (tmp_path / "manifest.json").write_text(text)
        with pytest.raises(InputError):
            manifest.read(tmp_path)
