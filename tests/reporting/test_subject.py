"""What is read for a report, and what happens where parts are missing."""

from __future__ import annotations

from pathlib import Path

import pytest

from onnx_pipeline import planfile
from onnx_pipeline.errors import InputError
from onnx_pipeline.graph.builder import GraphBuilder
from onnx_pipeline.graph.costs_json import write_graph
from onnx_pipeline.reporting.subject import read_subject
from tests.reporting.subjects import chain, cut
from tests.splitting import save, split

MODEL = "m (float[N, 4] x) => (float[N, 4] y) { a = Relu(x)  b = Neg(a)  y = Abs(b) }"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A split in three stages."""
    split(save(tmp_path, MODEL), tmp_path / "out", 3, dims={"N": 2})
    return tmp_path / "out"


@pytest.fixture
def plan(tmp_path: Path) -> Path:
    """A plan beside its costs."""
    result = cut(chain(["a", "b", "c"]), 2)
    write_graph(result.graph, tmp_path / "costs.json")
    planfile.write_plan(planfile.plan_document(result, tmp_path / "costs.json"), tmp_path / "plan.json")
    return tmp_path / "plan.json"


def test_a_split_brings_operators_shapes_and_hashes(folder: Path) -> None:
    """Operators from the stage files, shapes from both, hashes of everything but the weights."""
    subject = read_subject(folder)
    assert sorted(subject.operators.values()) == ["Abs", "Neg", "Relu"]
    assert subject.types == dict.fromkeys("xaby", "float32[N, 4]")
    assert subject.partition is not None
    assert subject.partition.stage_of.tolist() == [0, 1, 2]
    names = [name for name, _ in subject.hashes]
    assert names == [
        "model.onnx",
        "stage_0.onnx",
        "stage_1.onnx",
        "stage_2.onnx",
        "manifest.json",
        "costs.json",
    ]
    assert not subject.notes


def test_a_stage_file_that_cannot_be_read_is_noted(folder: Path) -> None:
    """The others still give their operators; the tensors at borders keep their shapes."""
    (folder / "stage_1.onnx").write_bytes(b"\xff\xff")
    (folder / "stage_2.onnx").unlink()
    subject = read_subject(folder)
    assert sorted(subject.operators.values()) == ["Relu"]
    assert [note.partition(":")[0] for note in subject.notes] == [
        "stage_1.onnx cannot be read",
        "stage_2.onnx cannot be read",
    ]


def test_missing_costs_are_no_error(folder: Path, plan: Path) -> None:
    """The subject says what is missing."""
    (folder / "costs.json").unlink()
    subject = read_subject(folder)
    assert subject.partition is None
    assert "costs.json: cannot be read" in subject.missing
    plan.with_name("costs.json").write_text("{}", encoding="utf-8")
    assert "its SHA-256 differs" in read_subject(plan).missing


def test_costs_of_another_model_are_refused(folder: Path) -> None:
    """Nodes must be those of the stages."""
    write_graph(chain(["x", "y"]), folder / "costs.json")
    assert read_subject(folder).missing == "the costs are those of other nodes"


def test_a_plan_finds_its_costs(plan: Path) -> None:
    """Beside it, or where it says."""
    subject = read_subject(plan)
    assert subject.partition is not None
    assert [name for name, _ in subject.hashes] == ["plan.json", "costs.json"]
    assert not subject.is_split


def test_nothing_to_report_on(tmp_path: Path) -> None:
    """A path that does not exist, a folder that is no split."""
    with pytest.raises(InputError, match="no such file or directory"):
        read_subject(tmp_path / "none")
    with pytest.raises(InputError, match=r"has no manifest\.json"):
        read_subject(tmp_path)


def test_a_plan_has_the_shapes_that_its_costs_have() -> None:
    """Types and shapes of tensors, where costs know them."""
    builder = GraphBuilder("typed")
    a, b = builder.add_node("a", 1), builder.add_node("b", 1)
    builder.add_net("t", a, [b], nbytes=8, kind=("float32", (1, 2)))
    builder.add_net("u", b, [], nbytes=8, to_host=True, kind=("int64", None))
    builder.add_net("v", a, [b], nbytes=8)
    assert read_subject(cut(builder.build(), 2)).types == {"t": "float32[1, 2]", "u": "int64"}
