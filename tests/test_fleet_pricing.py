"""Costs of a model for every kind of device of a fleet."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest

import onnx_pipeline as op
from models import builders
from onnx_pipeline import costmodel
from onnx_pipeline.costmodel.fleets import Fleet
from onnx_pipeline.costmodel.request import CostRequest, NodeCosts
from onnx_pipeline.errors import InputError, UsageError
from onnx_pipeline.fleet_pricing import price_fleet
from onnx_pipeline.graph.target import INFEASIBLE
from onnx_pipeline.parameters import ProfileParams


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A chain of eight nodes."""
    path = tmp_path_factory.mktemp("model") / "mlp.onnx"
    onnx.save(builders.mlp(), path)
    return path


@pytest.fixture
def profiled(monkeypatch: pytest.MonkeyPatch) -> list[CostRequest]:
    """Profiles that take no time: provider and threads decide on them. Returns what was asked."""
    asked: list[CostRequest] = []

    def profile(request: CostRequest) -> NodeCosts:
        asked.append(request)
        per_node = 1e6 / request.threads / (10 if request.provider == "FastProvider" else 1)
        meta = {"provider": request.provider, "threads": request.threads}
        left = (str(request.nodes[0].name),) if request.provider == "FastProvider" else ()
        work = {str(node.name): per_node for node in request.nodes}
        return NodeCosts("profile", work, meta, unsupported=left)

    real = costmodel.cost_model

    def chosen(name: Any) -> Any:
        return profile if name == "profile" else real(name)

    monkeypatch.setattr(costmodel, "cost_model", chosen)
    here = ["FastProvider", "CPUExecutionProvider"]
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: here)
    return asked


def price(model: Path, *devices: dict[str, Any], cost_model: Any = "profile") -> tuple[Any, list[str]]:
    """Return the graph, and what was noted."""
    told: list[str] = []

    def progress(phase: str, _: float | None, message: str) -> None:
        if phase == "note":
            told.append(message)

    fleet = Fleet.from_table({"device": list(devices)})
    return price_fleet(model, fleet, ProfileParams(cost_model), progress)[1], told


def first(graph: Any, kind: str) -> float:
    """Return the seconds of the second node on a kind."""
    return float(graph.work_on[kind][1] / graph.ticks_per_second)


def test_threads_and_providers_are_profiled_once(model: Path, profiled: list[CostRequest]) -> None:
    """Kinds with the same provider and threads share a profile; what a provider leaves is infeasible."""
    graph, told = price(
        model,
        {"name": "one"},
        {"name": "again", "threads": 1, "memory": "1GiB"},
        {"name": "two", "threads": 2},
        {"name": "fast", "device": "gpu", "provider": "FastProvider", "provider_options": {"a": "b"}},
    )
    assert [(r.provider, r.threads, dict(r.provider_options)) for r in profiled] == [
        ("CPUExecutionProvider", 1, {}),
        ("CPUExecutionProvider", 2, {}),
        ("FastProvider", 1, {"a": "b"}),
    ]
    times = [first(graph, kind) for kind in ("one", "again", "two", "fast")]
    assert times == pytest.approx([1e-3, 1e-3, 5e-4, 1e-4])
    assert graph.work_on["fast"][0] == INFEASIBLE
    assert graph.meta["kinds"]["two"] == "profiled on CPUExecutionProvider with 2 threads"
    assert graph.meta["kinds"]["fast"].endswith("with 1 thread; cannot run 1 node")
    assert told == []


def test_only_what_is_needed_is_profiled(model: Path, profiled: list[CostRequest]) -> None:
    """Where no kind computes with the default threads, nothing is measured with them."""
    price(model, {"name": "two", "threads": 2}, {"name": "three", "threads": 3})
    assert [r.threads for r in profiled] == [2, 3]


