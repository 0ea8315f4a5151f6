"""Verification finds what is broken, and says so about nothing else."""

from __future__ import annotations

import copy
import io
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

import onnx_pipeline as op
from models import builders
from onnx_pipeline import manifest
from onnx_pipeline.cli.tables import show, show_verification
from onnx_pipeline.emission.emit import emit
from onnx_pipeline.errors import InputError, VerificationError
from onnx_pipeline.graph.constraints import Demands
from onnx_pipeline.graph.costs_json import read_graph, write_graph
from onnx_pipeline.model import shapes
from onnx_pipeline.model import source as models
from onnx_pipeline.planfile import plan_document, read_plan
from onnx_pipeline.verification.binding import check_model
from onnx_pipeline.verification.checks import inspect, verify
from onnx_pipeline.verification.compare import compare_output
from tests.splitting import cost_graph, even_cut, save, split

TEXT = """m (float[N, 4] x) => (float[N, 4] y) <float[4] w = {1,2,3,4}> {
    a = Relu(x)
    b = Neg(a)
    c = Add(b, w)
    y = Mul(c, a)
}"""


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A model split into three stages beside it, in ``out``."""
    path = save(tmp_path, TEXT)
    split(path, tmp_path / "out", 3)
    return path


def edit(directory: Path, change: Callable[[dict[str, Any]], None]) -> None:
    """Change the manifest."""
    file = directory / "manifest.json"
    document = json.loads(file.read_text())
    change(document)
    file.write_text(json.dumps(document))


def test_a_sound_directory_passes(model: Path, tmp_path: Path) -> None:
    """All checks are listed; the outputs are equal bit for bit."""
    report = verify(tmp_path / "out", model=model, dims={"N": 3}, seed=5)
    assert report.ok
    assert report.checks == (
        "files and hashes",
        "wiring",
        "stage models",
        "certificate",
        "model",
        "outputs",
    )
    assert [(o.name, o.equal, o.max_abs) for o in report.outputs] == [("y", True, 0.0)]
    json.dumps(report.to_json(), allow_nan=False)
    np.savez(tmp_path / "x.npz", x=np.ones((2, 4), np.float32))
    assert verify(tmp_path / "out", model=model, inputs=tmp_path / "x.npz").ok
    assert verify(tmp_path / "out").outputs == ()


def test_changed_and_missing_files(model: Path, tmp_path: Path) -> None:
    """A flipped byte and a missing file are both reported."""
    data = bytearray((tmp_path / "out" / "stage_0.onnx").read_bytes())
    data[-1] ^= 1
    (tmp_path / "out" / "stage_0.onnx").write_bytes(data)
    (tmp_path / "out" / "stage_2.onnx").unlink()
    with pytest.raises(VerificationError, match=r"stage_0\.onnx is not the file.*stage_2\.onnx is missing"):
        verify(tmp_path / "out", model=model)


def test_changed_weights(tmp_path: Path) -> None:
    """Data files are hashed, too."""
    onnx.save(builders.mlp(layers=2, width=600), tmp_path / "m.onnx")
    split(tmp_path / "m.onnx", tmp_path / "out", 2)
    with (tmp_path / "out" / "stage_1.onnx.data").open("r+b") as file:
        file.seek(1000)
        file.write(b"\xff")
    with pytest.raises(VerificationError, match=r"stage_1\.onnx\.data"):
        verify(tmp_path / "out")


def _loop(document: dict[str, Any]) -> None:
    document["stages"][0]["inputs"][0]["source"] = 2


def _dtype(document: dict[str, Any]) -> None:
    document["stages"][1]["inputs"][0]["dtype"] = "int64"


def _target(document: dict[str, Any]) -> None:
    document["stages"][0]["outputs"][0]["targets"] = ["model"]


def _order(document: dict[str, Any]) -> None:
    document["stages"].reverse()


def _bottleneck(document: dict[str, Any]) -> None:
    document["certificate"]["bottleneck_seconds"] /= 2


def _bound(document: dict[str, Any]) -> None:
    document["certificate"]["bounds"][0]["seconds"] *= 100


def _lower(document: dict[str, Any]) -> None:
    document["certificate"]["lower_bound_seconds"] *= 1.5


def _status(document: dict[str, Any]) -> None:
    document["certificate"]["status"] = "optimal"


def _cost(document: dict[str, Any]) -> None:
    document["stages"][1]["cost"]["input_seconds"] += 1e-6


def _names(document: dict[str, Any]) -> None:
    document["stages"][1]["node_names"] = []


def _output(document: dict[str, Any]) -> None:
    document["model"]["outputs"].append({"name": "q", "dtype": "float32", "shape": None})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (_loop, "source 2 is not an earlier stage"),
        (_dtype, "int64 expected, float32 produced"),
        (_target, "does not read it"),
        (_order, "not numbered"),
        (_bottleneck, "certificate"),
        (_bound, "above the partition"),
        (_lower, "lower_bound_seconds should be"),
        (_status, "status should be 'feasible'"),
        (_cost, "cost of stage 1"),
        (_names, "in no stage"),
        (_output, "no stage produces the model output 'q'"),
    ],
)
def test_a_wrong_manifest(
    change: Callable[[dict[str, Any]], None], message: str, model: Path, tmp_path: Path
) -> None:
    """Wiring and certificate are recomputed, not believed."""
    edit(tmp_path / "out", change)
    with pytest.raises(VerificationError, match=message):
        verify(tmp_path / "out")


def test_costs_are_needed_for_the_certificate(model: Path, tmp_path: Path) -> None:
    """Without ``costs.json`` nothing can be recomputed."""
    (tmp_path / "out" / "costs.json").unlink()
    assert any("costs.json" in problem for problem in inspect(tmp_path / "out").problems)


def test_another_model(model: Path, tmp_path: Path) -> None:
    """Comparing with a model that was not split is refused."""
    other = save(tmp_path, TEXT.replace("Neg", "Abs"), name="other.onnx")
    with pytest.raises(VerificationError, match="not the model that was split"):
        verify(tmp_path / "out", model=other)
    with pytest.raises(InputError):
        verify(tmp_path / "out", model=tmp_path / "none.onnx")


def test_wrong_stages_are_found_by_their_outputs(model: Path, tmp_path: Path) -> None:
    """A stage that computes something else, with a matching hash, fails the comparison."""
    import hashlib

    path = tmp_path / "out" / "stage_1.onnx"
    stage = onnx.load(path)
    next(n for n in stage.graph.node if n.op_type in ("Neg", "Add")).op_type = (
        "Sub" if stage.graph.initializer else "Abs"
    )
    onnx.save(stage, path)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    edit(tmp_path / "out", lambda document: document["stages"][1].update(sha256=digest))
    with pytest.raises(VerificationError, match="output 'y' differs"):
        verify(tmp_path / "out", model=model)


def test_random_models_are_compared_by_form(tmp_path: Path) -> None:
    """Random numbers differ from run to run: types and shapes are compared, and this is said."""
    text = """m (float[4] x) => (float[4] y) { r = RandomNormal <shape = [4]> ()  y = Add(x, r) }"""
    path = save(tmp_path, text)
    split(path, tmp_path / "out", 2)
    report = verify(tmp_path / "out", model=path)
    assert report.outputs == ()
    assert "random" in report.notes[0]


@pytest.mark.parametrize(
    ("actual", "expected", "equal", "ok"),
    [
        ([1.0, np.nan, np.inf], [1.0, np.nan, np.inf], True, True),
        ([1.0, 2.0], [1.0, 2.0001], False, True),
        ([1.0, 2.0], [1.0, 2.1], False, False),
        ([1.0, np.nan], [1.0, 2.0], False, False),
        ([1.0, 2.0], [1.0, np.inf], False, False),
        ([1, 2], [1, 3], False, False),
        (["a"], ["b"], False, False),
        ([1.0], [1.0, 2.0], False, False),
        ([0.0], [1e-9], False, False),
    ],
)
def test_comparison(actual: list[Any], expected: list[Any], equal: bool, ok: bool) -> None:
    """NaN equals NaN; tolerance is relative to the largest value; integers and text have none."""
    check = compare_output("y", np.array(actual), np.array(expected), 1e-4)
    assert (check.equal, check.ok) == (equal, ok)


def test_comparison_of_sequences() -> None:
    """Element by element, lengths included."""
    a, b = np.ones(2), np.zeros(2)
    assert compare_output("s", [a, b], [a, b], 0.0).equal
    assert not compare_output("s", [a], [a, b], 0.0).ok
    assert not compare_output("s", [b, b], [a, b], 0.0).ok


def test_verify_proves_the_bound_again(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """``recheck`` reaches the proof, and its verdict counts."""
    asked: list[float] = []

    def fail(partition: object, proofs: object, seconds: float) -> list[str]:
        asked.append(seconds)
        return ["not proved again"]

    monkeypatch.setattr("onnx_pipeline.partition.certificate.recheck", fail)
    assert verify(tmp_path / "out").ok
    assert asked == []
    with pytest.raises(VerificationError, match="not proved again"):
        verify(tmp_path / "out", recheck=7)
    assert asked == [7]


def _gap(document: dict[str, Any]) -> None:
    document["certificate"]["gap"] += 0.1


def _ratio(document: dict[str, Any]) -> None:
    document["certificate"]["ratio"] *= 0.9


def _one_device(document: dict[str, Any]) -> None:
    document["certificate"]["one_device_seconds"] *= 100


def _latency(document: dict[str, Any]) -> None:
    document["certificate"]["latency_seconds"] /= 2


def _peak(document: dict[str, Any]) -> None:
    document["stages"][0]["peak_activation_bytes"] += 4


def _count(document: dict[str, Any]) -> None:
    document["stages"][0]["nodes"] += 1


def _method(document: dict[str, Any]) -> None:
    document["certificate"]["bounds"][0]["method"] = "magic"


def _foreign(document: dict[str, Any]) -> None:
    document["stages"][0]["node_names"].append("nobody")


def _kind(document: dict[str, Any]) -> None:
    document["cost_model"]["kind"] = "profile"


def _resize(document: dict[str, Any]) -> None:
    for port in (document["stages"][0]["outputs"][1], document["stages"][1]["inputs"][0]):
        port["bytes"] += 4


def _twice(document: dict[str, Any]) -> None:
    document["stages"][1]["node_names"].append(document["stages"][0]["node_names"][0])


def _held(document: dict[str, Any]) -> None:
    document["stages"][1]["parameter_bytes"] //= 2


def _costs_of(document: dict[str, Any]) -> None:
    document["certificate"]["costs"] = "profile"


def _rate(document: dict[str, Any]) -> None:
    document["certificate"]["replicas"]["rate_per_second"] *= 2


def _fits(document: dict[str, Any]) -> None:
    document["certificate"]["replicas"]["fits"] = False


def _swap(document: dict[str, Any]) -> None:
    first, last = document["stages"][0], document["stages"][2]
    first["node_names"], last["node_names"] = last["node_names"], first["node_names"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (_gap, "gap should be"),
        (_ratio, "ratio should be"),
        (_one_device, "one_device_seconds should be"),
        (_latency, "latency_seconds should be"),
        (_peak, "peak of live activations of stage 0"),
        (_count, "nodes, not"),
        (_method, "there is no bound 'magic'"),
        (_foreign, "'nobody' of a stage is not in the costs"),
        (_kind, "the costs are of kind 'flat', not 'profile'"),
        (_resize, "'b' has 20 bytes, 16 in the costs"),
        (_twice, "is listed twice"),
        (_held, "the parameter bytes of stage 1"),
        (_costs_of, "costs should be 'flat'"),
        (_rate, "replicas should be"),
        (_fits, "replicas should be"),
        (_swap, "lacks 1 node of its stage"),
    ],
)
def test_every_figure_is_recomputed(
    change: Callable[[dict[str, Any]], None], message: str, model: Path, tmp_path: Path
) -> None:
    """Whatever the certificate says about the partition follows from costs and files."""
    edit(tmp_path / "out", change)
    with pytest.raises(VerificationError, match=message):
        verify(tmp_path / "out")


def test_stage_files_that_are_another_partition(model: Path, tmp_path: Path) -> None:
    """Files of one split under the manifest of another, with matching hashes, wiring and outputs."""
    import hashlib

    source = models.load(model)
    infos = shapes.value_infos(source, None)
    graph = cost_graph(source)
    cut = even_cut(graph, 2)
    moved = replace(cut, partition=replace(cut.partition, stage_of=np.array([0, 1, 1, 1])))
    for name, result in (("one", cut), ("other", moved)):
        emit(source, infos, result, {"dims": {"N": 1}}, tmp_path / name)
    document = json.loads((tmp_path / "other" / "manifest.json").read_text())
    truth = json.loads((tmp_path / "one" / "manifest.json").read_text())
    for stage, own in zip(document["stages"], truth["stages"], strict=True):
        for key in ("node_names", "cost", "peak_activation_bytes", "parameter_bytes"):
            stage[key] = own[key]
        data = (tmp_path / "other" / stage["file"]).read_bytes()
        assert stage["sha256"] == hashlib.sha256(data).hexdigest()
    document["certificate"] = truth["certificate"]
    (tmp_path / "other" / "manifest.json").write_text(json.dumps(document))
    with pytest.raises(VerificationError, match="lacks 1 node of its stage"):
        verify(tmp_path / "other", model=model)


def test_a_node_that_no_stage_lists(model: Path, tmp_path: Path) -> None:
    """Work that a stage does besides what it is said to do, with matching hash and count."""
    import hashlib

    path = tmp_path / "out" / "stage_1.onnx"
    stage = onnx.load(path)
    stage.graph.node.append(onnx.helper.make_node("Abs", [stage.graph.input[0].name], ["more"], name="more"))
    onnx.save(stage, path)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    edit(tmp_path / "out", lambda document: document["stages"][1].update(sha256=digest, nodes=2))
    with pytest.raises(VerificationError, match="has 1 node that its stage does not list, 'more' for one"):
        verify(tmp_path / "out")


def _drop_node(costs: dict[str, Any]) -> None:
    name = costs["nodes"].pop()["name"]
    costs["tensors"] = [tensor for tensor in costs["tensors"] if tensor["producer"] != name]
    for tensor in costs["tensors"]:
        tensor["consumers"] = [reader for reader in tensor["consumers"] if reader != name]


def _rename_node(costs: dict[str, Any]) -> None:
    costs["nodes"][-1]["name"] = costs["tensors"][-1]["producer"] = "Mul"
    for tensor in costs["tensors"]:
        tensor["consumers"] = ["Mul" if reader == "Mul_3" else reader for reader in tensor["consumers"]]


def _drop_tensor(costs: dict[str, Any]) -> None:
    costs["tensors"].pop()


def _drop_edge(costs: dict[str, Any]) -> None:
    costs["tensors"][1]["consumers"].pop()


def _to_host(costs: dict[str, Any]) -> None:
    costs["tensors"][1]["to_host"] = True


def _free(costs: dict[str, Any]) -> None:
    for tensor in costs["tensors"]:
        tensor["time_ns"] = 0


def _bytes(costs: dict[str, Any]) -> None:
    costs["tensors"][-1]["bytes"] //= 2


def _pin(costs: dict[str, Any]) -> None:
    costs["nodes"][0]["stage"] = 0


def _group(costs: dict[str, Any]) -> None:
    costs["nodes"][0]["colocation"] = costs["nodes"][1]["colocation"] = 7


def _weight(costs: dict[str, Any]) -> None:
    costs["parameters"][0]["name"] = "v"


def _user(costs: dict[str, Any]) -> None:
    costs["parameters"][0]["nodes"] = ["Neg_1"]


def _weight_bytes(costs: dict[str, Any]) -> None:
    costs["parameters"][0]["bytes"] //= 2


@pytest.mark.parametrize(
    ("change", "what"),
    [
        (_drop_node, "the nodes are not those of the model"),
        (_rename_node, "the nodes are not those of the model"),
        (_drop_tensor, "the tensors are not those of the model"),
        (_drop_edge, "the tensors are not those of the model"),
        (_to_host, "the tensors are not those of the model"),
        (_free, "a model has no transfer times of its own"),
        (_bytes, "the bytes of the tensors are not those of the model"),
        (_pin, "pins and groups are neither the model's"),
        (_group, "pins and groups are neither the model's"),
        (_weight, "the parameters are not those of the model"),
        (_user, "the parameters are not those of the model"),
        (_weight_bytes, "the bytes of the parameters are not those of the model"),
    ],
)
def test_the_costs_are_those_of_the_model(
    change: Callable[[dict[str, Any]], None], what: str, model: Path, tmp_path: Path
) -> None:
    """With the model, structure and bytes of the cost graph are derived again."""
    out = tmp_path / "out"
    costs = json.loads((out / "costs.json").read_text())
    change(costs)
    costs["meta"]["cost_model"] = "analytic"  # bytes of parameters are computed, too
    (out / "costs.json").write_text(json.dumps(costs))
    found = list(check_model(models.load(model), manifest.read(out), read_graph(out / "costs.json")))
    assert any(what in line for line in found), found


def test_groups_of_the_model_stay(tmp_path: Path) -> None:
    """What the model itself keeps together cannot be parted by the costs."""
    text = """m (float[4] x) => (float[8] y) {
        a = Relu(x)
        s = SequenceConstruct(a, x)
        c = ConcatFromSequence <axis = 0> (s)
        y = Neg(c)
    }"""
    path = save(tmp_path, text)
    split(path, tmp_path / "out", 2)
    costs = json.loads((tmp_path / "out" / "costs.json").read_text())
    assert any(node.pop("colocation", None) is not None for node in costs["nodes"][1:2])
    costs["nodes"][2].pop("colocation")
    (tmp_path / "out" / "costs.json").write_text(json.dumps(costs))
    with pytest.raises(VerificationError, match="pins and groups are neither the model's"):
        verify(tmp_path / "out", model=path)


def _model_port(document: dict[str, Any]) -> None:
    for port in (document["model"]["inputs"][0], document["stages"][0]["inputs"][0]):
        port["shape"] = ["N", 5]


def _stage_port(document: dict[str, Any]) -> None:
    for port in (document["stages"][0]["outputs"][1], document["stages"][1]["inputs"][0]):
        port["shape"] = ["N", 5]


@pytest.mark.parametrize(
    ("change", "message"),
    [(_model_port, "inputs are not those of the manifest"), (_stage_port, "'b' is not as the model has it")],
)
def test_ports_are_those_of_the_model(
    change: Callable[[dict[str, Any]], None], message: str, model: Path, tmp_path: Path
) -> None:
    """Shapes at borders that agree with each other, and with no model."""
    edit(tmp_path / "out", change)
    with pytest.raises(VerificationError, match=message):
        verify(tmp_path / "out", model=model)


def test_demands_are_part_of_the_manifest(model: Path, tmp_path: Path) -> None:
    """Pins and groups of users are listed, and only those are accepted."""
    demands = Demands(pins={"Relu_0": 0}, together=(("Neg_1", "Add_2"),))
    out = tmp_path / "pinned"
    written = op.split(model, stages=2, output=out, cost_model="analytic", time_limit=0.2, demands=demands)
    assert written.constraints == {"pins": {"Relu_0": 0}, "together": [["Add_2", "Neg_1"]]}
    assert verify(out, model=model).ok
    edit(out, lambda document: document["constraints"].update(pins={}))
    with pytest.raises(VerificationError, match="pins and groups"):
        verify(out, model=model)


def _exact_plan(folder: Path, *, exactly: bool) -> tuple[Path, dict[str, Any]]:
    """Plan three nodes for three stages, where two of them are better off together."""
    builder = op.GraphBuilder("costly")
    for name in "abc":
        builder.add_node(name, 1000)
    for first in range(2):
        builder.add_net(f"t{first}", first, [first + 1], nbytes=5000)
    write_graph(builder.build(), folder / "costs.json")
    result = op.plan(
        folder / "costs.json", stages=3, bandwidth=1e9, time_limit=1, demands=Demands(exactly=exactly)
    )
    document = plan_document(result, folder / "costs.json")
    (folder / "plan.json").write_text(json.dumps(document))
    return folder / "plan.json", document


def test_exactly_is_part_of_the_problem(tmp_path: Path) -> None:
    """A certificate about full stages says so; it is neither about others nor with an empty stage."""
    path, document = _exact_plan(tmp_path, exactly=True)
    assert document["constraints"] == {"pins": {}, "together": [], "exactly": True}
    assert document["certificate"]["status"] == "optimal"
    assert verify(path, recheck=5).ok
    stream = io.StringIO()
    show(read_plan(path), stream)
    assert "exactly 3 stages" in stream.getvalue()
    del document["constraints"]
    path.write_text(json.dumps(document))
    with pytest.raises(VerificationError, match="'exactly' holds where no stage may be empty"):
        verify(path)


@pytest.mark.parametrize("recheck", [None, 5.0])
def test_exactly_cannot_be_forged(tmp_path: Path, recheck: float | None) -> None:
    """A partition with an empty stage is none of those that fill every stage, whatever bound it is given."""
    path, document = _exact_plan(tmp_path, exactly=False)
    assert len(document["stages"]) < 3
    certificate = document["certificate"]
    bound = {"method": "exactly", "seconds": certificate["bottleneck_seconds"], "wall_seconds": 0.0}
    certificate["bounds"].append(bound)
    for constraints in ({}, {"constraints": {"pins": {}, "together": [], "exactly": True}}):
        path.write_text(json.dumps(document | constraints))
        with pytest.raises(VerificationError, match="certificate"):
            verify(path, recheck=recheck)


def test_exactly_is_in_the_manifest(model: Path, tmp_path: Path) -> None:
    """The model's own groups and pins are compared without it."""
    out = tmp_path / "full"
    demands = Demands(exactly=True)
    written = op.split(model, stages=3, output=out, cost_model="analytic", time_limit=1, demands=demands)
    assert written.constraints == {"pins": {}, "together": [], "exactly": True}
    assert verify(out, model=model, recheck=5).ok
    edit(out, lambda document: document["target"].update(stages=4))
    with pytest.raises(VerificationError, match="3 of 4 stages have nodes, where all had to"):
        verify(out, model=model)


