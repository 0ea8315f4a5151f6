"""Stage files: valid alone, equal together, complete or absent."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
import pytest

import onnx_pipeline as op
from models import builders, structures
from onnx_pipeline.cli.entry import explain
from onnx_pipeline.emission import emit as emission
from onnx_pipeline.emission import stagefile
from onnx_pipeline.errors import PipelineError, UsageError
from onnx_pipeline.model import inputs, lowering, shapes
from onnx_pipeline.model import source as models
from onnx_pipeline.model.roles import executable_nodes
from onnx_pipeline.runtime import PipelineSession
from onnx_pipeline.verification.checks import verify
from tests.splitting import even_cut, flat_costs, save, split

#: What only these tests need; the rest comes from the models that everything is tried on.
OWN = {
    "loop": """m (float[2] x) => (float[2] y) {
        n = Constant <value = int64 {3}> ()
        t = Constant <value = bool {1}> ()
        a = Relu(x)
        b = Loop (n, t, a) <body = g (int64 i, bool go, float[2] s) => (bool on, float[2] out) {
            on = Identity(go)
            out = Add(s, a)
        }>
        y = Add(b, x)
    }""",
    "unsorted-unnamed": """m (float[4] x) => (float[4] y) {
        y = Add(b, x)
        b = Relu(a)
        a = Neg(x)
    }""",
    "shared-parameters": """m (float[N, 4] x) => (float[N, 4] y)
        <float[16] w = {1,2,3,4,5,6,7,8,9,1,2,3,4,5,6,7}> {
        shape = Constant <value = int64[2] {4, 4}> ()
        m = Reshape(w, shape)
        i = Identity(m)
        a = MatMul(x, m)
        b = Relu(a)
        c = MatMul(b, i)
        d = Relu(c)
        y = MatMul(d, m)
    }""",
    "skipping": """m (float[4] x) => (float[4] y) {
        a = Relu(x)
        b = Neg(a)
        c = Abs(b)
        d = Add(c, x)
        y = Add(d, a)
    }""",
}
SHARED = (
    *("nested_if", "passed_through", "empty_inputs", "unused", "sequence", "sequence_output"),
    *("data_dependent", "strings", "bfloat16", "default_input", "functions"),
)
TRICKY = OWN | {name: structures.TEXTS[name] for name in SHARED} | structures.RANDOM_TEXTS


def check_alone(folder: Path, files: list[str]) -> None:
    """Every file must satisfy the checker and load in onnxruntime by itself."""
    for name in files:
        onnx.checker.check_model(str(folder / name), full_check=True)
        onnxruntime.InferenceSession(str(folder / name), providers=["CPUExecutionProvider"])


@pytest.mark.parametrize("name", TRICKY)
def test_tricky_structures_split_at_every_k(name: str, tmp_path: Path) -> None:
    """Whatever the structure: stages valid alone, and equal to the whole when chained."""
    path = save(tmp_path, TRICKY[name])
    source = models.load(path)
    count = len(executable_nodes(source))
    for k in range(1, count + 1):
        output = tmp_path / f"k{k}"
        manifest = split(path, output, k)
        check_alone(output, [stage.file for stage in manifest.stages])
        report = verify(output, model=path)
        assert all(check.equal for check in report.outputs)


def test_old_ir_with_initializers_among_the_inputs(tmp_path: Path) -> None:
    """IR 3 wants initializers listed as inputs; the stages keep the version and the rule."""
    text = """m (float[4] x, float[4] w, float[4] v) => (float[4] y)
        <float[4] w = {1,2,3,4}, float[4] v = {1,2,3,4}> {
        a = Add(x, w)
        b = Relu(a)
        y = Mul(b, v)
    }"""
    path = save(tmp_path, text, ir_version=3)
    manifest = split(path, tmp_path / "out", 3)
    assert [port.name for port in manifest.model.inputs] == ["x"]
    stage = onnx.load(tmp_path / "out" / "stage_2.onnx")
    assert stage.ir_version == 3
    assert {v.name for v in stage.graph.input} == {"b", "v"}
    check_alone(tmp_path / "out", [s.file for s in manifest.stages])
    assert verify(tmp_path / "out", model=path).outputs[0].equal


def test_stages_accept_other_sizes_of_symbolic_dimensions(tmp_path: Path) -> None:
    """A model with a symbolic batch, split at batch 1, runs at batch 5."""
    onnx.save(builders.transformer_encoder(batch="batch", seq=8), tmp_path / "m.onnx")
    split(tmp_path / "m.onnx", tmp_path / "out", 4)
    name = models.load(tmp_path / "m.onnx").inputs[0].shape[0]
    assert verify(tmp_path / "out", model=tmp_path / "m.onnx", dims={str(name): 5}).ok


def test_a_skipping_tensor_names_its_real_ends(tmp_path: Path) -> None:
    """The manifest says which stage made a tensor and which ones read it, however far apart."""
    manifest = split(save(tmp_path, TRICKY["skipping"]), tmp_path / "out", 5)
    (a,) = manifest.stages[0].outputs
    assert (a.name, a.targets, a.bytes) == ("a", (1, 4), 16)
    assert [(p.name, p.source) for p in manifest.stages[4].inputs] == [("a", 0), ("d", 3)]
    assert [(p.name, p.source) for p in manifest.stages[3].inputs] == [("x", "model"), ("c", 2)]
    assert manifest.stages[4].outputs[0].targets == ("model",)


def test_a_sequence_never_crosses_a_border(tmp_path: Path) -> None:
    """Producer and consumer of a sequence end up in one stage."""
    manifest = split(save(tmp_path, TRICKY["sequence"]), tmp_path / "out", 6)
    assert len(manifest.stages) == 5
    names = [port.name for stage in manifest.stages for port in stage.outputs]
    assert "s" not in names


def test_only_used_functions_are_kept(tmp_path: Path) -> None:
    """A stage has the functions that it calls, those called inside functions included."""
    split(save(tmp_path, TRICKY["functions"]), tmp_path / "out", 3)
    kept = [{f.name for f in onnx.load(tmp_path / "out" / f"stage_{i}.onnx").functions} for i in range(3)]
    assert kept == [{"twice"}, set(), {"twice", "outer"}]


def test_versions_metadata_and_names_are_kept(tmp_path: Path) -> None:
    """IR version, operator sets, metadata, documentation and names survive."""
    proto = onnx.load(save(tmp_path, TRICKY["skipping"]))
    proto.metadata_props.add(key="author", value="me")
    proto.graph.metadata_props.add(key="part", value="graph")
    proto.graph.node[1].metadata_props.add(key="layer", value="1")
    proto.graph.node[1].name = "named"
    proto.graph.input[0].doc_string = "an input"
    proto.producer_name, proto.doc_string = "exporter", "text"
    onnx.save(proto, tmp_path / "m.onnx")
    split(tmp_path / "m.onnx", tmp_path / "out", 2)
    first = onnx.load(tmp_path / "out" / "stage_0.onnx")
    assert first.ir_version == proto.ir_version
    assert list(first.opset_import) == list(proto.opset_import)
    assert [(p.key, p.value) for p in first.metadata_props] == [("author", "me")]
    assert [(p.key, p.value) for p in first.graph.metadata_props] == [("part", "graph")]
    assert (first.producer_name, first.doc_string) == ("exporter", "text")
    assert first.graph.node[1].name == "named"
    assert first.graph.node[1].metadata_props[0].value == "1"
    assert first.graph.input[0].doc_string == "an input"


def test_large_weights_go_to_data_files_and_stay_equal(tmp_path: Path) -> None:
    """More than 1 MiB per stage lies outside, less stays inside; hashes and sizes are recorded."""
    onnx.save(builders.mlp(layers=4, width=400), tmp_path / "m.onnx")
    manifest = split(tmp_path / "m.onnx", tmp_path / "out", 2, annotate=True)
    for stage in manifest.stages:
        assert stage.data is not None
        assert (tmp_path / "out" / stage.data.file).stat().st_size == stage.data.bytes
        assert stage.data.bytes >= stage.parameter_bytes > 1 << 20
    assert (tmp_path / "out" / "stage_0.onnx").stat().st_size < 100_000
    check_alone(tmp_path / "out", [s.file for s in manifest.stages])
    assert verify(tmp_path / "out", model=tmp_path / "m.onnx").ok
    small = split(tmp_path / "m.onnx", tmp_path / "small", 8)
    assert all(stage.data is None for stage in small.stages)


def test_external_weights_are_copied(tmp_path: Path) -> None:
    """A model with external data in its folder splits into stages that need nothing of it."""
    (tmp_path / "source").mkdir()
    path = builders.with_external_data(tmp_path / "source", layers=4, width=400)
    manifest = split(path, tmp_path / "out", 2, annotate=True)
    report = verify(tmp_path / "out", model=path)
    assert report.ok
    for file in (tmp_path / "source").iterdir():
        file.rename(file.with_suffix(".gone"))
    check_alone(tmp_path / "out", [s.file for s in manifest.stages])


@pytest.mark.parametrize("width", [16, 400])
def test_annotated_model_carries_the_standard_pipeline_stage(width: int, tmp_path: Path) -> None:
    """``annotated.onnx`` is the whole model, IR 11, every node with its stage, and it runs."""
    path = tmp_path / "m.onnx"
    onnx.save(builders.mlp(layers=4, width=width), path)
    manifest = split(path, tmp_path / "out", 4, annotate=True)
    annotated = tmp_path / "out" / "annotated.onnx"
    onnx.checker.check_model(str(annotated), full_check=True)
    model = ir.load(annotated)
    assert model.ir_version >= 11
    assert model.device_configurations[0].num_devices == 4
    stage_of = {node.name: node.device_configurations[0].pipeline_stage for node in model.graph}
    assert stage_of == {name: stage.index for stage in manifest.stages for name in stage.node_names}
    arrays = inputs.make_feeds(models.load(path))
    both = [
        onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"]).run(None, arrays)[0]
        for file in (path, annotated)
    ]
    np.testing.assert_array_equal(*both)


def test_empty_stages_are_not_written(tmp_path: Path) -> None:
    """More stages than nodes: as many files as there are nodes."""
    manifest = split(save(tmp_path, TRICKY["skipping"]), tmp_path / "out", 9)
    assert len(manifest.stages) == 5
    assert manifest.target["stages"] == 9


def test_existing_output_needs_force(tmp_path: Path) -> None:
    """Without force nothing happens to an existing directory, with force it is replaced."""
    path = save(tmp_path, TRICKY["skipping"])
    split(path, tmp_path / "out", 2)
    before = sorted(os.listdir(tmp_path / "out"))
    with pytest.raises(UsageError, match="already exists"):
        split(path, tmp_path / "out", 3)
    assert sorted(os.listdir(tmp_path / "out")) == before
    split(path, tmp_path / "out", 3, force=True)
    assert verify(tmp_path / "out", model=path).stages == 3
    assert sorted(os.listdir(tmp_path)) == ["model.onnx", "out"]


def test_force_replaces_only_our_own_directories(tmp_path: Path) -> None:
    """A directory with other things in it is never deleted."""
    path = save(tmp_path, TRICKY["skipping"])
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "thesis.tex").touch()
    with pytest.raises(UsageError, match="not an output"):
        split(path, tmp_path / "home", 2, force=True)
    assert (tmp_path / "home" / "thesis.tex").exists()


@pytest.mark.parametrize(
    ("name", "text"),
    [("notes.txt", "mine"), ("manifest.json", '{"name": "a web page"}'), ("manifest.json", "[")],
)
def test_force_deletes_no_file_of_others(name: str, text: str, tmp_path: Path) -> None:
    """A file that the manifest does not list, and a folder with another kind of manifest, both stay."""
    path = save(tmp_path, TRICKY["skipping"])
    split(path, tmp_path / "out", 2)
    (tmp_path / "out" / name).write_text(text)
    before = sorted(os.listdir(tmp_path / "out"))
    with pytest.raises(UsageError, match=r"not part of the output|not an output"):
        split(path, tmp_path / "out", 3, force=True)
    assert sorted(os.listdir(tmp_path / "out")) == before
    assert (tmp_path / "out" / name).read_text() == text


def test_force_never_deletes_the_model_itself(tmp_path: Path) -> None:
    """A stage of an output, split again into that output."""
    split(save(tmp_path, TRICKY["skipping"]), tmp_path / "out", 2)
    stage = tmp_path / "out" / "stage_0.onnx"
    with pytest.raises(UsageError, match=r"stage_0.onnx', which is still needed"):
        split(stage, tmp_path / "out", 2, force=True)
    with pytest.raises(UsageError, match=r"stage_0.onnx', which is still needed"):
        op.split(stage, stages=2, output=tmp_path / "out", force=True, cost_model="analytic")
    assert stage.is_file()


def test_what_appears_in_the_output_meanwhile_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The check is made again before the old output goes."""
    path = save(tmp_path, TRICKY["skipping"])
    split(path, tmp_path / "out", 2)
    real = stagefile.save

    def save_and_note(proto: onnx.ModelProto, file: Path) -> str:
        (tmp_path / "out" / "notes.txt").touch()
        return real(proto, file)

    monkeypatch.setattr(stagefile, "save", save_and_note)
    with pytest.raises(UsageError, match="notes"):
        split(path, tmp_path / "out", 3, force=True)
    assert (tmp_path / "out" / "notes.txt").exists()


