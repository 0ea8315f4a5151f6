"""The facade and the public surface of the package."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

import onnx_pipeline as op
from models import builders
from onnx_pipeline.files.atomic import new_file
from onnx_pipeline.graph.builder import GraphBuilder
from onnx_pipeline.graph.ticks import NS
from onnx_pipeline.partition import portfolio
from onnx_pipeline.progress import Phases

QUICK: dict[str, Any] = {"profile_runs": 2, "time_limit": 2.0, "threads": 1}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A chain of eight nodes with a symbolic batch."""
    path = tmp_path_factory.mktemp("model") / "mlp.onnx"
    onnx.save(builders.mlp(batch="batch"), path)
    return path


class Notes(list[str]):
    """A progress that keeps what is said and which phases ran."""

    def __init__(self) -> None:
        super().__init__()
        self.phases: dict[str, None] = {}

    def __call__(self, phase: str, fraction: float | None, message: str) -> None:
        """Sort notes from phases."""
        if phase == "note":
            self.append(message)
        else:
            self.phases[phase] = None
            assert fraction is None or 0 <= fraction <= 1


def test_every_public_name_is_there() -> None:
    """__all__, dir() and attribute access agree; a name that is not public is an AttributeError."""
    for name in op.__all__:
        assert getattr(op, name) is not None
        assert name in dir(op)
    assert {"CostGraph", "Target", "profile", "partition", "split", "PipelineSession", "verify"} <= set(
        op.__all__
    )
    with pytest.raises(AttributeError, match="nonsense"):
        op.nonsense  # type: ignore[attr-defined]  # noqa: B018


@pytest.mark.parametrize(
    "first", ["", "import onnx_pipeline.partition", "from onnx_pipeline.partition import *", "op.partition"]
)
def test_a_function_named_like_a_package_stays_callable(first: str) -> None:
    """Python binds a subpackage in its parent on import; the public name must be callable all the same."""
    code = f"import onnx_pipeline as op\n{first}\nassert callable(op.partition)\n"
    code += "from onnx_pipeline import partition\nassert callable(partition)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_the_three_calls_of_the_readme(model: Path, tmp_path: Path) -> None:
    """profile -> partition, split, and a session on the result."""
    graph = op.profile(model, dims={"batch": 2}, profile_runs=2)
    assert graph.num_nodes == 8
    result = op.partition(graph, stages=2, target=op.Target(bandwidth=16e9, memory=8 << 30), time_limit=2)
    assert result.lower_bound <= result.bottleneck
    assert result.history
    assert len(result.stage_of) == 8
    manifest = op.split(model, stages=2, output=tmp_path / "out", bandwidth=float("inf"), **QUICK)
    assert op.verify(tmp_path / "out", model=model).ok
    with op.PipelineSession(tmp_path / "out") as session:
        (y,) = session.run(None, {"x": np.zeros((3, 16), np.float32)})
    assert y.shape == (3, 16)
    assert manifest.certificate["bottleneck_seconds"] == max(
        stage.cost["total_seconds"] for stage in manifest.stages
    )


def test_split_keeps_the_history_of_its_search(model: Path, tmp_path: Path) -> None:
    """The manifest says when bottleneck and bound improved, up to what the certificate states."""
    manifest = op.split(model, stages=2, output=tmp_path / "out", cost_model="analytic", time_limit=2.0)
    last = manifest.search["history"][-1]
    assert last["upper_seconds"] == pytest.approx(manifest.certificate["bottleneck_seconds"])
    assert last["lower_seconds"] == pytest.approx(manifest.certificate["lower_bound_seconds"])
    assert op.Manifest.from_json(manifest.to_json()) == manifest


def test_split_tells_its_phases_and_keeps_their_seconds(model: Path, tmp_path: Path) -> None:
    """Every phase is announced, measured and written to the manifest, in the order of the work."""
    notes = Notes()
    manifest = op.split(model, stages=2, output=tmp_path / "out", progress=notes, **QUICK)
    order = ["load", "shapes", "profile", "lower", "partition", "measure", "emit"]
    assert list(manifest.phases) == order
    assert [phase for phase in notes.phases if phase in order] == order
    assert all(seconds >= 0 for seconds in manifest.phases.values())
    assert notes[0].startswith("costs are for batch=1;")