def test_a_bound_that_only_a_proof_can_confirm(tmp_path: Path) -> None:
    """Without ``recheck`` it is named; with it, it is proved again."""
    path = tmp_path / "m.onnx"
    onnx.save(builders.mlp(6, 24), path)
    op.split(path, stages=3, output=tmp_path / "out", cost_model="analytic", time_limit=2)
    document = json.loads((tmp_path / "out" / "manifest.json").read_text())
    bounds = document["certificate"]["bounds"]
    best = max(bounds, key=lambda bound: bound["seconds"])
    document["certificate"]["bounds"] = [best | {"method": "ideals"}]
    (tmp_path / "out" / "manifest.json").write_text(json.dumps(document))
    report = inspect(tmp_path / "out")
    assert report.problems == ()
    assert report.not_rechecked == "ideals"
    assert report.to_json()["not_rechecked"] == "ideals"
    stream = io.StringIO()
    show_verification(report, stream)
    assert "ok, but the ideals bound was not rechecked" in stream.getvalue()
    assert inspect(tmp_path / "out", recheck=5).not_rechecked is None


def test_plans_are_verified_too(tmp_path: Path) -> None:
    """The certificate of a plan is recomputed from the costs that it names, with its constraints."""
    builder = op.GraphBuilder("g")
    for name in "abcd":
        builder.add_node(name, 1000)
    for first, second in zip(range(3), range(1, 4), strict=True):
        builder.add_net(f"t{first}", first, [second], nbytes=8)
    write_graph(builder.build(), tmp_path / "costs.json")
    result = op.plan(tmp_path / "costs.json", stages=2, time_limit=0.2, demands=Demands(pins={"a": 0}))
    document = plan_document(result, tmp_path / "costs.json")
    path = tmp_path / "plan.json"
    path.write_text(json.dumps(document))
    assert verify(path).checks == ("certificate",)
    twice = copy.deepcopy(document)
    twice["stages"][0]["node_names"].append(twice["stages"][0]["node_names"][0])
    twice["stages"][0]["nodes"] += 1
    path.write_text(json.dumps(twice))
    with pytest.raises(InputError, match="is listed twice"):
        verify(path)
    document["certificate"]["one_device_seconds"] *= 2
    path.write_text(json.dumps(document))
    with pytest.raises(VerificationError, match="one_device_seconds"):
        verify(path)
    (tmp_path / "costs.json").write_text("{}")
    with pytest.raises(InputError, match="not the file that was planned"):
        verify(path)


def test_a_hard_limit_leaves_no_sentinel_in_documents(tmp_path: Path) -> None:
    """Where the whole does not fit one device there is no cost of it, no speed-up and no history of it."""
    builder = op.GraphBuilder("g")
    for name in "abcd":
        builder.add_group(f"w{name}", 100, [builder.add_node(name, 1000)])
    for first in range(3):
        builder.add_net(f"t{first}", first, [first + 1], nbytes=8)
    write_graph(builder.build(), tmp_path / "costs.json")
    result = op.plan(
        tmp_path / "costs.json", stages=2, memory=300, memory_mode="hard", time_limit=0.2, bandwidth=1e9
    )
    document = plan_document(result, tmp_path / "costs.json")
    assert document["certificate"]["one_device_seconds"] is None
    assert all((point["upper_seconds"] or 0) < 1 for point in document["search"]["history"])
    path = tmp_path / "plan.json"
    path.write_text(json.dumps(document))
    assert verify(path).ok
    stream = io.StringIO()
    show(read_plan(path), stream)
    assert "speed-up     the model does not fit one device\n" in stream.getvalue()
    assert "inf" not in stream.getvalue().replace("inferences", "")
