"""``show --cuts`` and its forms."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from onnx_pipeline.cli import main
from tests.splitting import save, split

SKIP = """m (float[N, 4] x) => (float[N, 4] y) {
    s = Relu(x)  t = Neg(s)  u = Abs(t)  v = Add(t, u)  y = Mul(s, v)
}"""


@pytest.fixture
def out(tmp_path: Path) -> str:
    """A split into three stages."""
    split(save(tmp_path, SKIP), tmp_path / "out", 3)
    return str(tmp_path / "out")


def test_cuts_are_listed_by_border(out: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Type, shape, bytes, producer and consumers of every tensor; a skip says so; within 80 columns."""
    assert main(["show", out, "--cuts"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert "stage 0 -> stage 2: 1 tensor, 16 B, skips 1 stage" in lines
    at = lines.index("stage 0 -> stage 2: 1 tensor, 16 B, skips 1 stage")
    assert lines[at + 1] == "  s"
    assert lines[at + 2].startswith("    float32 1x4, 16 B, ")
    assert lines[at + 3].startswith("    from ")
    assert lines[at + 4].startswith("    to   ")
    assert max(map(len, lines[1:])) <= 80


def test_cuts_as_json(out: str, capsys: pytest.CaptureFixture[str]) -> None:
    """One document; the same to a file."""
    assert main(["show", out, "--cuts", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    entry = next(each for each in document["tensors"] if each["tensor"] == "s")
    assert (entry["source"], entry["targets"], entry["shape"]) == (0, [2], [1, 4])
    assert entry["consumers"] == [{"stage": 2, "nodes": [entry["consumers"][0]["nodes"][0]]}]


@pytest.mark.parametrize("choice", ["--format=csv", "--format=dot", "--format=mermaid", "--node-data=work"])
def test_forms_go_to_stdout_or_to_a_file(
    choice: str, out: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The same text; an existing file stays unless --force says otherwise."""
    assert main(["show", out, choice]) == 0
    printed = capsys.readouterr().out
    file = tmp_path / "file"
    assert main(["show", out, choice, "-o", str(file)]) == 0
    assert file.read_text() == printed
    assert main(["show", out, choice, "-o", str(file)]) == 2


def test_plans_have_cuts(out: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The costs know types and shapes; without the costs there is nothing to list."""
    plan = tmp_path / "plan.json"
    assert main(["plan", f"{out}/costs.json", "-k", "2", "-o", str(plan), "-q"]) == 0
    assert main(["show", str(plan), "--cuts"]) == 0
    assert "float32 1x4" in capsys.readouterr().out
    (tmp_path / "out" / "costs.json").unlink()
    assert main(["show", str(plan), "--cuts"]) == 3
    assert "its costs are missing" in capsys.readouterr().err


def test_forms_exclude_each_other(out: str, capsys: pytest.CaptureFixture[str]) -> None:
    """One line each."""
    assert main(["show", out, "--cuts", "--node-data", "work"]) == 2
    assert main(["show", out, "-o", "file"]) == 2
    assert main(["show", out, "--json", "--format", "csv"]) == 2
    assert len(capsys.readouterr().err.splitlines()) == 3
