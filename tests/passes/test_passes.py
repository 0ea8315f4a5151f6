"""The passes: what they write on the model, what they demand, and that each can be replaced."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
import pytest
from onnx_ir.passes import (
    InPlacePass,
    PassError,
    PassManager,
    PassResult,
    PostconditionError,
    PreconditionError,
    functionalize,
)

from models import builders
from onnx_pipeline import costmodel
from onnx_pipeline.costmodel.request import CostRequest, NodeCosts
from onnx_pipeline.errors import UsageError
from onnx_pipeline.graph.costs_json import write_graph
from onnx_pipeline.graph.target import Target
from onnx_pipeline.model.lowering import lower
from onnx_pipeline.model.roles import executable_nodes
from onnx_pipeline.model.shapes import value_infos
from onnx_pipeline.model.source import SourceModel, load
from onnx_pipeline.partition import portfolio
from onnx_pipeline.partition.certificate import check
from onnx_pipeline.partition.result import Bound, Certificate, PartitionResult
from onnx_pipeline.passes import EmitPass, PartitionPass, ProfilePass, load_pass, metadata, pass_names
from onnx_pipeline.passes.partition import (
    annotate_stages,
    annotated_graph,
    annotated_infos,
    read_stages,
    write_stages,
)
from onnx_pipeline.pipeline import split
from onnx_pipeline.runtime import PipelineSession
from onnx_pipeline.verification.checks import verify

TARGET = Target(bandwidth=1e9, name="test")


def saved(tmp_path: Path, model: onnx.ModelProto) -> SourceModel:
    """Save and load a model."""
    onnx.save(model, tmp_path / "model.onnx")
    return load(tmp_path / "model.onnx")


class ByPosition(InPlacePass):
    """A third party's partitioner: first half, second half; knows nothing but the metadata key."""

    def __init__(self, stages: tuple[int, int] = (0, 1)) -> None:
        self.stages = stages

    def call(self, model: ir.Model) -> PassResult:
        """Write the stages."""
        nodes = list(model.graph)
        for i, node in enumerate(nodes):
            node.metadata_props["onnx_pipeline.stage"] = str(self.stages[2 * i >= len(nodes)])
        return PassResult(model, modified=True)


class OneMicrosecond(InPlacePass):
    """A third party's cost pass that writes work and nothing else."""

    def call(self, model: ir.Model) -> PassResult:
        """Write the work."""
        for node in model.graph:
            node.metadata_props["onnx_pipeline.work_ns"] = "1000"
        return PassResult(model, modified=True)


@pytest.mark.parametrize("name", builders.SMALL)
def test_pipeline_of_passes_on_every_small_model(name: str, tmp_path: Path) -> None:
    """Profile, partition and emit through a PassManager; the emitted pipeline equals the model."""
    source = saved(tmp_path, builders.SMALL[name]())
    emit = EmitPass(source, tmp_path / "out")
    steps = [ProfilePass(source, "analytic"), PartitionPass(source, 3, TARGET, gap=0.9), emit]
    result = PassManager(steps)(source.ir)
    assert result.model is source.ir
    assert result.modified
    assert emit.manifest is not None
    assert sum(stage.nodes for stage in emit.manifest.stages) >= len(executable_nodes(source))
    verify(tmp_path / "out", model=source.path)


def test_same_files_as_the_facade(tmp_path: Path) -> None:
    """Annotations do not leak: the stage files equal those of ``split`` for the same costs, byte for byte."""
    source = saved(tmp_path, builders.branching())
    before = split(
        source.path,
        stages=3,
        output=tmp_path / "a",
        cost_model="analytic",
        bandwidth=1e9,
        gap=0.9,
        threads=1,
    )
    target = replace(costmodel.load_device("cpu").target(), bandwidth=1e9)
    emit = EmitPass(source, tmp_path / "b")
    partition = PartitionPass(source, 3, target, gap=0.9, threads=1)
    PassManager([ProfilePass(source, "analytic"), partition, emit])(source.ir)
    assert emit.manifest is not None
    assert [s.sha256 for s in emit.manifest.stages] == [s.sha256 for s in before.stages]
    assert emit.manifest.model.sha256 == before.model.sha256
    for folder in "ab":
        stages = [onnx.load(tmp_path / folder / stage.file) for stage in before.stages]
        props = [p.key for model in stages for node in model.graph.node for p in node.metadata_props]
        assert not [key for key in props if key.startswith("onnx_pipeline.")]


