"""Whatever is wrong with the request: one line on stderr, the right exit code, nothing left behind."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from models import builders
from onnx_pipeline.cli import entry
from onnx_pipeline.errors import InfeasibleError

FLOAT = TensorProto.FLOAT


def graph_of(*nodes: onnx.NodeProto, outputs: tuple[str, ...] = ("y",)) -> onnx.ModelProto:
    """A model around nodes that read ``x``."""
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        list(nodes), "g", [value("x", FLOAT, [2])], [value(name, FLOAT, [2]) for name in outputs]
    )
    return helper.make_model(graph, ir_version=8, opset_imports=[helper.make_opsetid("", 17)])


def external(location: str) -> onnx.ModelProto:
    """A model whose weight lies in another file."""
    model = graph_of(helper.make_node("Add", ["x", "w"], ["y"]))
    weight = model.graph.initializer.add(
        name="w", data_type=FLOAT, dims=[2], data_location=TensorProto.EXTERNAL
    )
    weight.external_data.add(key="location", value=location)
    return model


def write_text(text: str) -> Callable[[Path], None]:
    """Write text."""
    return lambda path: path.write_text(text) and None


def save(model: onnx.ModelProto) -> Callable[[Path], None]:
    """Write a model without checking it."""
    return lambda path: path.write_bytes(model.SerializeToString()) and None


CYCLE = [helper.make_node("Add", list(ends), [out]) for ends, out in (("xb", "a"), ("xa", "b"), ("ab", "y"))]
UNUSABLE: dict[str, tuple[Callable[[Path], object], str]] = {
    "missing": (lambda path: None, "no such file"),
    "directory": (lambda path: path.mkdir(), "directory"),
    "empty": (lambda path: path.touch(), "empty"),
    "random bytes": (lambda path: path.write_bytes(np.random.default_rng(0).bytes(5000)), "not an ONNX"),
    "truncated": (lambda path: path.write_bytes(builders.mlp().SerializeToString()[:-700]), "not an ONNX"),
    "cyclic": (save(graph_of(*CYCLE)), "cycle"),
    "undefined input": (save(graph_of(helper.make_node("Add", ["x", "ghost"], ["y"]))), "'ghost'"),
    "duplicate output": (
        save(graph_of(helper.make_node("Neg", ["x"], ["y"]), helper.make_node("Abs", ["x"], ["y"]))),
        "'y'",
    ),
    "missing external data": (save(external("weights.bin")), "weights.bin"),
    "escaping external data": (save(external("../../../etc/passwd")), "passwd"),
    "text": (write_text("hello, I am not a model"), ""),
}  # fmt: skip


def call(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str]:
    """Run a command that must fail: return its exit code and its one line; stdout must stay empty."""
    code = entry.main([str(argument) for argument in arguments])
    out, err = capsys.readouterr()
    lines = [line for line in err.splitlines() if not line.startswith("onnx-pipeline: note: ")]
    assert len(lines) == 1, err
    assert lines[0].startswith("onnx-pipeline: error: ")
    assert out == ""
    return code, lines[0]


@pytest.fixture
def model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A good model, in the working directory."""
    monkeypatch.chdir(tmp_path)
    onnx.save(builders.mlp(batch="batch"), "mlp.onnx")
    return Path("mlp.onnx")