def test_speed_and_device_without_provider(model: Path, profiled: list[CostRequest]) -> None:
    """Speed divides what was measured; a device that cannot be measured is scaled by what is computed."""
    graph, told = price(model, {"device": "gpu"}, {"name": "slow", "speed": 0.5}, {"device": "cpu"})
    assert len(profiled) == 1
    assert first(graph, "slow") == pytest.approx(2e-3)
    assert 0 < first(graph, "gpu") != first(graph, "cpu")
    assert told == ["gpu: times measured on cpu, scaled by what is computed for gpu"]


def test_a_provider_that_is_not_here(model: Path, profiled: list[CostRequest]) -> None:
    """Its times are estimated, and one line says so; asked to measure, it is an error."""
    entry = {"device": "gpu", "provider": "CUDAExecutionProvider"}
    _, told = price(model, entry, {"device": "cpu"})
    assert told[0].startswith("gpu: CUDAExecutionProvider is not here; times measured on cpu")
    with pytest.raises(UsageError, match="unknown provider 'CUDAExecutionProvider'"):
        price(model, entry | {"costs": "profile"}, {"device": "cpu"})


def test_a_device_without_rates_is_not_scaled(
    model: Path, profiled: list[CostRequest], tmp_path: Path
) -> None:
    """A file that only describes links says nothing about speed: the measured work is taken, with a note."""
    (tmp_path / "board.toml").write_text('bandwidth = "1MB/s"\n')
    graph, told = price(model, {"device": str(tmp_path / "board.toml")}, {"device": "cpu"})
    assert first(graph, "board") == first(graph, "cpu")
    assert "not on board" in told[0]


def test_computed_costs_are_those_of_each_device(model: Path) -> None:
    """With the analytic cost model, every kind is computed for its device; a kind may ask for it alone."""
    graph, told = price(model, {"device": "gpu"}, {"device": "cpu"}, cost_model="analytic")
    assert first(graph, "cpu") == op.profile(model, cost_model="analytic").work[1] / graph.ticks_per_second
    assert graph.work_on["gpu"].sum() != graph.work_on["cpu"].sum()
    assert told == []
    assert graph.meta["kinds"]["gpu"] == "computed for gpu"


def test_one_kind_asks_for_computed_costs(model: Path, profiled: list[CostRequest]) -> None:
    """``costs`` of an entry wins over everything."""
    graph, _ = price(model, {"name": "a", "costs": "analytic"}, {"name": "b"})
    computed = op.profile(model, cost_model="analytic")
    assert graph.work_on["a"].sum() == pytest.approx(
        computed.work.sum() / computed.ticks_per_second * graph.ticks_per_second, rel=1e-6
    )


def test_stored_costs_of_all_kinds(model: Path, profiled: list[CostRequest], tmp_path: Path) -> None:
    """COSTS.json of a fleet gives the same work again; a kind that it lacks has the plain work."""
    devices = ({"name": "one"}, {"name": "fast", "device": "gpu", "provider": "FastProvider"})
    graph, _ = price(model, *devices)
    op.write_graph(graph, tmp_path / "costs.json")
    again, _ = price(model, *devices, {"name": "new"}, cost_model=str(tmp_path / "costs.json"))
    for kind in ("one", "fast"):
        assert np.array_equal(again.work_on[kind], graph.work_on[kind])
    assert again.meta["kinds"]["fast"] == graph.meta["kinds"]["fast"]
    assert np.array_equal(again.work_on["new"], graph.work)


def test_a_file_of_its_own_names_the_models_nodes(model: Path, tmp_path: Path) -> None:
    """Costs of a kind from a file are matched by node, and one of another model is refused."""
    graph = op.profile(model, cost_model="analytic")
    path = tmp_path / "own.csv"
    path.write_text("node,work_us\n" + "".join(f"{name},7\n" for name in graph.node_names))
    priced, _ = price(model, {"name": "a", "costs": str(path)}, {"name": "b"}, cost_model="analytic")
    assert first(priced, "a") == pytest.approx(7e-6)
    path.write_text("node,work_us\nother,7\n")
    with pytest.raises(InputError, match=r"own\.csv"):
        price(model, {"name": "a", "costs": str(path)}, {"name": "b"}, cost_model="analytic")