def test_annotations(tmp_path: Path) -> None:
    """ProfilePass writes work, types and sizes; PartitionPass stages and the certificate."""
    source = saved(tmp_path, builders.mlp(2, 16, batch="batch"))
    ProfilePass(source, "analytic", dims={"batch": 3})(source.ir)
    node = source.ir.graph.node("fc0")
    assert float(node.metadata_props["onnx_pipeline.work_ns"]) > 0
    assert node.outputs[0].metadata_props["onnx_pipeline.bytes"] == str(3 * 16 * 4)
    tensor = json.loads(node.outputs[0].metadata_props["onnx_pipeline.tensor"])
    assert (tensor["dtype"], tensor["shape"]) == ("FLOAT", [3, 16])
    assert metadata.read_dims(source.ir) == {"batch": 3}
    PartitionPass(source, 2, TARGET, gap=0.9)(source.ir)
    assert {n.metadata_props["onnx_pipeline.stage"] for n in source.ir.graph} <= {"0", "1"}
    record = json.loads(source.ir.metadata_props["onnx_pipeline.partition"])
    assert record["target"]["bandwidth"] == 1e9
    assert record["target"]["memory"] is None


def test_costs_beyond_work_survive_the_metadata(tmp_path: Path) -> None:
    """Costs at borders, bytes that a provider holds and scatter reach the graph that is certified."""
    source = saved(tmp_path, builders.mlp(3))
    infos, nodes = value_infos(source, None), executable_nodes(source)
    costs = NodeCosts("profile", {str(node.name): 1000.0 for node in nodes})
    more = replace(
        costs,
        spread={str(nodes[0].name): 0.25},
        border_ns={str(node.outputs[0].name): 70.0 for node in nodes},
        parameter_bytes=dict.fromkeys(lower(source, infos, costs).group_names, 3),
    )
    expected = lower(source, infos, more)
    write_graph(expected, tmp_path / "costs.json")
    ProfilePass(source, str(tmp_path / "costs.json"))(source.ir)
    found = annotated_graph(source, infos)
    assert found.net_extra is not None
    assert expected.net_extra is not None
    assert found.net_extra.tolist() == expected.net_extra.tolist()
    assert set(found.group_bytes.tolist()) == {3}
    assert found.meta["node_spread"] == {str(nodes[0].name): 0.25}


def test_infos_come_back(tmp_path: Path) -> None:
    """Types and shapes read from the annotations are those that were found."""
    source = saved(tmp_path, builders.transformer_encoder(1, seq="seq", batch="batch"))
    ProfilePass(source, "analytic")(source.ir)
    assert metadata.read_infos(source.ir) == value_infos(source, {"batch": 1, "seq": 1})


def test_certificate_survives_the_metadata(tmp_path: Path) -> None:
    """What was found and proved is read back field by field, several bounds included, and checks."""
    source = saved(tmp_path, builders.branching())
    ProfilePass(source, "analytic")(source.ir)
    found = annotate_stages(source, 3, TARGET, gap=0.9, seed=4)
    other = Bound("other", 1, False, "solver", 0.5, found.graph.ticks_per_second)
    written = replace(found, certificate=Certificate((*found.bounds, other)))
    write_stages(source.ir, written)
    result = read_stages(source, annotated_infos(source), None)
    assert result.certificate == written.certificate
    assert result.search == replace(written.search, history=())
    assert (result.target, result.stages) == (written.target, written.stages)
    assert result.stage_of.tolist() == written.stage_of.tolist()
    assert check(result.partition, result.certificate) == []