@pytest.mark.parametrize("kind", UNUSABLE)
def test_unusable_models(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit code 3, the file's name and the reason; no output."""
    monkeypatch.chdir(tmp_path)
    make, word = UNUSABLE[kind]
    make(Path("bad.onnx"))
    before = sorted(Path().rglob("*"))
    code, line = call(capsys, "split", "bad.onnx", "-k", 2)
    assert code == 3
    assert line.startswith("onnx-pipeline: error: bad.onnx: ")
    assert word.lower() in line.lower()
    assert sorted(Path().rglob("*")) == before


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (["-k", "0"], "-k"),
        (["-k", "-2"], "-k"),
        (["-k", "two"], "-k"),
        ([], "--stages"),
        (["-k", "2", "--bandwidth", "-3"], "bandwidth"),
        (["-k", "2", "--bandwidth", "0"], "bandwidth"),
        (["-k", "2", "--bandwidth", "16Gb/s"], "bandwidth"),
        (["-k", "2", "--memory", "lots"], "memory"),
        (["-k", "2", "--memory", "file"], "memory"),
        (["-k", "2", "--memory", "nan"], "memory"),
        (["-k", "2", "--dim", "bogus=3"], "batch"),
        (["-k", "2", "--dim", "batch"], "NAME=INT"),
        (["-k", "2", "--dim", "batch=-1"], "NAME=INT"),
        (["-k", "2", "--dim", "batch=99999999999999999999"], "NAME=INT"),
        (["-k", "99999999999999999999"], "from 1 to 100000"),
        (["-k", "2", "--seed", "4294967296"], "from 0 to 2147483647"),
        (["-k", "2", "--together", "a,,b"], "empty name"),
        (["-k", "2", "--pin", "a=-1"], "NODE=STAGE"),
        (["-k", "2", "--bounds", "simple,magic"], "crossings"),
        (["-k", "2", "--cost-model", ""], "--cost-model"),
        (["-k", "2", "--measure", "-1"], "--measure"),
        (["-k", "2", "-o", ".", "--force"], "not an output of this tool; give another directory"),
        (["-k", "2", "--dim", "batch=1", "--dim", "batch=2"], "both 1 and 2"),
        (["-k", "2", "--time-limit", "0"], "--time-limit"),
        (["-k", "2", "--time-limit", "nan"], "--time-limit"),
        (["-k", "2", "--gap", "1"], "--gap"),
        (["-k", "2", "--threads", "0"], "--threads"),
        (["-k", "2", "--profile-runs", "0"], "--profile-runs"),
        (["-k", "2", "--provider", "NoSuchProvider"], "CPUExecutionProvider"),
        (["-k", "2", "--device", "abacus"], "cpu"),
        (["-k", "2", "--cost-model", "guess"], "profile"),
        (["-k", "2", "--no-such-option"], "--no-such-option"),
        (["-k", "2", "surplus"], "surplus"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_bad_command_lines(
    arguments: list[str], word: str, model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit code 2, and the line says which option or which values there are; no output."""
    code, line = call(capsys, "split", model, *arguments)
    assert code == 2
    assert word in line
    assert [path.name for path in Path().iterdir()] == ["mlp.onnx"]


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("{", "line 1"),
        ("[]", "object"),
        ("{}", "neither"),
        ('{"format": "onnx-pipeline/costs", "format_version": 99}', "version"),
        (
            '{"format": "onnx-pipeline/costs", "format_version": 1, "name": "g", "nodes": [{"name": "a"}]}',
            "nodes[0]",
        ),
    ],
)
def test_malformed_costs(text: str, word: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """plan names the file and the place: exit code 3."""
    path = tmp_path / "costs.json"
    path.write_text(text)
    code, line = call(capsys, "plan", path, "-k", 2)
    assert code == 3
    assert str(path) in line
    assert word in line


def test_malformed_costs_fail_before_the_model_is_measured(
    model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """As a cost model of split, too."""
    Path("costs.json").write_text("{")
    code, line = call(capsys, "split", model, "-k", 2, "--cost-model", "costs.json")
    assert code == 3
    assert "costs.json" in line
    assert not Path("mlp-k2").exists()


def test_costs_of_another_model(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Unknown or missing nodes are listed."""
    Path("costs.csv").write_text("node,work_us\nfc0,1\nnowhere,2\n")
    code, line = call(capsys, "split", model, "-k", 2, "--cost-model", "costs.csv")
    assert code == 3
    assert "costs.csv" in line
    assert "nowhere" in line or "relu0" in line


def test_memory_file_needs_a_file_that_has_one(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """COSTS.json states no limit."""
    from onnx_pipeline.graph.builder import GraphBuilder
    from onnx_pipeline.graph.costs_json import write_graph
    from onnx_pipeline.graph.ticks import NS

    builder = GraphBuilder("one", ticks_per_second=NS)
    builder.add_node("a", 1)
    write_graph(builder.build(), Path("costs.json"))
    code, line = call(capsys, "plan", "costs.json", "-k", 2, "--memory", "file")
    assert code == 2
    assert "--memory file" in line


def test_outputs_are_checked_before_any_work(
    model: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Existing, of the wrong kind, or in a place that takes no files: said before the model is even read."""
    monkeypatch.setattr("onnx_pipeline.model.source.load", lambda path: pytest.fail("the model was read"))
    Path("file").touch()
    Path("dir").mkdir()
    Path("dir/keep").touch()
    cases = [
        (["split", model, "-k", 2, "-o", "dir"], 2, "dir"),
        (["split", model, "-k", 2, "-o", "dir", "--force"], 2, "dir"),
        (["split", model, "-k", 2, "-o", "file"], 2, "file"),
        (["split", model, "-k", 2, "-o", "file/below"], 3, "file"),
        (["profile", model, "-o", "file"], 2, "--force"),
        (["profile", model, "-o", "dir"], 2, "directory"),
        (["profile", model, "-o", "file/below"], 3, "file"),
        (["plan", "costs.json", "-k", 2, "-o", "file"], 2, "--force"),
        (["run", "dir", "--inputs", "x.npz", "-o", "file"], 2, "--force"),
    ]
    for arguments, expected, word in cases:
        code, line = call(capsys, *arguments)
        assert (code, word in line) == (expected, True), line
    assert sorted(path.name for path in Path().iterdir()) == ["dir", "file", "mlp.onnx"]


@pytest.mark.skipif(not Path("/proc/self").is_dir(), reason="needs a folder in which even root cannot write")
def test_unwritable_place(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A folder that takes no files is found out by trying, not by permission bits."""
    code, line = call(capsys, "split", model, "-k", 2, "-o", "/proc/out")
    assert code == 3
    assert "/proc/out: cannot be" in line


def test_reading_commands_on_things_that_are_no_split(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """show, verify and run name what is missing: exit code 3."""
    (tmp_path / "empty").mkdir()
    (tmp_path / "x.json").write_text('{"format": "something else"}')
    np.savez(tmp_path / "x.npz", x=np.zeros(1))
    for arguments in (
        ["show", tmp_path / "nowhere"],
        ["show", tmp_path / "empty"],
        ["show", tmp_path / "x.json"],
        ["verify", tmp_path / "nowhere"],
        ["verify", tmp_path / "empty"],
        ["run", tmp_path / "empty", "--inputs", tmp_path / "x.npz"],
    ):
        code, line = call(capsys, *arguments)
        assert code == 3
        assert str(arguments[1]) in line


def test_tampered_plan(tmp_path: Path, capsys: pytest.CaptureFixture[str], msr_dir: Path) -> None:
    """A plan is checked against its schema, and the error names the place."""
    import json

    path = tmp_path / "plan.json"
    assert (
        entry.main(
            ["plan", str(msr_dir / "bert24_layer.json"), "-k", "2", "-o", str(path), "--time-limit", "1"]
        )
        == 0
    )
    capsys.readouterr()
    document = json.loads(path.read_text())
    document["stages"][0]["cost"]["work_seconds"] = "fast"
    path.write_text(json.dumps(document))
    code, line = call(capsys, "show", path)
    assert code == 3
    assert "stages[0].cost.work_seconds" in line


def test_verify_options_that_need_a_model(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """--dim without --model would silently do nothing."""
    code, line = call(capsys, "verify", tmp_path, "--dim", "batch=2")
    assert code == 2
    assert "--model" in line


@pytest.mark.parametrize(
    ("error", "code", "word"),
    [
        (InfeasibleError("no partition fits"), 4, "no partition fits"),
        (MemoryError(), 1, "out of memory"),
        (OSError(28, "No space left on device", "/full/disk"), 1, "/full/disk: no space left on device"),
        (PermissionError(13, "Permission denied", "/secret"), 1, "/secret: permission denied"),
        (ZeroDivisionError("a bug\nin two lines"), 1, "ONNX_PIPELINE_TRACEBACK=1"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else None,
)
def test_errors_of_any_kind_are_one_line(
    error: Exception,
    code: int,
    word: str,
    model: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Expected or not, nobody sees a traceback who did not ask for one."""

    def fail(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr("onnx_pipeline.pipeline.split", fail)
    assert call(capsys, "split", model, "-k", 2)[0] == code
    entry.main(["split", str(model), "-k", "2"])
    assert word in capsys.readouterr().err
    for arguments, variable in ((["-vv"], ""), ([], "1")):
        monkeypatch.setenv(entry.TRACEBACK_VARIABLE, variable)
        assert entry.main(["split", str(model), "-k", "2", *arguments]) == code
        assert "Traceback" in capsys.readouterr().err


def program(*arguments: object, **options: object) -> subprocess.CompletedProcess[str]:
    """Run the program as a process of its own."""
    command = [sys.executable, "-m", "onnx_pipeline", *map(str, arguments)]
    return subprocess.run(command, text=True, timeout=120, check=False, **options)  # type: ignore[call-overload, no-any-return]


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
def test_full_disk_under_stdout(msr_dir: Path) -> None:
    """A result that cannot be printed is an error, not silence."""
    with open("/dev/full", "w") as full:
        done = program("--help", stdout=full, stderr=subprocess.PIPE)
    assert done.returncode == 1
    assert (
        done.stderr == "onnx-pipeline: error: no space left on device; free some space or choose another -o\n"
    )


def test_reader_that_leaves_early(tmp_path: Path) -> None:
    """`onnx-pipeline ... | head` ends without a word on stderr."""
    read, write = os.pipe()
    os.close(read)
    with os.fdopen(write, "w") as pipe:
        done = program("split", "--help", stdout=pipe, stderr=subprocess.PIPE)
    assert done.returncode == 141
    assert done.stderr == ""


def test_stray_prints_of_libraries_stay_off_stdout(tmp_path: Path) -> None:
    """What native code writes to file descriptor 1 ends up on stderr."""
    code = (
        "import os, sys, onnx_pipeline.cli.entry as cli, onnx_pipeline.cli.commands as c\n"
        "c.run = lambda *_: (os.write(1, b'noise'), print('result'), 0)[2]\n"
        "sys.exit(cli.main([]))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "result\n"
    assert done.stderr == "noise"
