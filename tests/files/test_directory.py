"""Where output goes: weights modes, killed runs, full disks, several runs into one directory."""

from __future__ import annotations

import json
import multiprocessing
import os
import resource
import shutil
from pathlib import Path

import onnx
import pytest

from benchmarks import kills
from models import builders, structures
from onnx_pipeline import PipelineSession, pipeline
from onnx_pipeline.cli import main
from onnx_pipeline.errors import InputError, PipelineError, UsageError
from onnx_pipeline.files import scratch
from onnx_pipeline.manifest import read
from onnx_pipeline.measurement.reassemble import load_whole
from onnx_pipeline.verification.checks import inspect

QUICK = {"cost_model": "analytic", "time_limit": 0.2, "threads": 1}


@pytest.mark.parametrize("mode", ["copy", "link", "reference"])
def test_weights_modes(mode: str, tmp_path: Path) -> None:
    """Copied, linked or referenced weights give the same outputs."""
    path = builders.with_external_data(tmp_path / "m", layers=6, width=400)
    manifest = pipeline.split(path, stages=3, output=tmp_path / "out", weights=mode, annotate=True, **QUICK)
    report = inspect(tmp_path / "out", model=path)
    assert report.problems == ()
    assert all(check.equal for check in report.outputs)
    data = sorted(p.name for p in (tmp_path / "out").glob("*.data"))
    if mode == "copy":
        assert manifest.weights is None
        assert len(data) >= len(manifest.stages)
    else:
        assert manifest.weights is not None
        assert manifest.weights["mode"] == mode
        assert data == (["weights_0.onnx.data"] if mode == "link" else [])
    if mode == "link":
        assert (tmp_path / "out" / data[0]).stat().st_nlink == 2


def test_shared_weights_that_changed_are_reported(tmp_path: Path) -> None:
    """Verification notices that the model's data file is another one now."""
    path = builders.with_external_data(tmp_path / "m", layers=6, width=400)
    pipeline.split(path, stages=2, output=tmp_path / "out", weights="reference", **QUICK)
    os.utime(tmp_path / "m" / "weights.bin", (1, 1))
    assert "changed since" in inspect(tmp_path / "out").problems[0]


