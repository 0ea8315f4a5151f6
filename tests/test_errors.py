"""Errors and notes say what to do in the words of whoever reads them."""

from __future__ import annotations

import ast
import pickle
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import onnx_pipeline as op
from onnx_pipeline.cli.commands import cli
from onnx_pipeline.cli.entry import explain
from onnx_pipeline.cli.spelling import speller
from onnx_pipeline.errors import Advice, PipelineError, StageError, did_you_mean, spelled
from onnx_pipeline.files.atomic import check_file
from onnx_pipeline.graph.builder import GraphBuilder

as_option = speller(cli)
ROOT = Path(__file__).resolve().parent.parent
#: An option as the command line spells it.
OPTION = re.compile(r"(?<![\w-])--[a-z]|(?<!\S)-[a-z] ")


def literals(path: Path) -> Iterator[tuple[int, str]]:
    """Every string of a module that is no docstring."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    texts = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in texts:
            yield node.lineno, node.value


def test_only_the_command_line_speaks_of_options() -> None:
    """A Python caller has no ``--dim``: messages name parameters, and the command line translates them.

    A report is a page for people at a command line, whoever made it.
    """
    files = [
        path for folder in ("onnx_pipeline", "costmodel", "passes") for path in (ROOT / folder).rglob("*.py")
    ]
    inside = [path for path in files if not {"cli", "reporting"} & set(path.relative_to(ROOT).parts[:-1])]
    assert len(inside) > 100
    found = [
        f"{path}:{line}: {text}" for path in inside for line, text in literals(path) if OPTION.search(text)
    ]
    assert found == []


@pytest.mark.parametrize(
    ("name", "value", "python", "option"),
    [
        ("force", True, "force=True", "--force"),
        ("activations", False, "activations=False", "--no-activations"),
        ("dims", {"batch": 8, "é": 2}, 'dims={"batch": 8, "é": 2}', "--dim batch=8 --dim é=2"),
        ("dims", ..., "dims=...", "--dim NAME=INT"),
        ("inputs", ..., "inputs=...", "--inputs X.npz"),
        ("memory_mode", "overflow", 'memory_mode="overflow"', "--memory-mode overflow"),
        ("model", ..., "model=...", "--model MODEL.onnx"),
        ("output", ..., "output=...", "--output DIR"),
        ("nowhere", 1, "nowhere=1", "nowhere=1"),
    ],
)
def test_a_parameter_in_both_spellings(name: str, value: object, python: str, option: str) -> None:
    """The option is looked up in the commands themselves."""
    advice = Advice(f"{{x}} try {{{name}}}!", **{name: value})
    assert advice == f"{{x}} try {python}!"
    assert spelled(advice, as_option) == f"{{x}} try {option}!"
    assert spelled("plain {force}", as_option) == "plain {force}"


def test_message_and_hint_are_apart(tmp_path: Path) -> None:
    """The hint is an attribute, the text holds both, in one line."""
    (tmp_path / "f").touch()
    with pytest.raises(op.UsageError) as raised:
        check_file(tmp_path / "f", force=False)
    error = raised.value
    assert error.message == f"{tmp_path / 'f'}: already exists"
    assert error.hint == "give another file, or force=True to replace it"
    assert str(error) == f"{error.message}; {error.hint}"
    assert explain(error) == (f"{error.message}; give another file, or --force to replace it", 2)
    assert str(op.InputError("a.onnx", "two\nlines", "do this")) == "a.onnx: two lines; do this"
    assert str(PipelineError("only this")) == "only this"


def test_a_note_in_both_languages() -> None:
    """What ``plan`` says of a limit that costs nothing."""
    builder = GraphBuilder("g")
    builder.add_node("a", 1000)
    notes = []
    device = op.Device("ideal")
    op.plan(builder.build(), stages=1, device=device, memory=10, progress=lambda *said: notes.append(said))
    (note,) = (text for phase, _, text in notes if phase == "note")
    assert "give bandwidth=..., too" in note
    assert "give --bandwidth RATE, too" in spelled(note, as_option)


def test_an_error_of_the_search_in_both_languages() -> None:
    """A limit that nothing meets."""
    builder = GraphBuilder("g")
    builder.add_group("w", 100, [builder.add_node("a", 1000)])
    with pytest.raises(op.InfeasibleError, match='more memory, or memory_mode="overflow"') as raised:
        op.plan(builder.build(), stages=1, memory=10, memory_mode="hard", time_limit=1)
    assert "more memory, or --memory-mode overflow" in explain(raised.value)[0]


@pytest.mark.parametrize(
    "error",
    [
        op.UsageError("bad", Advice("use {force}", force=True)),
        op.InputError("file", "bad", "try again"),
        op.InputError(None, "bad"),
        op.InfeasibleError("no"),
        StageError("stage_0.onnx", 0, "died"),
    ],
    ids=repr,
)
def test_errors_survive_pickling(error: PipelineError) -> None:
    """They cross processes: class, text, hint and attributes stay."""
    for protocol in range(2, pickle.HIGHEST_PROTOCOL + 1):
        again = pickle.loads(pickle.dumps(error, protocol))
        assert type(again) is type(error)
        assert again.__dict__ == error.__dict__
        assert str(again) == str(error)
        assert again.told(as_option) == error.told(as_option)


def test_an_error_becomes_a_note() -> None:
    """It is still spelled by whoever reads the note."""
    error = op.InputError("m.onnx", "no shape", Advice("give {inputs}", inputs=...))
    note = error.advice("not measured: ")
    assert note == "not measured: m.onnx: no shape; give inputs=..."
    assert spelled(note, as_option) == "not measured: m.onnx: no shape; give --inputs X.npz"


def test_close_matches() -> None:
    """None where nothing is close."""
    assert did_you_mean("conv", ["conv1", "relu"]) == "did you mean 'conv1'?"
    assert did_you_mean("zzz", ["conv1"]) is None