def test_bounds_of_other_costs_are_dropped(tmp_path: Path) -> None:
    """A bound proved for other costs is no certificate: the simple bound of the new costs replaces it."""
    source = saved(tmp_path, builders.branching())
    ProfilePass(source, "analytic")(source.ir)
    PartitionPass(source, 3, TARGET, gap=0.9)(source.ir)
    OneMicrosecond()(source.ir)
    result = read_stages(source, annotated_infos(source), None)
    assert [bound.method for bound in result.bounds] == ["simple"]
    assert check(result.partition, result.certificate) == []


def test_bounds_for_other_devices_are_dropped(tmp_path: Path) -> None:
    """However small the difference; a device is taken for a target, by name, too."""
    source = saved(tmp_path, builders.branching())
    ProfilePass(source, "analytic")(source.ir)
    board = costmodel.Device("board", bandwidth=1e9)
    PartitionPass(source, 3, board, gap=0.9)(source.ir)
    infos = annotated_infos(source)
    assert read_stages(source, infos, None).target == board.target()
    written = read_stages(source, infos, board).bounds
    assert written == read_stages(source, infos, None).bounds != ()
    for other in (replace(board, bandwidth=1e9 + 1), "edge"):
        result = read_stages(source, infos, other)
        assert result.target.bandwidth != board.bandwidth
        assert result.bounds != written


def test_bounds_survive_foreign_stages(tmp_path: Path) -> None:
    """A lower bound holds for every partition: moving nodes keeps it, with the new partition's own cost."""
    source = saved(tmp_path, builders.mlp(4, 64))
    ProfilePass(source, "analytic")(source.ir)
    PartitionPass(source, 2, TARGET, gap=0.9)(source.ir)
    best = read_stages(source, annotated_infos(source), None)
    for node in source.ir.graph:
        node.metadata_props["onnx_pipeline.stage"] = "0"
    worse = read_stages(source, annotated_infos(source), None)
    assert worse.lower == best.lower
    assert worse.upper >= best.upper
    assert worse.used == 1
    assert check(worse.partition, worse.certificate) == []


def test_foreign_cost_and_partition_passes(tmp_path: Path) -> None:
    """Neither of our first two passes is needed: work and stages by others, emission by us."""
    source = saved(tmp_path, builders.mlp())
    emit = EmitPass(source, tmp_path / "out", target=TARGET)
    PassManager([OneMicrosecond(), ByPosition(), emit])(source.ir)
    assert emit.manifest is not None
    assert [stage.nodes for stage in emit.manifest.stages] == [4, 4]
    assert emit.manifest.target["bandwidth_bytes_per_second"] == 1e9
    verify(tmp_path / "out", model=source.path)


def test_gaps_in_stage_numbers_close(tmp_path: Path) -> None:
    """A foreign pass may number its stages with gaps; the emitted ones are dense."""
    source = saved(tmp_path, builders.mlp())
    emit = EmitPass(source, tmp_path / "out")
    PassManager([OneMicrosecond(), ByPosition((3, 7)), emit])(source.ir)
    assert emit.manifest is not None
    assert [stage.index for stage in emit.manifest.stages] == [0, 1]


def test_foreign_sizes_are_used(tmp_path: Path) -> None:
    """``onnx_pipeline.bytes`` replaces the size by shape: a link that compresses moves less."""
    source = saved(tmp_path, builders.mlp())
    PassManager([ProfilePass(source, "analytic"), ByPosition()])(source.ir)
    before = read_stages(source, annotated_infos(source), Target(bandwidth=1e6))
    for value in metadata.values(source.ir).values():
        value.metadata_props["onnx_pipeline.bytes"] = "1000000"
    after = read_stages(source, annotated_infos(source), Target(bandwidth=1e6))
    assert before.graph.seconds(before.costs[0].input) == pytest.approx(64e-6)
    assert after.graph.seconds(after.costs[0].input) == 1