def test_weights_of_another_folder_need_consent(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Below the split, or below a folder that the caller names; whatever the manifest says."""
    path = builders.with_external_data(tmp_path / "m", layers=6, width=400)
    out = tmp_path / "out"
    pipeline.split(path, stages=2, output=out, weights="reference", **QUICK)
    (out / "inside").symlink_to(tmp_path / "m")
    for stated in (tmp_path / "m", out / ".." / "m", out / "inside"):
        edit(out, stated)
        for folder in (None, tmp_path / "other"):
            with pytest.raises(InputError, match="its weights are in another folder"):
                PipelineSession(out, allow_reference=folder)
            with pytest.raises(InputError, match="its weights are in another folder"):
                load_whole(out, read(out), None, 1, "CPUExecutionProvider", allow_reference=folder)
    assert main(["bench", str(out), "--rounds", "1", "--requests", "1"]) == 3
    assert f"--allow-reference {tmp_path / 'm'}" in capsys.readouterr().err
    for folder in (tmp_path / "m", tmp_path):
        with PipelineSession(out, allow_reference=folder) as session:
            assert session.get_outputs()
    allowed = ["--allow-reference", str(tmp_path)]
    assert main(["bench", str(out), "--rounds", "1", "--requests", "1", *allowed]) == 0
    shutil.move(tmp_path / "m", out / "m")
    edit(out, out / "m")
    with PipelineSession(out) as session:
        assert session.get_outputs()


def edit(out: Path, folder: Path) -> None:
    """Let the manifest say that the weights are there."""
    manifest = json.loads((out / "manifest.json").read_text())
    manifest["weights"]["folder"] = str(folder)
    (out / "manifest.json").write_text(json.dumps(manifest))


@pytest.mark.parametrize("name", ["stage_1.onnx", "stage_0.onnx.data"])
def test_a_pipe_in_the_place_of_a_file(name: str, tmp_path: Path) -> None:
    """Nothing waits for what will never come."""
    path = builders.with_external_data(tmp_path / "m", layers=6, width=400)
    pipeline.split(path, stages=2, output=tmp_path / "out", **QUICK)
    (tmp_path / "out" / name).unlink()
    os.mkfifo(tmp_path / "out" / name)
    with pytest.raises(InputError, match="not a file"):
        PipelineSession(tmp_path / "out")
    assert not inspect(tmp_path / "out").ok


def test_a_pipe_in_the_place_of_a_document(tmp_path: Path) -> None:
    """Costs and manifest, too."""
    out = tmp_path / "out"
    onnx.save(builders.mlp(), tmp_path / "m.onnx")
    pipeline.split(tmp_path / "m.onnx", stages=2, output=out, **QUICK)
    for name in ("costs.json", "manifest.json"):
        (out / name).unlink()
        os.mkfifo(out / name)
        if name == "costs.json":
            assert any("costs.json: not a file" in problem for problem in inspect(out).problems)
    with pytest.raises(InputError, match=r"has no manifest\.json"):
        inspect(out)


def test_unknown_weights_mode(tmp_path: Path) -> None:
    """Anything else is a usage error, and nothing is written."""
    onnx.save(builders.mlp(), tmp_path / "m.onnx")
    with pytest.raises(UsageError, match="'copy', 'link' or 'reference'"):
        pipeline.split(tmp_path / "m.onnx", stages=2, output=tmp_path / "out", weights="move", **QUICK)
    assert os.listdir(tmp_path) == ["m.onnx"]


def test_custom_operator_library_that_is_none(tmp_path: Path) -> None:
    """One line names the library."""
    onnx.save(builders.mlp(), tmp_path / "m.onnx")
    (tmp_path / "lib.so").write_bytes(b"not a library")
    for name, message in (("lib.so", "cannot load custom operators"), ("none.so", "no such")):
        with pytest.raises(InputError, match=message):
            pipeline.split(
                tmp_path / "m.onnx", stages=2, output=tmp_path / "o", custom_ops=[tmp_path / name], **QUICK
            )


def test_killed_runs_leave_the_output_and_are_cleaned_up(tmp_path: Path) -> None:
    """Real signals at random points of a split over an output (100 of them by the command)."""
    found = kills.campaign(tmp_path, 5, seed=1, width=300)
    assert found["problems"] == []


def _hold(folder: Path, ready: object, go: object) -> None:
    with scratch.scratch_folder(folder, ".x."):
        ready.set()  # type: ignore[attr-defined]
        go.wait()  # type: ignore[attr-defined]
        os._exit(0)  # as if killed: nothing is removed


def test_scratch_folders_live_as_long_as_their_owner(tmp_path: Path) -> None:
    """Folders of living runs stay, those of dead ones go, and similar names are left alone."""
    (tmp_path / ".x.mine.tmp").mkdir()
    context = multiprocessing.get_context("fork")
    ready, go = context.Event(), context.Event()
    process = context.Process(target=_hold, args=(tmp_path, ready, go))
    process.start()
    ready.wait()
    scratch.sweep(tmp_path, ".x.")
    assert len(list(tmp_path.iterdir())) == 2
    go.set()
    process.join()
    assert len(list(tmp_path.iterdir())) == 2
    scratch.sweep(tmp_path, ".x.")
    assert [path.name for path in tmp_path.iterdir()] == [".x.mine.tmp"]


def _full_disk(folder: Path) -> None:
    resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, 300_000))
    try:
        pipeline.split(folder / "m.onnx", stages=2, output=folder / "out", force=True, **QUICK)
    except PipelineError as error:
        os._exit(0 if "cannot be written" in str(error) and error.exit_code == 1 else 1)
    os._exit(2)


def test_a_disk_that_takes_no_more(tmp_path: Path) -> None:
    """The error names the output, and the previous output is untouched."""
    onnx.save(builders.mlp(4, 400), tmp_path / "m.onnx")
    pipeline.split(tmp_path / "m.onnx", stages=2, output=tmp_path / "out", **QUICK)
    process = multiprocessing.get_context("fork").Process(target=_full_disk, args=(tmp_path,))
    process.start()
    process.join()
    assert process.exitcode == 0
    assert sorted(os.listdir(tmp_path)) == ["m.onnx", "out"]
    assert inspect(tmp_path / "out", model=tmp_path / "m.onnx").ok


def _one_of_two(folder: Path, stages: int) -> None:
    try:
        pipeline.split(folder / "m.onnx", stages=stages, output=folder / "out", **QUICK)
    except UsageError:
        os._exit(2)
    os._exit(0)


def test_two_runs_into_one_directory(tmp_path: Path) -> None:
    """One wins and the other says so; what is there is whole."""
    onnx.save(builders.mlp(6, 64), tmp_path / "m.onnx")
    context = multiprocessing.get_context("fork")
    both = [context.Process(target=_one_of_two, args=(tmp_path, k)) for k in (2, 3)]
    for process in both:
        process.start()
    for process in both:
        process.join()
    assert sorted(process.exitcode for process in both) == [0, 2]
    assert inspect(tmp_path / "out", model=tmp_path / "m.onnx").ok
    assert sorted(os.listdir(tmp_path)) == ["m.onnx", "out"]


def test_quantised_borders_carry_integers(tmp_path: Path) -> None:
    """Inside a quantised net only int8 and uint8 cross, whatever the cut."""
    from tests.splitting import split

    onnx.save(structures.quantised_cnn(3), tmp_path / "m.onnx")
    manifest = split(tmp_path / "m.onnx", tmp_path / "out", 5)
    kinds = {port.dtype for stage in manifest.stages for port in stage.outputs if "model" not in port.targets}
    assert len(manifest.stages) == 5
    assert kinds == {"uint8"}


def test_quantization_annotations_are_kept(tmp_path: Path) -> None:
    """Each stage has the annotations of its values, and the scales that they name."""
    from tests.splitting import split

    onnx.save(structures.with_quantization_annotations(), tmp_path / "m.onnx")
    manifest = split(tmp_path / "m.onnx", tmp_path / "out", 2)
    noted: set[str] = set()
    for stage in manifest.stages:
        graph = onnx.load(tmp_path / "out" / stage.file).graph
        names = {t.name for t in graph.initializer}
        for note in graph.quantization_annotation:
            noted.add(note.tensor_name)
            assert note.quant_parameter_tensor_names[0].value in names
    assert len(noted) == 5
