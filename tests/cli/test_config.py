"""``--config``: every option has its key, the command line wins, and what is wrong is one line."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import onnx
import pytest

from models import builders
from onnx_pipeline import pipeline
from onnx_pipeline.cli.commands import cli
from onnx_pipeline.cli.entry import main
from onnx_pipeline.graph.builder import GraphBuilder
from onnx_pipeline.graph.costs_json import write_graph
from onnx_pipeline.settings import KEYS, load

#: By setting: a value as TOML, and what the command gets.
VALUES: dict[str, tuple[str, Any]] = {
    "stages": ("3", 3),
    "devices": ("4", 4),
    "fleet": ('"f.toml"', "f.toml"),
    "stages_per_device": ('"any"', "any"),
    "output": ('"elsewhere"', Path("elsewhere")),
    "force": ("true", True),
    "device": ('"edge"', "edge"),
    "bandwidth": ('"2GB/s"', 2e9),
    "memory": ("4096", 4096.0),
    "memory_mode": ('"hard"', "hard"),
    "activations": ("false", False),
    "cost_model": ('"analytic"', "analytic"),
    "dims": ("{batch = 8, seq = 2}", {"batch": 8, "seq": 2}),
    "inputs": ('"x.npz"', Path("x.npz")),
    "profile_runs": ("7", 7),
    "profile_seconds": ("3", 3.0),
    "intra_op_threads": ("2", 2),
    "cache": ("false", False),
    "provider": ('"CUDAExecutionProvider"', "CUDAExecutionProvider"),
    "custom_ops": ('["a.so", "b.so"]', (Path("a.so"), Path("b.so"))),
    "time_limit": ("2.5", 2.5),
    "gap": ("0", 0.0),
    "seed": ("5", 5),
    "threads": ("1", 1),
    "pins": ('{"a=b" = 1}', {"a=b": 1}),
    "together": ('[["a", "b"], "c,d"]', (("a", "b"), ("c", "d"))),
    "uncut": ('["t"]', ("t",)),
    "exactly": ("true", True),
    "bounds": ('["simple", "windows"]', ("simple", "windows")),
    "log": ('"h.csv"', Path("h.csv")),
    "partition": ('"mine.csv"', Path("mine.csv")),
    "measure": ("2", 2),
    "measure_seconds": ("4", 4.0),
    "for_rate": ("100", 100.0),
    "for_latency": ('"50ms"', 0.05),
    "fit": ('"1KiB"', 1024.0),
    "annotate": ("true", True),
    "weights": ('"reference"', "reference"),
    "as_json": ("true", True),
    "quiet": ("true", True),
    "verbose": ("2", 2),
}


def parsed(command: str, *arguments: str) -> dict[str, Any]:
    """What click makes of a command line, before the command gathers it."""
    with cli.commands[command].make_context(command, list(arguments)) as context:
        return context.params


def option_names(command: str) -> list[str]:
    """Parameters that a file may set."""
    return [
        p.name
        for p in cli.commands[command].params
        if isinstance(p, click.Option) and p.expose_value and p.name
    ]


@pytest.mark.parametrize("dash", ["-", "_"])
@pytest.mark.parametrize("name", option_names("split"))
def test_every_option_of_split_has_its_key(name: str, dash: str, tmp_path: Path) -> None:
    """The file's value arrives in place of the default, and nothing else changes."""
    text, expected = VALUES[name]
    path = tmp_path / "c.toml"
    path.write_text(f"{KEYS[name].replace('-', dash)} = {text}\n")
    needed = [] if name == "stages" else ["-k", "2"]
    before = parsed("split", "m.onnx", "-k", "2")
    found = parsed("split", "m.onnx", *needed, "--config", str(path))
    value = dict(found[name]) if name == "pins" else found[name]
    assert value == expected
    assert type(value) is type(expected) or name == "together"
    assert {k: v for k, v in found.items() if k != name} == {k: v for k, v in before.items() if k != name}
    if name not in ("as_json", "quiet", "verbose"):
        assert before[name] != expected or name == "gap"


def test_the_command_line_wins(tmp_path: Path) -> None:
    """Over single values, flags and repeated options, wherever --config stands."""
    path = tmp_path / "c.toml"
    path.write_text('stages = 3\ntime-limit = 9\nactivations = false\ndim = {batch = 8}\nbounds = "simple"\n')
    given = ["-k", "5", "--activations", "--dim", "seq=1", "--bounds", "windows"]
    for arguments in ([*given, "--config", str(path)], ["--config", str(path), *given]):
        found = parsed("split", "m.onnx", *arguments)
        assert (found["stages"], found["activations"], found["dims"]) == (5, True, {"seq": 1})
        assert (found["bounds"], found["time_limit"]) == (("windows",), 9.0)


def test_one_file_for_several_commands(tmp_path: Path) -> None:
    """Each takes the options that it has."""
    path = tmp_path / "c.toml"
    path.write_text('stages = 3\nprofile-runs = 2\nperturb = 0.1\nmemory = "file"\n')
    assert parsed("profile", "m.onnx", "--config", str(path))["profile_runs"] == 2
    plan = parsed("plan", "g.json", "--config", str(path))
    assert (plan["stages"], plan["perturb"], plan["memory"]) == (3, 0.1, "file")