def test_steps_in_different_processes(tmp_path: Path) -> None:
    """Costs and stages are saved with the model: another process emits it."""
    source = saved(tmp_path, builders.with_subgraph())
    steps = [ProfilePass(source, "analytic"), PartitionPass(source, 2, TARGET, gap=0.9)]
    PassManager(steps)(source.ir)
    ir.save(source.ir, tmp_path / "annotated.onnx")
    code = (
        "import sys\n"
        "from onnx_pipeline.model.source import load\n"
        "from onnx_pipeline.passes import EmitPass\n"
        "source = load(sys.argv[1])\n"
        "EmitPass(source, sys.argv[2])(source.ir)\n"
    )
    arguments = [str(tmp_path / "annotated.onnx"), str(tmp_path / "out")]
    subprocess.run([sys.executable, "-c", code, *arguments], check=True)
    verify(tmp_path / "out", model=source.path.with_name("annotated.onnx"))


def test_model_that_never_was_a_file(tmp_path: Path) -> None:
    """Passes work on a model built in memory, and after another pass replaced the model object."""
    model = ir.from_proto(builders.mlp())
    steps = [functionalize(ProfilePass(cost_model="analytic")), PartitionPass(stages=2, gap=0.9)]
    result = PassManager([*steps, EmitPass(output=tmp_path / "out")])(model)
    assert "onnx_pipeline.costs" not in model.metadata_props
    assert result.model is not model
    x = np.linspace(-1, 1, 16, dtype=np.float32).reshape(1, 16)
    whole = onnxruntime.InferenceSession(
        builders.mlp().SerializeToString(), providers=["CPUExecutionProvider"]
    )
    with PipelineSession(tmp_path / "out") as pipeline:
        np.testing.assert_allclose(
            pipeline.run(None, {"x": x})[0], whole.run(None, {"x": x})[0], rtol=1e-5, atol=1e-6
        )


def test_external_weights(tmp_path: Path) -> None:
    """Weights in a file of their own stay reachable through the passes."""
    source = load(builders.with_external_data(tmp_path / "model"))
    emit = EmitPass(source, tmp_path / "out")
    steps = [ProfilePass(source, "analytic"), PartitionPass(source, 2, TARGET, gap=0.9), emit]
    PassManager(steps)(source.ir)
    verify(tmp_path / "out", model=source.path)


def test_profile_again_starts_afresh(tmp_path: Path) -> None:
    """New costs remove the stages of the old ones."""
    source = saved(tmp_path, builders.mlp())
    PassManager([ProfilePass(source, "analytic"), ByPosition()])(source.ir)
    ProfilePass(source, "analytic")(source.ir)
    assert not [n for n in source.ir.graph if "onnx_pipeline.stage" in n.metadata_props]


def test_clear(tmp_path: Path) -> None:
    """Clearing removes our keys everywhere and nobody else's."""
    source = saved(tmp_path, builders.mlp())
    source.ir.graph.node("fc0").metadata_props["mine"] = "kept"
    PassManager([ProfilePass(source, "analytic"), ByPosition()])(source.ir)
    assert metadata.clear(source.ir)
    assert not metadata.clear(source.ir)
    assert "onnx_pipeline." not in str(ir.to_proto(source.ir).graph)
    assert source.ir.graph.node("fc0").metadata_props == {"mine": "kept"}


def test_partition_demands_costs(tmp_path: Path) -> None:
    """Without costs the partitioner refuses, names the nodes and says what to run."""
    source = saved(tmp_path, builders.mlp())
    with pytest.raises(PreconditionError, match=r"fc0, relu0, fc1, relu1, fc2 and 3 more.*ProfilePass"):
        PartitionPass(source, 2)(source.ir)


def test_emit_demands_stages(tmp_path: Path) -> None:
    """Without stages nothing is written."""
    source = saved(tmp_path, builders.mlp())
    OneMicrosecond()(source.ir)
    with pytest.raises(PreconditionError, match="PartitionPass"):
        EmitPass(source, tmp_path / "out")(source.ir)
    assert not (tmp_path / "out").exists()