def test_device_overrides_reach_the_target(model: Path, tmp_path: Path) -> None:
    """bandwidth and memory replace those of the device, and only those."""
    manifest = op.split(
        model, stages=2, output=tmp_path / "out", device="edge", bandwidth=1e9, memory=1e6, **QUICK
    )
    device = op.load_device("edge")
    assert manifest.target["device"] == "edge"
    assert manifest.target["bandwidth_bytes_per_second"] == 1e9
    assert manifest.target["memory_bytes"] == 1e6
    assert manifest.target["transfer_latency_seconds"] == device.transfer_latency
    assert manifest.target["stage_overhead_seconds"] == device.stage_overhead


def test_timings_of_this_machine_are_not_those_of_another_device(model: Path, tmp_path: Path) -> None:
    """Split and plan note it; for the machine itself there is nothing to note."""
    split, plan, own = Notes(), Notes(), Notes()
    graph = op.profile(model, dims={"batch": 1}, profile_runs=2)
    op.plan(graph, stages=2, device="gpu", progress=plan)
    op.plan(graph, stages=2, progress=own)
    options = {"stages": 2, "output": tmp_path / "out", "device": "gpu", "dims": {"batch": 1}, "measure": 0}
    op.split(model, progress=split, **(QUICK | options))
    warning = "the work of nodes was timed on CPUExecutionProvider, not on gpu"
    for notes, expected in ((split, 1), (plan, 1), (own, 0)):
        assert sum(note.startswith(warning) for note in notes) == expected


def test_arrays_as_inputs(model: Path) -> None:
    """Inputs may be arrays; they are checked and bind the dimensions."""
    graph = op.profile(model, inputs={"x": np.zeros((4, 16), np.float32)}, profile_runs=2)
    assert graph.meta["dims"] == {"batch": 4}
    with pytest.raises(op.InputError, match="'x'"):
        op.profile(model, inputs={"x": np.zeros((4, 17), np.float32)}, profile_runs=2)


def test_an_interrupted_search_is_not_emitted(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The search answers Ctrl-C with its best partition; split gives up, plan hands it over."""
    real = portfolio.solve

    def interrupted(*args: Any, **kwargs: Any) -> op.PartitionResult:
        found = real(*args, **kwargs)
        return replace(found, search=replace(found.search, interrupted=True))

    monkeypatch.setattr(portfolio, "solve", interrupted)
    with pytest.raises(KeyboardInterrupt):
        op.split(model, stages=2, output=tmp_path / "out", **QUICK)
    assert list(tmp_path.iterdir()) == []
    graph = op.profile(model, profile_runs=2)
    assert op.plan(graph, stages=2, time_limit=2).interrupted


def test_plan_of_a_graph_with_times_of_its_own() -> None:
    """Without --device such a graph is on ideal devices; a given device adds its overheads."""
    builder = GraphBuilder("timed", meta={"host_io": False}, ticks_per_second=NS)
    a, b = builder.add_node("a", 1000), builder.add_node("b", 1000)
    builder.add_net("t", a, [b], nbytes=0, time=10)
    graph = builder.build()
    result = op.plan(graph, stages=2, time_limit=2)
    assert result.upper == 1010
    assert result.status == "optimal"
    assert op.plan(graph, stages=2, device="cpu", time_limit=2).target.stage_overhead > 0
    with pytest.raises(op.UsageError, match="memory"):
        op.plan(graph, stages=2, memory="file", time_limit=2)
    with pytest.raises(op.UsageError, match="stages"):
        op.plan(graph, stages=0)


def test_phases_add_up() -> None:
    """A phase that runs twice is one entry; one that fails is counted too."""
    phases = Phases()
    with phases.measure("a"):
        pass
    first = phases["a"]
    with pytest.raises(RuntimeError), phases.measure("a"):
        raise RuntimeError
    assert list(phases) == ["a"]
    assert phases["a"] >= first


def test_a_file_is_complete_or_absent(tmp_path: Path) -> None:
    """A failing block leaves the old file as it was, and nothing beside it."""
    path = tmp_path / "below" / "file"
    with new_file(path) as temporary:
        temporary.write_text("old")

    def fail() -> None:
        with new_file(path) as temporary:
            temporary.write_text("half")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert path.read_text() == "old"
    assert list(path.parent.iterdir()) == [path]