BAD: dict[str, tuple[str | bytes, str]] = {
    "unknown": ("tim-limit = 3", "unknown key 'tim-limit'; did you mean 'time-limit'?"),
    "unknown with underscores": ("time_limits = 3", "did you mean 'time-limit'?"),
    "python name": ("dims = {batch = 1}", "unknown key 'dims'; did you mean 'dim'?"),
    "nothing close": ("zzzzz = 3", "unknown key 'zzzzz'"),
    "twice": ("time-limit = 3\ntime_limit = 4", "'time_limit' is given twice"),
    "text for a number": ('time-limit = "3"', "time-limit must be a number of seconds above 0, got '3'"),
    "truth for a number": ("gap = true", "gap must be a fraction"),
    "number for truth": ("force = 1", "force must be true or false, got 1"),
    "fraction for a count": ("stages = 2.5", "stages must be a whole number"),
    "out of range": ("time-limit = 0", "time-limit must be"),
    "too large": ("stages = 99999999999999999999", "stages must be"),
    "huge": ("time-limit = 1" + "0" * 400, "time-limit: not a number from"),
    "too many digits": ("seed = " + "1" * 5000, "not valid TOML"),
    "one library": ('custom-ops = "lib.so"', "custom-ops must be a list of paths"),
    "a list of numbers": ("custom-ops = [1]", "custom-ops must be a list of paths"),
    "bad dimension": ("dim = {batch = -1}", "dim must be whole numbers from 0 to 2147483647 by dimension"),
    "no table": ('dim = "batch=1"', "dim must be"),
    "unknown word": ('memory-mode = "soft"', "memory-mode must be 'overflow' or 'hard', got 'soft'"),
    "unknown bound": ('bounds = ["magic"]', "bounds must be names out of simple"),
    "unit": ('bandwidth = "3 parsecs"', "unknown unit 'parsecs'"),
    "a date": ("gap = 2020-01-01", "gap must be"),
    "syntax": ("= 3", "not valid TOML"),
    "nested": ("dim = " + "[" * 5000 + "]" * 5000, "nested too deeply"),
    "not text": (b"\xff\xfe\x00", "not a text file"),
}  # fmt: skip


@pytest.mark.parametrize("kind", BAD)
def test_a_wrong_file_is_one_line(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit code 3, as for a device's file: file, key, what it takes; nothing else happens."""
    monkeypatch.chdir(tmp_path)
    text, words = BAD[kind]
    Path("c.toml").write_bytes(text if isinstance(text, bytes) else text.encode())
    code = main(["split", "m.onnx", "-k", "2", "--config", "c.toml"])
    out, err = capsys.readouterr()
    assert code == 3
    assert out == ""
    assert err.startswith("onnx-pipeline: error: c.toml: ")
    assert len(err.splitlines()) == 1
    assert len(err) < 400
    assert words in err


@pytest.mark.parametrize("make", [Path.mkdir, lambda path: None], ids=["directory", "missing"])
def test_a_file_that_cannot_be_read(
    make: Callable[[Path], None], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The file is named, too."""
    make(tmp_path / "c.toml")
    assert main(["plan", "g.json", "--config", str(tmp_path / "c.toml")]) == 3
    assert "c.toml: cannot be read: " in capsys.readouterr().err


def test_split_by_a_file_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A whole run, and the same from Python."""
    monkeypatch.chdir(tmp_path)
    onnx.save(builders.mlp(batch="batch"), "mlp.onnx")
    text = 'stages = 2\noutput = "out"\ncost-model = "analytic"\ntime-limit = 2\nbandwidth = "1GB/s"\n'
    Path("c.toml").write_text(text + "quiet = true\n[dim]\nbatch = 3\n")
    assert main(["split", "mlp.onnx", "--config", "c.toml"]) == 0
    assert capsys.readouterr().err == ""
    document = json.loads(Path("out/manifest.json").read_text())
    assert document["cost_model"]["dims"] == {"batch": 3}
    assert document["target"]["bandwidth_bytes_per_second"] == 1e9
    settings = load("c.toml")
    del settings["quiet"]
    again = pipeline.split("mlp.onnx", **(settings | {"output": "again"}))
    for key in ("target", "cost_model"):
        assert again.to_json()[key] == document[key]


def test_plan_by_a_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Demands reach the partitioner."""
    builder = GraphBuilder("g")
    a, b, c = (builder.add_node(name, 1000) for name in "abc")
    builder.add_net("t", a, [b], nbytes=1)
    builder.add_net("u", b, [c], nbytes=1)
    write_graph(builder.build(), tmp_path / "g.json")
    path = tmp_path / "c.toml"
    path.write_text(
        'stages = 2\ntogether = [["b", "c"]]\nexactly = true\njson = true\ntime-limit = 1\npin = {a = 0}\n'
    )
    assert main(["plan", str(tmp_path / "g.json"), "--config", str(path)]) == 0
    stages = json.loads(capsys.readouterr().out)["stages"]
    assert [stage["node_names"] for stage in stages] == [["a"], ["b", "c"]]
