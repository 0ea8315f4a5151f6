"""The manifest: round trip, schema, errors."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from onnx_pipeline import PipelineSession, manifest
from onnx_pipeline.cli import main
from onnx_pipeline.errors import InputError
from onnx_pipeline.runtime.inputs import blank_feeds
from tests.splitting import save, split

CHAIN = "m (float[N, 4] x) => (float[N, 4] y) { a = Relu(x)  b = Neg(a)  y = Abs(b) }"
MEASUREMENT = {
    f"{what}_seconds": 1.0 for what in ("bottleneck", "predicted_bottleneck", "reference", "whole")
} | {"rounds": 3}


def nested(depth: int) -> list[Any]:
    """Lists inside each other."""
    value: list[Any] = []
    for _ in range(depth):
        value = [value]
    return value


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


FLEET = {
    "kinds": [{"name": "cpu", "bandwidth_bytes_per_second": None, "memory_bytes": None}],
    "devices": [0, 0],
    "free": False,
    "stages_per_device": 1,
}


@pytest.mark.parametrize(
    ("target", "devices", "replicas", "message"),
    [
        ({"fleet": FLEET}, [0, 1], [1, 1], ""),
        ({"fleet": FLEET | {"stages_per_device": None}}, [1, 1], [1, 1], ""),
        ({"devices": 4}, [None, None], [1, 3], ""),
        ({"devices": 3}, [None, None], [1, 3], "the stages take 4 devices, there are 3"),
        ({"fleet": FLEET}, [0, 2], [1, 1], "stage 1 has none of the 2 devices"),
        ({"fleet": FLEET}, [0, None], [1, 1], "stage 1 has none of the 2 devices"),
        ({"fleet": FLEET}, [0, 1], [2, 1], "stage 0 has replicas, though it has a device"),
        ({"fleet": FLEET}, [1, 1], [1, 1], "device 1 has 2 stages, at most 1 may share it"),
        ({"fleet": FLEET}, [1, 0], [1, 1], "later stages are on earlier devices"),
        ({"fleet": FLEET | {"devices": [0, 1]}}, [0, 1], [1, 1], "a device is of kind 1; the fleet has 1"),
    ],
)
def test_devices_and_replicas_fit_each_other(
    target: dict[str, Any], devices: list[int | None], replicas: list[int], message: str, tmp_path: Path
) -> None:
    """Whoever opens a split may rely on it."""
    document = split(save(tmp_path, CHAIN), tmp_path / "out", 2).to_json()
    document["target"] |= target
    for stage, device, count in zip(document["stages"], devices, replicas, strict=True):
        stage |= {"replicas": count} | ({} if device is None else {"device": device})
    (tmp_path / "out" / "manifest.json").write_text(json.dumps(document))
    if message:
        with pytest.raises(InputError, match=message):
            manifest.read(tmp_path / "out")
    else:
        read = manifest.read(tmp_path / "out")
        assert [stage.device for stage in read.stages] == devices
        assert [stage.replicas for stage in read.stages] == replicas


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
        (("target", "stages"), 10**9, "stages"),
        (("target", "stages"), 1, r"more stages \(2\) than devices \(1\)"),
        (("target", "memory_bytes"), 1e300, "not a number"),
        (("certificate", "bottleneck_seconds"), math.nan, "NaN"),
        (("certificate", "gap"), math.inf, "Infinity"),
        (("certificate", "ratio"), 10**40, "not a number"),
        (("cost_model", "more"), [[]] * 3, None),
        (("cost_model", "more"), nested(100), "too deeply"),
        (("stages", 0, "index"), 0.0, "index"),
        (("stages", 0, "nodes"), True, "nodes"),
        (("stages", 1, "index"), 2, "not numbered"),
        (("stages", 1, "inputs", 0, "source"), 1, "not an earlier stage"),
        (("stages", 1, "inputs", 0, "source"), 7, "not an earlier stage"),
        (("stages", 1, "inputs", 0, "name"), "q", "does not produce it"),
        (("stages", 1, "inputs", 0, "bytes"), 17, "another shape or size"),
        (("stages", 1, "file"), "stage_0.onnx", "listed twice"),
        (("stages", 1, "file"), "a" * 300, "file"),
        (("stages", 1, "node_names"), ["n", "n"], "listed twice"),
        (("stages", 0, "outputs", 0, "targets"), ["model", 1], "does not read it"),
        (("stages", 0, "outputs", 0, "targets"), [1, 1], "non-unique"),
        (("model", "inputs", 0, "shape"), [-1, 4], "shape"),
        (("certificate", "replicas", "rate_per_second"), 0, "rate_per_second"),
        (("model", "outputs", 0, "name"), "q", "no stage produces the model output"),
        (("measurement",), MEASUREMENT, "was not measured"),
        (("measurement",), MEASUREMENT | {"outcome": "perfect"}, "outcome"),
        (("measurement",), MEASUREMENT | {"corrected": {"gap": 0}}, "corrected"),
        (("stages", 0, "device"), 0, "stage 0 has a device, but there is no fleet"),
        (("stages", 0, "replicas"), 0, "replicas"),
        (("weights",), {"mode": "link", "files": [{"file": "../x", "bytes": 1}]}, "outside their folder"),
    ],
)
def test_malformed_manifests_are_refused(
    path: tuple[str | int, ...], value: object, message: str | None, tmp_path: Path
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
    if message is None:
        assert manifest.read(tmp_path / "out").cost_model["more"] == value
        return
    with pytest.raises(InputError, match=message) as caught:
        manifest.read(tmp_path / "out")
    assert str(caught.value).startswith(str(file))
    assert "\n" not in str(caught.value)


def test_targets_are_in_order(tmp_path: Path) -> None:
    """The model first, then stages upwards: the same wiring is written in one way only."""
    text = "m (float[4] x) => (float[4] a, float[4] y) { a = Relu(x)  b = Neg(a)  y = Add(a, b) }"
    split(save(tmp_path, text), tmp_path / "out", 3)
    file = tmp_path / "out" / "manifest.json"
    document = json.loads(file.read_text())
    output = document["stages"][0]["outputs"][0]
    assert output["targets"] == ["model", 1, 2]
    output["targets"] = ["model", 2, 1]
    file.write_text(json.dumps(document))
    with pytest.raises(InputError, match="its targets are not in order"):
        manifest.read(tmp_path / "out")


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


def test_whatever_opens_a_split_refuses_it_alike(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """An input that comes from its own stage: the same line from every command and from Python."""
    split(save(tmp_path, CHAIN), tmp_path / "out", 2)
    file = tmp_path / "out" / "manifest.json"
    document = json.loads(file.read_text())
    document["stages"][1]["inputs"][0]["source"] = 1
    file.write_text(json.dumps(document))
    np.savez(tmp_path / "x.npz", x=np.ones((1, 4), np.float32))
    out = str(tmp_path / "out")
    line = "stage 1, input 'a': source 1 is not an earlier stage"
    assert document["stages"][1]["inputs"][0]["name"] in ("a", "b")
    line = line.replace("'a'", repr(document["stages"][1]["inputs"][0]["name"]))
    for command, code in (
        (["show", out], 3),
        (["run", out, "--inputs", str(tmp_path / "x.npz")], 3),
        (["bench", out, "--rounds", "1", "--requests", "1"], 3),
        (["verify", out], 5),
    ):
        assert main(command) == code
        assert line in capsys.readouterr().err
    with pytest.raises(InputError, match="not an earlier stage"):
        PipelineSession(out)


def test_inputs_of_any_claimed_size_are_not_made_up(tmp_path: Path) -> None:
    """``bench`` and ``warm_up`` make inputs of the manifest's shapes, within reason."""
    document = split(save(tmp_path, CHAIN), tmp_path / "out", 2)
    with pytest.raises(InputError, match=r"float32\[1000000000, 4\]: give its value"):
        blank_feeds(document, {"N": 10**9})