def test_backward_stages_are_refused(tmp_path: Path) -> None:
    """Foreign stages that flow backwards are no partition; the message names the tensor."""
    source = saved(tmp_path, builders.mlp())
    with pytest.raises(PassError) as caught:
        PassManager([OneMicrosecond(), ByPosition((1, 0)), EmitPass(source, tmp_path / "out")])(source.ir)
    cause: BaseException | None = caught.value
    while cause is not None and not isinstance(cause, PreconditionError):
        cause = cause.__cause__
    assert "'relu1_out' flows back from node 'relu1' in stage 1 to node" in str(cause)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("work", ["-5", "nan", "inf", "", "many"])
def test_malformed_work(tmp_path: Path, work: str) -> None:
    """Work must be a number; the message names the node and the text."""
    source = saved(tmp_path, builders.mlp())
    OneMicrosecond()(source.ir)
    source.ir.graph.node("fc1").metadata_props["onnx_pipeline.work_ns"] = work
    with pytest.raises(PreconditionError, match=rf"'fc1' must be a finite number >= 0, got '{work}'"):
        PartitionPass(source, 2)(source.ir)


def test_malformed_record(tmp_path: Path) -> None:
    """A damaged JSON annotation is named."""
    source = saved(tmp_path, builders.mlp())
    OneMicrosecond()(source.ir)
    source.ir.metadata_props["onnx_pipeline.costs"] = "{"
    with pytest.raises(PreconditionError, match=r"onnx_pipeline\.costs is not valid JSON"):
        PartitionPass(source, 2)(source.ir)


def test_names_are_demanded() -> None:
    """Costs are kept by node name, so unnamed nodes are refused with the remedy."""
    model = ir.from_proto(builders.mlp())
    model.graph[1].name = None
    with pytest.raises(PreconditionError, match="NameFixPass"):
        ProfilePass(cost_model="analytic")(model)


def test_cost_model_that_forgets_a_node(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A cost model that leaves nodes out breaks the pass's promise."""

    def forgetful(request: CostRequest) -> NodeCosts:
        return NodeCosts("forgetful", {str(node.name): 1 for node in request.nodes[1:]})

    monkeypatch.setattr(costmodel, "cost_model", lambda name: forgetful)
    source = saved(tmp_path, builders.mlp())
    with pytest.raises(PostconditionError, match="fc0"):
        ProfilePass(source)(source.ir)


def test_registry() -> None:
    """Kebab-case names give the classes, an unknown one lists the known."""
    assert pass_names()[:3] == ["profile", "partition", "emit"]
    assert [load_pass(name) for name in ("profile", "partition", "emit")] == [
        ProfilePass,
        PartitionPass,
        EmitPass,
    ]
    with pytest.raises(UsageError, match="unknown pass 'fuse': known are profile, partition, emit"):
        load_pass("fuse")


def test_the_default_devices_are_those_of_split(tmp_path: Path) -> None:
    """Without any option the passes certify what the facade certifies."""
    source = saved(tmp_path, builders.transformer_encoder(2))
    emit = EmitPass(source, tmp_path / "passes")
    PassManager([ProfilePass(source, "analytic"), PartitionPass(source, 3), emit])(source.ir)
    facade = split(source.path, stages=3, output=tmp_path / "facade", cost_model="analytic")
    assert emit.manifest is not None
    assert emit.manifest.target == facade.target
    for key in ("bottleneck_seconds", "lower_bound_seconds", "status"):
        assert emit.manifest.certificate[key] == facade.certificate[key], key


def test_an_interrupt_ends_the_pipeline_of_passes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C in the search is not a partition: nothing is annotated, nothing is emitted."""
    source = saved(tmp_path, builders.mlp())
    real = portfolio.solve

    def interrupted(*args: Any) -> PartitionResult:
        found = real(*args)
        return replace(found, search=replace(found.search, interrupted=True))

    monkeypatch.setattr(portfolio, "solve", interrupted)
    steps = [ProfilePass(source, "analytic"), PartitionPass(source, 2), EmitPass(source, tmp_path / "out")]
    with pytest.raises(KeyboardInterrupt):
        PassManager(steps)(source.ir)
    assert not (tmp_path / "out").exists()
    assert not [n for n in source.ir.graph if metadata.STAGE in n.metadata_props]
