"""Measured costs. What is tested is where the time goes, never how much it is."""

from __future__ import annotations

import dataclasses
import json
import tempfile
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper, parser

from onnx_pipeline.costmodel import cost_model, load_device
from onnx_pipeline.costmodel.profiling import attribution, rounds
from onnx_pipeline.costmodel.profiling import profile as profile_module
from onnx_pipeline.costmodel.profiling.sessions import Runner, Traced
from onnx_pipeline.costmodel.request import CostRequest, NodeCosts
from onnx_pipeline.errors import InputError, UsageError
from onnx_pipeline.graph.ticks import NS
from onnx_pipeline.model.dimensions import bound_dims
from onnx_pipeline.model.roles import executable_nodes
from onnx_pipeline.model.shapes import value_infos
from onnx_pipeline.model.source import load


def request_for(path: Path, **options: Any) -> CostRequest:
    """Make a request for a model file; two rounds are enough."""
    source = load(path)
    dims = bound_dims(source, options.pop("dims", {}))
    infos = value_infos(source, dims)
    options = {"runs": 2, "feeds": None, **options}
    return CostRequest(source, infos, executable_nodes(source), dims, device=load_device("cpu"), **options)


def save(folder: Path, text: str) -> Path:
    """Write the model of a piece of ONNX text."""
    path = folder / "model.onnx"
    onnx.save(parser.parse_model(text), path)
    return path


MLP = """<ir_version: 8, opset_import: ["": 17]>
    mlp (float[batch, 256] x) => (float[batch, 256] y) {
        w = ConstantOfShape <value = float[1] {0.01}> (shape)
        h = MatMul(x, w)
        b = Add(h, x)
        r = Relu(b)
        y = Softmax(r)
    }"""


@pytest.fixture
def mlp(tmp_path: Path) -> Path:
    """A tiny model with unnamed nodes, a parameter node and a symbolic dimension."""
    model = parser.parse_model(MLP)
    model.graph.initializer.append(helper.make_tensor("shape", onnx.TensorProto.INT64, [2], [256, 256]))
    path = tmp_path / "mlp.onnx"
    onnx.save(model, path)
    return path


def check_sum(costs: NodeCosts, request: CostRequest) -> None:
    """Every executable node has a cost, and the costs are the wall time to the nanosecond."""
    assert list(costs.work_ns) == [node.name for node in request.nodes]
    assert min(costs.work_ns.values()) >= 0
    assert sum(costs.work_ns.values()) == round(costs.meta["wall_seconds_per_inference"] * NS)


def test_profile(mlp: Path) -> None:
    """The sum is the wall time, every node is covered, and the provenance fits into JSON."""
    said: list[tuple[str, float | None]] = []
    request = request_for(mlp, dims={"batch": 64}, progress=lambda phase, part, _: said.append((phase, part)))
    costs = cost_model("profile")(request)
    check_sum(costs, request)
    assert costs.kind == "profile"
    assert len(costs.work_ns) == 4
    assert costs.meta["method"] == "optimised kernels"
    assert costs.meta["mapped_share"] == 1.0
    assert costs.meta["dims"] == {"batch": 64}
    assert costs.meta["runs"] == 4
    assert costs.meta["noise"] >= 0
    assert set(costs.spread) == set(costs.work_ns)
    assert json.loads(json.dumps(costs.meta)) == costs.meta
    assert [each for each in said if each[0] == "profile"][-1] == ("profile", 1.0)
    assert {phase for phase, _ in said} <= {"profile", "note"}  # the machine may be busy


