"""``bench``: what it reports, on what; never how fast."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from models import builders
from onnx_pipeline import manifest
from onnx_pipeline.cli.entry import main
from onnx_pipeline.measurement.reassemble import load_whole
from onnx_pipeline.ort.call import Runner
from onnx_pipeline.runtime import PipelineSession
from onnx_pipeline.runtime.backend import choose
from onnx_pipeline.runtime.placement import gather_providers, parse_provider, place
from tests import streaming
from tests.splitting import split


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small convolution net in two stages."""
    folder = tmp_path_factory.mktemp("bench")
    onnx.save(builders.cnn(batch=1), folder / "model.onnx")
    split(folder / "model.onnx", folder / "out", 2)
    return folder / "out"


def run(capsys: pytest.CaptureFixture[str], *arguments: object) -> dict[str, Any]:
    """Run a command that succeeds; return its JSON document."""
    assert main([str(a) for a in arguments] + ["--json"]) == 0
    document: dict[str, Any] = json.loads(capsys.readouterr().out)
    return document


@pytest.mark.parametrize("backend", streaming.BACKENDS)
def test_document(backend: str, directory: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Every figure that others rely on is there and is a time, and those that belong together fit."""
    options = ["--requests", 8, "--rounds", 2, "--backend", backend, "--trace", tmp_path / "t.json"]
    found = run(capsys, "bench", directory, *options, "--plot", tmp_path / "t.png")
    assert found["backend"] == backend
    assert found["throughput_per_second"] == pytest.approx(1 / found["period_seconds"])
    assert found["efficiency"] > 0
    latency = found["latency_seconds"]
    assert 0 < latency["p50"] <= latency["p95"] <= latency["p99"]
    document = manifest.read(directory)
    for stage, entry in zip(document.stages, found["stages"], strict=True):
        assert entry["index"] == stage.index
        assert entry["predicted_seconds"] == stage.cost["total_seconds"]
        assert entry["measured_seconds"] > 0
        assert entry["transfer_bytes"] == sum(port.bytes for port in stage.outputs)
    names = {"one_thread_seconds", "all_threads_seconds", "replicas_seconds"}
    assert all(found["baselines"][name] > 0 for name in names)
    assert found["baselines"]["replicas"] == 2
    assert found["simulated"]["period_seconds"] > 0
    events = json.loads((tmp_path / "t.json").read_text())["traceEvents"]
    work = [event for event in events if event["ph"] == "X" and event["cat"] == "stage"]
    assert {event["tid"] for event in work} == {0, 1}
    assert all(event["dur"] > 0 for event in work)
    assert sum(e["ph"] == "b" for e in events) == sum(e["ph"] == "e" for e in events) == len(work) // 2
    assert (tmp_path / "t.png").read_bytes().startswith(b"\x89PNG")


def test_table(directory: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The same for people; without baselines the unsplit model is not mentioned."""
    np.savez(
        tmp_path / "x.npz",
        **{p.name: np.zeros(p.shape, p.dtype) for p in manifest.read(directory).model.inputs},
    )
    command = ["bench", str(directory), "--requests", "4", "--rounds", "1"]
    assert main([*command, "--inputs", str(tmp_path / "x.npz")]) == 0
    out = capsys.readouterr().out
    assert "efficiency" in out
    assert "replicas (2)" in out
    assert main([*command, "--no-baselines"]) == 0
    assert "unsplit" not in capsys.readouterr().out


def test_a_model_without_baselines(directory: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A model that would not be used is refused, not ignored."""
    model = directory.parent / "model.onnx"
    assert main(["bench", str(directory), "--no-baselines", "--model", str(model)]) == 2
    assert "not used; leave out --model MODEL.onnx" in capsys.readouterr().err


def test_the_whole_model_is_put_together_again(directory: Path) -> None:
    """Bitwise the outputs of the original, with or without its file."""
    feeds = {p.name: np.ones(p.shape, p.dtype) for p in manifest.read(directory).model.inputs}
    document = manifest.read(directory)
    original = directory.parent / "model.onnx"
    models = [load_whole(directory, document, path, 1, "CPUExecutionProvider") for path in (None, original)]
    first, second = (Runner(model)(feeds) for model in models)
    for a, b in zip(first, second, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize(
    "name", ["shared_weights", "with_subgraph", "with_function", "multi_output", "external"]
)
def test_whole_of_odd_models(name: str, tmp_path: Path) -> None:
    """Shared and external weights, captured values, functions, early outputs."""
    path = tmp_path / "model.onnx"
    if name == "external":
        path = builders.with_external_data(tmp_path)
    else:
        onnx.save(getattr(builders, name)(), path)
    document = split(path, tmp_path / "out", 3)
    whole = load_whole(tmp_path / "out", document, None, 1, "CPUExecutionProvider")
    with PipelineSession(tmp_path / "out") as session:
        from onnx_pipeline.runtime.inputs import blank_feeds

        feeds = blank_feeds(document, seed=1)
        given = {value.name: feeds[value.name] for value in whole.get_inputs()}  # an input may be unread
        for a, b in zip(session.run(None, feeds), Runner(whole)(given), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)


def test_plot_without_matplotlib(
    directory: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Said before anything is measured, with the remedy."""
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert main(["bench", str(directory), "--plot", "x.png"]) == 2
    assert "pip install 'onnx-pipeline[benchmarks]'" in capsys.readouterr().err


def test_run_takes_providers_and_backends(
    directory: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Batched requests through processes, provider options per stage, with a trace."""
    shape = [5, *(manifest.read(directory).model.inputs[0].shape or ())]
    name = manifest.read(directory).model.inputs[0].name
    np.savez(tmp_path / "x.npz", **{name: np.random.default_rng(0).standard_normal(shape).astype(np.float32)})
    arguments = ["run", directory, "--inputs", tmp_path / "x.npz", "--batched"]
    plain = run(capsys, *arguments)
    providers = ["--provider", "CPUExecutionProvider", "--provider", "1=CPUExecutionProvider:use_arena=1"]
    moved = run(capsys, *arguments, "--backend", "processes", *providers, "--trace", tmp_path / "t.json")
    assert moved["outputs"] == plain["outputs"]
    assert (tmp_path / "t.json").is_file()
    for bad, message in (
        ("1=", "is not"),
        ("x=CPUExecutionProvider", "stage number"),
        ("A:b", "is not"),
    ):
        assert main(["run", str(directory), "--inputs", "x.npz", "--provider", bad]) == 2
        assert message in capsys.readouterr().err


def test_provider_texts() -> None:
    """One for all, one per stage, options."""
    cuda, cpu = "CUDAExecutionProvider", "CPUExecutionProvider"
    assert parse_provider(f"1={cuda}:device_id=1:x=a=b") == (1, (cuda, {"device_id": "1", "x": "a=b"}))
    assert gather_providers([]) is None
    assert gather_providers([parse_provider(cpu)]) == [(cpu, {})]
    both = gather_providers([parse_provider(cpu), parse_provider(f"0={cuda}"), parse_provider(f"0={cpu}")])
    assert both == {None: [(cpu, {})], 0: [(cuda, {}), (cpu, {})]}


def test_providers_of_the_manifest(directory: Path) -> None:
    """Read, written, used by default, and overridden by an argument."""
    document = manifest.read(directory).to_json()
    document["stages"][1]["providers"] = [{"name": "CPUExecutionProvider", "options": {"use_arena": "0"}}]
    read = manifest.Manifest.from_json(document)
    assert read.to_json() == document
    assert place(directory, read)[1].settings.providers == (("CPUExecutionProvider", {"use_arena": "0"}),)
    assert place(directory, read, ["CPUExecutionProvider"])[1].settings.providers == (
        ("CPUExecutionProvider", {}),
    )


def test_what_auto_means(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Threads, unless stages are too short for one interpreter lock and each has a core."""
    document = manifest.read(directory)
    specs = place(directory, document)
    cost = {**document.stages[0].cost, "total_seconds": 10e-6}
    from dataclasses import replace

    short = replace(document, stages=tuple(replace(s, cost=cost) for s in document.stages))
    long = replace(short, stages=tuple(replace(s, cost={**cost, "total_seconds": 1.0}) for s in short.stages))
    for cores, split_, expected in ((8, short, "processes"), (2, short, "threads"), (8, long, "threads")):
        monkeypatch.setattr("onnx_pipeline.runtime.backend.usable_cores", lambda cores=cores: [0] * cores)
        assert choose(specs, split_) == expected
    assert choose(specs, long, restart=True) == "processes"


@pytest.mark.parametrize("backend", streaming.BACKENDS)
def test_bench_interrupted(backend: str, directory: Path) -> None:
    """Ctrl-C: one line, exit code 130."""
    command = [sys.executable, "-m", "onnx_pipeline", "bench", str(directory), "-v", "--backend", backend]
    with subprocess.Popen(
        [*command, "--rounds", "100000"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ},
    ) as process:
        assert process.stderr is not None
        for line in process.stderr:
            if "round 1 of" in line:
                process.send_signal(signal.SIGINT)
                break
        out, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert out == ""
    assert err.splitlines()[-1] == "onnx-pipeline: error: interrupted"
    assert "Traceback" not in err


@pytest.mark.parametrize("backend", streaming.BACKENDS)
def test_replicas_and_their_figures(
    backend: str, directory: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Costs are divided by replicas, what each replica did is told, traces have a row for each."""
    copy = streaming.deploy(Path(shutil.copytree(directory, tmp_path / "out")), {1: 2})
    options = ["--requests", 12, "--rounds", 2, "--backend", backend, "--trace", tmp_path / "t.json"]
    found = run(capsys, "bench", copy, *options, "--plot", tmp_path / "t.png")
    cost = [stage.cost["total_seconds"] for stage in manifest.read(copy).stages]
    second = found["stages"][1]
    assert [stage["replicas"] for stage in found["stages"]] == [1, 2]
    assert second["predicted_seconds"] == cost[1]
    assert second["predicted_period_seconds"] == cost[1] / 2
    assert second["measured_period_seconds"] == second["measured_seconds"] / 2
    assert all(each["requests"] and each["busy_seconds"] > 0 for each in second["by_replica"])
    count = found["stages"][0]["by_replica"][0]["requests"]
    assert sum(each["requests"] for each in second["by_replica"]) == count
    assert found["bottleneck"]["predicted_seconds"] == max(cost[0], cost[1] / 2)
    assert [(d["stages"], d["replica"], d["device"]) for d in found["devices"]] == [
        ([0], 0, None),
        ([1], 0, None),
        ([1], 1, None),
    ]
    assert all(device["utilisation"] > 0 for device in found["devices"])
    assert found["baselines"]["replicas"] == 3
    assert len(found["simulated"]["device_utilisation"]) == 3
    events = json.loads((tmp_path / "t.json").read_text())["traceEvents"]
    rows = {event["tid"]: event["args"]["name"] for event in events if event["ph"] == "M"}
    names = ["stage 0 (stage_0", "stage 1, replica 0 (stage_1", "stage 1, replica 1 (stage_1"]
    assert [name.removesuffix(".onnx)") for name in rows.values()] == names
    work = {(e["tid"], e["args"]["stage"], e["args"]["replica"]) for e in events if e.get("cat") == "stage"}
    assert work == {(0, 0, 0), (1, 1, 0), (2, 1, 1)}
    assert (tmp_path / "t.png").read_bytes().startswith(b"\x89PNG")


def test_devices_and_their_figures(
    directory: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Stages of one device add up, for people and programs."""
    copy = streaming.deploy(Path(shutil.copytree(directory, tmp_path / "out")), devices=[1, 1])
    command = ["bench", copy, "--requests", 4, "--rounds", 1, "--no-baselines"]
    found = run(capsys, *command)
    (device,) = found["devices"]
    assert (device["device"], device["kind"], device["stages"]) == (1, "cpu", [0, 1])
    stages = found["stages"]
    assert device["predicted_seconds"] == pytest.approx(sum(stage["predicted_seconds"] for stage in stages))
    assert device["measured_seconds"] == found["bottleneck"]["measured_seconds"]
    assert main([str(each) for each in command]) == 0
    out = capsys.readouterr().out
    assert "2 stages, 1 device on threads" in out
    assert "device 1 (cpu)  " in out
    assert ": stages 0, 1" in out
    assert "busiest device alone" in out
