"""Options that are given twice."""

from __future__ import annotations

import ast
from pathlib import Path

import onnx
import pytest

from models import builders
from onnx_pipeline.cli import once
from onnx_pipeline.cli.entry import main


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["-k", "2", "--device", "cpu", "--device", "gpu"], "--device is given as both 'cpu' and 'gpu'"),
        (["-k2", "-qk3"], "--stages is given as both '2' and '3'"),
        (["-k", "2", "--stages=3"], "--stages is given as both '2' and '3'"),
        (["-k2", "--device", "cpu", "--no-cache", "--cache"], "--cache and --no-cache contradict each other"),
        (["-k2", "--memory", "1GB", "--memory", "2GB"], "--memory is given as both '1GB' and '2GB'"),
    ],
)
def test_contradictions_are_refused(
    arguments: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """No last one wins."""
    assert main(["split", str(tmp_path / "model.onnx"), *arguments]) == 2
    assert message in capsys.readouterr().err


def test_nothing_private_of_click() -> None:
    """Releases of click rename what begins with an underscore."""
    tree = ast.parse(Path(once.__file__).read_text(encoding="utf-8"))
    assert not [n.attr for n in ast.walk(tree) if isinstance(n, ast.Attribute) and n.attr.startswith("_")]


def test_repetition_is_no_contradiction(tmp_path: Path) -> None:
    """The same value again, flags again, and options that collect."""
    onnx.save(builders.mlp(3), tmp_path / "model.onnx")
    common = ["split", str(tmp_path / "model.onnx"), "-k", "2", "-k", "2", "--cost-model", "analytic", "-q"]
    node = onnx.load(tmp_path / "model.onnx").graph.node
    pins = [word for name in (node[0].name, node[1].name) for word in ("--pin", f"{name}=0")]
    twice = ["-o", str(tmp_path / "out")] * 2 + ["--time-limit", "1", "--no-cache", "--no-cache", "-q", *pins]
    assert main([*common, *twice]) == 0