def test_no_files_left(mlp: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Profiles and saved models live in a temporary folder that is gone afterwards."""
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(scratch))
    before = sorted(tmp_path.rglob("*"))
    cost_model("profile")(request_for(mlp, runs=1))
    assert sorted(tmp_path.rglob("*")) == before


def test_dominant_node_dominates(tmp_path: Path) -> None:
    """A matrix product of 268 MFLOP costs more than an addition of a row beside it."""
    path = save(
        tmp_path,
        """<ir_version: 8, opset_import: ["": 17]>
        g (float[512, 512] x, float[512] b) => (float[512] z) {
            y = MatMul(x, x)
            c = Neg(b)
            s = ReduceMax <keepdims = 0> (y)
            z = Add(c, s)
        }""",
    )
    request = request_for(path, runs=3)
    costs = cost_model("profile")(request)
    assert max(costs.work_ns, key=costs.work_ns.__getitem__) == request.nodes[0].name


def test_control_flow_and_functions(tmp_path: Path) -> None:
    """Nodes with subgraphs and calls of local functions are one node each, whatever runs inside."""
    path = save(
        tmp_path,
        """<ir_version: 8, opset_import: ["": 17, "local": 1]>
        g (float[64, 64] x, bool c) => (float[64, 64] y) {
            a = Relu(x)
            n = Constant <value = int64 {3}> ()
            t = Constant <value = bool {1}> ()
            b = Loop (n, t, a) <body = body (int64 i, bool ci, float[64, 64] s)
                => (bool co, float[64, 64] so) { co = Identity(ci)
                    r = Exp(s)
                    so = MatMul(r, a) }>
            d = local.twice (b)
            y = If (c) <then_branch = yes () => (float[64, 64] o1) { o1 = Sigmoid(d) },
                        else_branch = no () => (float[64, 64] o2) { o2 = Tanh(d) }>
        }
        <domain: "local", opset_import: ["": 17]> twice (p) => (q) { r = Relu(p)
            s = Exp(r)
            q = Mul(s, p) }""",
    )
    request = request_for(path)
    costs = cost_model("profile")(request)
    check_sum(costs, request)
    assert [node.op_type for node in request.nodes] == ["Relu", "Loop", "twice", "If"]
    assert costs.meta["mapped_share"] == 1.0


def test_external_weights(tmp_path: Path) -> None:
    """Weights beside the model are found, although the sessions are made from memory."""
    weights = np.ones((64, 64), dtype=np.float32)
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["y"])],
        "g",
        [helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [1, 64])],
        [helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, [1, 64])],
        [onnx.numpy_helper.from_array(weights, "w")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    path = tmp_path / "model.onnx"
    onnx.save(model, path, save_as_external_data=True, location="model.data", size_threshold=0)
    request = request_for(path)
    check_sum(cost_model("profile")(request), request)


def test_falls_back_to_unoptimised_kernels(mlp: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """When the optimised model does not match what ran, the unoptimised kernels serve, and it is said."""
    finish = Traced.finish

    def mismatch(self: Traced, kernels: Any, warm_up: int) -> Any:
        times = finish(self, kernels, warm_up)
        return times[:0] if "fused0" in self.folder.name or "fused1" in self.folder.name else times

    monkeypatch.setattr(Traced, "finish", mismatch)
    request = request_for(mlp)
    costs = cost_model("profile")(request)
    check_sum(costs, request)
    assert costs.meta["method"].startswith("unoptimised kernels")


def test_provider_that_cannot_save(mlp: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A provider that compiles whole subgraphs saves no model; without any kernels the remedy is named."""
    traced = Runner.traced
    monkeypatch.setattr(
        Runner,
        "traced",
        lambda self, folder, optimise: None if optimise else traced(self, folder, optimise=False),
    )
    request = request_for(mlp)
    costs = cost_model("profile")(request)
    check_sum(costs, request)
    assert costs.meta["method"].startswith("unoptimised kernels")
    monkeypatch.setattr(Runner, "traced", lambda self, folder, optimise: None)
    monkeypatch.setattr("onnx_pipeline.costmodel.profiling.opaque.read_trace", lambda path: [])
    with pytest.raises(InputError, match='cost_model="analytic" or a file'):
        cost_model("profile")(request)


def test_drift_does_not_move_the_shares() -> None:
    """Rounds of a machine that is suddenly slower count the same; the sum is the median wall time."""
    nodes = np.array([[1.0, 3.0], [10.0, 30.0], [1.0, 3.0]])
    measured = attribution.Measured(np.array([1.0, 10.0, 2.0]), nodes, {})
    work, spread = profile_module._summarise(measured)
    assert work == [NS // 2, 3 * NS // 2]
    assert spread.tolist() == pytest.approx([0.0, 0.0])


def test_silent_clock() -> None:
    """Kernels too short for the clock share the time equally."""
    measured = attribution.Measured(np.array([1e-6]), np.zeros((1, 3)), {})
    assert sum(profile_module._summarise(measured)[0]) == 1000


def test_budget_stops_early(mlp: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With no time left, only the fewest rounds of one pair of sessions are run."""
    monkeypatch.setattr(rounds, "SECONDS_PER_RUN", 0.0)
    costs = cost_model("profile")(request_for(mlp, runs=50))
    assert costs.meta["runs"] == rounds.MIN_ROUNDS


@pytest.mark.parametrize(("runs", "most"), [(0.5, 1), (3, 3), (8, 8), (17, 17), (40, 40)])
def test_budget_is_a_bound(mlp: Path, monkeypatch: pytest.MonkeyPatch, runs: float, most: int) -> None:
    """A model that takes seconds runs as often as fits into --profile-seconds, and once at least."""
    clock = 1000.0
    run = Runner.run

    def slow(self: Runner, session: Any) -> None:
        nonlocal clock
        run(self, session)
        clock += 4.0

    monkeypatch.setattr(Runner, "run", slow)
    monkeypatch.setattr("onnx_pipeline.stop.time.monotonic", lambda: clock)
    for name in ("perf_counter", "thread_time"):
        monkeypatch.setattr(f"onnx_pipeline.costmodel.profiling.sessions.time.{name}", lambda: clock)
    request = request_for(mlp, seconds=4.0 * runs)
    costs = cost_model("profile")(request)
    assert (clock - 1000.0) / 4.0 <= most
    assert costs.meta["wall_seconds_per_inference"] == pytest.approx(4.0)
    check_sum(costs, request)


def test_unknown_provider(mlp: Path) -> None:
    """A provider that is not there is a usage error that lists those that are."""
    with pytest.raises(UsageError, match=r"provider 'NoSuchProvider': .* has .*CPUExecutionProvider"):
        cost_model("profile")(request_for(mlp, provider="NoSuchProvider"))


def test_disagreeing_dimensions(tmp_path: Path) -> None:
    """A model that fails to run is one line with the file and the dimensions."""
    path = save(
        tmp_path,
        """<ir_version: 8, opset_import: ["": 17]>
        g (float[n, 4] x, float[m, 4] z) => (float[k, 4] y) { y = Add(x, z) }""",
    )
    good = request_for(path, dims={"n": 3, "m": 3})
    bad = dataclasses.replace(
        good,
        feeds={"x": np.ones((3, 4), np.float32), "z": np.ones((2, 4), np.float32)},
        dims={"n": 3, "m": 2},
    )
    with pytest.raises(InputError, match="m=2") as caught:
        cost_model("profile")(bad)
    assert str(caught.value).startswith(str(path))
    assert "\n" not in str(caught.value)


def test_counts_are_checked(mlp: Path) -> None:
    """At least one run and one thread."""
    for options in ({"runs": 0}, {"threads": 0}):
        with pytest.raises(UsageError, match="at least one"):
            cost_model("profile")(request_for(mlp, **options))


@pytest.mark.parametrize("name", ["mobilenetv3_qdq", "moe_dense_routed"])
def test_zoo_is_mapped(zoo_dir: Path, name: str) -> None:
    """On real models at least 99 % of the kernels' time finds its nodes, and none is lost."""
    request = request_for(zoo_dir / f"{name}.onnx")
    costs = cost_model("profile")(request)
    check_sum(costs, request)
    assert costs.meta["method"] == "optimised kernels"
    assert costs.meta["mapped_share"] >= 0.99


def test_the_clock_of_one_thread_is_its_own() -> None:
    """What others do with the processor counts only where its own time does not say all."""
    source: Any = SimpleNamespace(custom_ops=())
    library: Any = SimpleNamespace(custom_ops=("a.so",))
    assert Runner(source, {}, {}).clock is time.thread_time
    for runner in (
        Runner(source, {}, {}, threads=2),
        Runner(source, {}, {}, provider="CUDAExecutionProvider"),
        Runner(library, {}, {}),
    ):
        assert runner.clock is time.perf_counter


def test_waiting_for_the_processor_is_noise(mlp: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs that take their usual time of the processor, but twice as long by the wall."""
    wall, run = 0.0, Runner.run

    def held_up(self: Runner, session: Any) -> None:
        nonlocal wall
        run(self, session)
        wall += 0.02

    monkeypatch.setattr(Runner, "run", held_up)
    monkeypatch.setattr("onnx_pipeline.costmodel.profiling.rounds.time.perf_counter", lambda: wall)
    monkeypatch.setattr("onnx_pipeline.costmodel.profiling.sessions.time.thread_time", lambda: wall / 2)
    costs = cost_model("profile")(request_for(mlp))
    assert costs.meta["wall_seconds_per_inference"] == pytest.approx(0.01)
    assert costs.meta["noise"] == pytest.approx(1.0)
