"""Plans become stage files, those of this model and no others."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

import onnx_pipeline as op
from models import builders, structures
from onnx_pipeline.cli.entry import main
from onnx_pipeline.planfile import write_plan

QUICK: dict[str, Any] = {"time_limit": 2.0, "threads": 1}
DIMS = {"batch": 3}


@pytest.fixture(scope="module")
def model() -> onnx.ModelProto:
    """A chain of eight nodes with a symbolic batch."""
    return builders.mlp(batch="batch")


@pytest.fixture(scope="module")
def graph(model: onnx.ModelProto) -> op.CostGraph:
    """Its costs for a batch that is not the default."""
    return op.profile(model, cost_model="analytic", dims=DIMS)


@pytest.fixture(scope="module")
def result(graph: op.CostGraph) -> op.PartitionResult:
    """A plan of them."""
    return op.plan(graph, stages=2, **QUICK)


@pytest.fixture
def saved(model: onnx.ModelProto, graph: op.CostGraph, result: op.PartitionResult, tmp_path: Path) -> Path:
    """A folder with the model, its costs and the plan, as the command line writes them."""
    onnx.save(model, tmp_path / "model.onnx")
    op.write_graph(graph, tmp_path / "costs.json")
    write_plan(result.to_json(tmp_path / "costs.json"), tmp_path / "plan.json")
    return tmp_path


def settled(document: op.Manifest) -> dict[str, Any]:
    """The parts of a manifest that no clock has a hand in."""
    found = document.to_json()
    del found["phases"], found["search"]["wall_seconds"]
    for point in found["search"].get("history", ()):
        del point["seconds"]
    for bound in found["certificate"]["bounds"]:
        del bound["wall_seconds"]
    return found


def test_emit_writes_what_split_writes(
    model: onnx.ModelProto, result: op.PartitionResult, tmp_path: Path
) -> None:
    """The same manifest, certificate, costs and stage files."""
    whole = op.split(model, stages=2, output=tmp_path / "a", cost_model="analytic", dims=DIMS, **QUICK)
    last = op.emit(model, result, tmp_path / "b")
    assert settled(last) == settled(whole)
    assert last.certificate["status"] == "optimal"
    for file in ("costs.json", *(stage.file for stage in whole.stages)):
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()
    assert op.verify(tmp_path / "b", model=model).ok


def test_a_plan_file_is_enough(saved: Path, model: onnx.ModelProto, result: op.PartitionResult) -> None:
    """In Python and on the command line."""
    document = op.emit(saved / "model.onnx", saved / "plan.json", saved / "out")
    assert settled(document)["stages"] == settled(op.emit(model, result, saved / "memory"))["stages"]
    assert op.verify(saved / "out", model=saved / "model.onnx").ok
    before = (saved / "out" / "stage_0.onnx").read_bytes()
    command = ["emit", str(saved / "model.onnx"), str(saved / "plan.json"), "-o", str(saved / "out")]
    assert main(command) == 2  # exists
    assert main([*command, "--force", "--annotate"]) == 0
    assert (saved / "out" / "annotated.onnx").exists()
    assert (saved / "out" / "stage_0.onnx").read_bytes() == before


def test_the_command_names_its_output(
    saved: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """As split does, after model and stages; one JSON document on request."""
    monkeypatch.chdir(saved)
    assert main(["emit", "model.onnx", "plan.json", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["output"] == "model-k2"
    assert op.verify(saved / "model-k2").ok


@pytest.mark.parametrize(
    ("other", "message"),
    [
        (builders.mlp(layers=3), "it lacks 2 of the plan's 8 nodes, 'fc3' for one"),
        (builders.mlp(layers=6), "the plan lacks 4 of its 12 nodes, 'fc4' for one"),
        (builders.mlp(batch="batch", width=32), "the bytes of the tensors are not those of the model"),
    ],
)
def test_another_model_is_refused(
    other: onnx.ModelProto, message: str, result: op.PartitionResult, tmp_path: Path
) -> None:
    """Before anything is written, in one line that says what differs and what to do."""
    with pytest.raises(op.InputError) as caught:
        op.emit(other, result, tmp_path / "out")
    assert f"this is not the model of the plan: {message}" in str(caught.value)
    assert str(caught.value).endswith("profile this model and plan its costs")
    assert not (tmp_path / "out").exists()


def test_what_is_no_plan(model: onnx.ModelProto, graph: op.CostGraph, tmp_path: Path) -> None:
    """A graph in its place, or a file of something else."""
    with pytest.raises(op.UsageError, match="a ReplicaPlan or a path, got a CostGraph"):
        op.emit(model, graph, tmp_path / "out")  # type: ignore[arg-type]
    op.write_graph(graph, tmp_path / "costs.json")
    with pytest.raises(op.InputError, match="plan"):
        op.emit(model, tmp_path / "costs.json", tmp_path / "out")


def test_other_edges_are_another_model(result: op.PartitionResult, tmp_path: Path) -> None:
    """The names of the nodes alone do not make a model."""
    other = builders.mlp(batch="batch")
    first, second = [n for n in other.graph.node if n.op_type == "Gemm"][1:3]
    second.input[0] = first.input[0]
    with pytest.raises(op.InputError, match="not the model of the plan"):
        op.emit(other, result, tmp_path / "out")


def test_dimensions_are_those_of_the_costs(
    model: onnx.ModelProto, graph: op.CostGraph, tmp_path: Path
) -> None:
    """Others would need other costs; a graph that states none takes those that are given."""
    result = op.plan(graph, stages=2, **QUICK)
    with pytest.raises(op.UsageError, match="the plan is for batch=3, not 4; profile and plan again"):
        op.emit(model, result, tmp_path / "out", dims={"batch": 4})
    silent = op.plan(replace(graph, meta={"cost_model": "analytic"}), stages=2, **QUICK)
    with pytest.raises(op.InputError, match="the bytes of the tensors"):
        op.emit(model, silent, tmp_path / "out")
    document = op.emit(model, silent, tmp_path / "out", dims=DIMS)
    assert document.cost_model["dims"] == DIMS
    assert op.verify(tmp_path / "out", model=model).ok


def test_what_the_model_needs_together_stays_together(tmp_path: Path) -> None:
    """A plan that ignored the graph's groups cannot be written."""
    model = structures.SMALL["sequence"]()
    graph = op.profile(model, cost_model="analytic")
    free = replace(graph, colocation=np.full(graph.num_nodes, -1))
    with pytest.raises(op.InputError, match="no border can run between the nodes"):
        op.emit(model, op.plan(free, stages=2, **QUICK), tmp_path / "out")


def test_stages_follow_each_other(model: onnx.ModelProto, graph: op.CostGraph, tmp_path: Path) -> None:
    """Neither an empty stage in between nor a tensor that flows back has files."""
    last = graph.node_names[-1]
    pinned = op.plan(graph, stages=4, demands=op.Demands(pins=dict.fromkeys(graph.node_names, 0)), **QUICK)
    assert op.emit(model, pinned, tmp_path / "one").stages[0].nodes == 8
    gap = replace(pinned.partition, stage_of=np.where(np.array(graph.node_names) == last, 2, 0))
    with pytest.raises(op.InfeasibleError, match="empty"):
        op.emit(model, replace(pinned, partition=gap), tmp_path / "out")
    back = replace(
        pinned.partition, graph=graph, stage_of=(np.array(graph.node_names) != last).astype(np.int64)
    )
    with pytest.raises(op.InputError, match=r"is not a partition: tensor .* flows back"):
        op.emit(model, replace(pinned, partition=back), tmp_path / "out")
