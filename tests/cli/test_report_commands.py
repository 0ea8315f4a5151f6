"""``report`` on the command line."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from onnx_pipeline.cli.entry import main
from tests.splitting import save, split

MODEL = "m (float[N, 4] x) => (float[N, 4] y) { a = Relu(x)  b = Neg(a)  y = Abs(b) }"
Run = Callable[..., int]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run ``report`` in a folder that holds a split."""
    monkeypatch.chdir(tmp_path)
    split(save(tmp_path, MODEL), tmp_path / "out", 2)
    return lambda *arguments: main(["report", *arguments])


@pytest.fixture
def draws() -> None:
    """Skip where nothing can be drawn."""
    pytest.importorskip("vl_convert", reason="charts need vl-convert-python")
    pytest.importorskip("pygraphviz", reason="graphs need pygraphviz")


@pytest.mark.usefixtures("draws")
def test_a_page_is_written_and_its_place_printed(
    run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """By default report.html; as JSON with its size."""
    assert run("out") == 0
    out, err = capsys.readouterr()
    assert out.splitlines()[-1] == "written to report.html"
    assert not err
    assert run("out", "-o", "other.html", "--json") == 0
    size = (tmp_path / "other.html").stat().st_size
    assert json.loads(capsys.readouterr().out) == {"output": "other.html", "bytes": size}


@pytest.mark.usefixtures("draws")
@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["out"], 2, "report.html: already exists; give another file, or --force to replace it"),
        (["none", "-o", "new.html"], 3, "none: no such file or directory; give the folder of a split"),
        (["model.onnx", "-o", "new.html"], 3, "model.onnx: "),
        (["out", "-o", "new.html", "--trace", "model.onnx"], 3, "model.onnx: "),
        (["out", "-o", "out"], 2, "out: is a directory; name a file"),
    ],
)
def test_errors_are_one_line(
    run: Run, arguments: list[str], code: int, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """With the exit code of their kind; nothing is left behind."""
    (tmp_path / "report.html").write_text("mine", encoding="utf-8")
    before = sorted(tmp_path.iterdir())
    assert run(*arguments) == code
    out, err = capsys.readouterr()
    assert not out
    assert err.startswith(f"onnx-pipeline: error: {said}")
    assert err.count("\n") == 1
    assert sorted(tmp_path.iterdir()) == before