@pytest.mark.parametrize("force", [False, True])
@pytest.mark.parametrize("failure", [KeyboardInterrupt, OSError(28, "No space left on device")])
def test_a_failure_leaves_nothing_and_harms_nothing(
    failure: BaseException, force: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ctrl-C or a full disk in the middle: no new files, and the old output still verifies."""
    path = save(tmp_path, TRICKY["skipping"])
    output = tmp_path / "deep" / "out"
    if force:
        split(path, output, 2)
    real = stagefile.save

    def fail_at_second(proto: onnx.ModelProto, file: Path) -> str:
        if file.name == "stage_1.onnx":
            raise failure
        return real(proto, file)

    monkeypatch.setattr(stagefile, "save", fail_at_second)
    with pytest.raises(KeyboardInterrupt if failure is KeyboardInterrupt else PipelineError) as caught:
        split(path, output, 3, force=force)
    if caught.type is not KeyboardInterrupt:
        assert explain(caught.value) == (
            f"{output}: cannot be written: no space left on device; free some space or write elsewhere",
            1,
        )
    if force:
        assert verify(output, model=path).stages == 2
        assert os.listdir(tmp_path / "deep") == ["out"]
    else:
        assert sorted(os.listdir(tmp_path)) == ["model.onnx"]


def test_same_partition_same_bytes(tmp_path: Path) -> None:
    """Emitting twice gives identical stage files."""
    path = save(tmp_path, TRICKY["nested_if"])
    first, second = split(path, tmp_path / "a", 3), split(path, tmp_path / "b", 3)
    assert [s.sha256 for s in first.stages] == [s.sha256 for s in second.stages]


@pytest.mark.parametrize("k", [2, 4, 8])
def test_light_models(light_dir: Path, tmp_path: Path, k: int) -> None:
    """Three of the onnx package's light models, old IR, initializers as inputs."""
    for name in ("light_squeezenet", "light_shufflenet", "light_bvlc_alexnet"):
        path = light_dir / f"{name}.onnx"
        split(path, tmp_path / name, k)
        assert verify(tmp_path / name, model=path).ok


@pytest.mark.parametrize("name", ["llama_small_past_dyn", "mobilenetv3_qdq", "unet_plain"])
def test_real_exports(zoo_dir: Path, tmp_path: Path, name: str) -> None:
    """Real topologies: symbolic dimensions that must agree, quantised, skip connections."""
    dims = {"s10": 1, "s86": 1, "s21": 1, "s16": 16, "s12": 17} if "llama" in name else None
    path = zoo_dir / f"{name}.onnx"
    manifest = split(path, tmp_path / "out", 4, dims=dims)
    check_alone(tmp_path / "out", [s.file for s in manifest.stages])
    assert verify(tmp_path / "out", model=path).ok


def test_the_cost_graph_decides_what_a_stage_holds(tmp_path: Path) -> None:
    """A parameter chain used in two stages is copied into both; the copies are no cost graph nodes."""
    path = save(tmp_path, TRICKY["shared-parameters"])
    source = models.load(path)
    infos = shapes.value_infos(source)
    result = even_cut(lowering.lower(source, infos, flat_costs(source)), 5)
    manifest = emission.emit(source, infos, result, {}, tmp_path / "out")
    assert [stage.nodes for stage in manifest.stages] == [3, 1, 4, 1, 3]
    assert [len(stage.node_names) for stage in manifest.stages] == [1, 1, 1, 1, 1]
    with PipelineSession(tmp_path / "out") as session:
        assert session.run(None, {"x": np.ones((2, 4), np.float32)})[0].shape == (2, 4)


def test_an_annotated_model_of_ir_3_computes_the_same_bits(tmp_path: Path) -> None:
    """Its initializers stay constants, which the runtime folds, when the version is raised."""
    path = tmp_path / "m.onnx"
    onnx.save(structures.old(9), path)
    split(path, tmp_path / "out", 2, annotate=True)
    model = onnx.load(tmp_path / "out" / "annotated.onnx")
    assert [v.name for v in model.graph.input] == ["x"]
    arrays = inputs.make_feeds(models.load(path))
    both = [
        onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"]).run(None, arrays)[0]
        for file in (path, tmp_path / "out" / "annotated.onnx")
    ]
    np.testing.assert_array_equal(*both)


def test_annotated_nodes_carry_stage_and_work_as_metadata(tmp_path: Path) -> None:
    """Viewers show it; it replaces that of an earlier split. Stages have none: costs never change them."""
    text = "m (float[4] x) => (float[4] y) { a = Relu(x)  b = Neg(a)  y = Abs(b) }"
    manifest = split(save(tmp_path, text), tmp_path / "out", 3, annotate=True)
    homes = {name: stage.index for stage in manifest.stages for name in stage.node_names}
    annotated = tmp_path / "out" / "annotated.onnx"
    for node in onnx.load(annotated).graph.node:
        facts = {entry.key: entry.value for entry in node.metadata_props}
        assert facts == {"onnx_pipeline.stage": str(homes[node.name]), "onnx_pipeline.work_ns": "1000.0"}
    assert not [
        node for node in onnx.load(tmp_path / "out" / "stage_1.onnx").graph.node if node.metadata_props
    ]
    split(annotated, tmp_path / "again", 1, annotate=True)
    for node in onnx.load(tmp_path / "again" / "annotated.onnx").graph.node:
        assert sorted((e.key, e.value) for e in node.metadata_props) == [
            ("onnx_pipeline.stage", "0"),
            ("onnx_pipeline.work_ns", "1000.0"),
        ]
