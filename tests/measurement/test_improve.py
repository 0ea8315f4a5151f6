"""The closed loop on behalf of ``split``: when it runs, and what happens where stages do not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import onnx
import pytest

from models import builders
from onnx_pipeline import manifest
from onnx_pipeline.emission.emit import emit
from onnx_pipeline.errors import Advice, InputError
from onnx_pipeline.graph.target import Target
from onnx_pipeline.measurement.closed_loop import ClosedLoop
from onnx_pipeline.measurement.improve import improve, operator_kinds
from onnx_pipeline.parameters import MeasureParams, ProfileParams, SearchParams
from onnx_pipeline.planner import Planner
from onnx_pipeline.price import Priced, price


@pytest.fixture(scope="module")
def priced(tmp_path_factory: pytest.TempPathFactory) -> Priced:
    """A chain of eight nodes, as if it had been profiled."""
    path = tmp_path_factory.mktemp("model") / "mlp.onnx"
    onnx.save(builders.mlp(), path)
    return price(path, ProfileParams("analytic"))


@pytest.fixture
def said() -> list[Any]:
    """What progress is told."""
    return []


@pytest.fixture
def planner(said: list[Any]) -> Planner:
    """For two devices."""
    search = SearchParams(time_limit=1, threads=1)
    return Planner(2, Target(), search, progress=lambda *told: said.append(told))


def test_estimated_costs_are_not_measured(priced: Priced, planner: Planner, tmp_path: Path) -> None:
    """Unless that is asked for; then the manifest learns of it and no scratch file is left behind."""
    first = planner.partition_to_emit(priced.graph)
    assert improve(first, priced, planner, MeasureParams(), tmp_path / "out") == (first, None)
    result, describe = improve(first, priced, planner, MeasureParams(1), tmp_path / "out")
    assert result.graph is first.graph
    assert describe is not None
    assert list(planner.phases) == ["partition", "measure"]
    assert list(tmp_path.iterdir()) == []
    document = emit(priced.source, priced.infos, result, {}, tmp_path / "out", describe=describe)
    assert document.measurement is not None
    assert manifest.read(tmp_path / "out").to_json() == document.to_json()


def test_no_time_to_measure(priced: Priced, planner: Planner, said: list[Any], tmp_path: Path) -> None:
    """Less than any round takes: the partition stands, and a note says why."""
    first = planner.partition_to_emit(priced.graph)
    params = MeasureParams(1, measure_seconds=1e-9)
    assert improve(first, priced, planner, params, tmp_path / "out") == (first, None)
    (note,) = [text for phase, _, text in said if phase == "note"]
    assert note == ("the stages were not measured: too few rounds end in time; give measure_seconds=... more")


def test_kinds_are_operator_types(priced: Priced) -> None:
    """Nodes of one type have one number."""
    kinds = operator_kinds(priced.source, priced.graph)
    types = [node.op_type for node in priced.source.ir.graph]
    by_type = {types[v]: kinds[v] for v in range(len(kinds))}
    assert len(set(by_type.values())) == len(by_type)
    assert [by_type[kind] for kind in types] == kinds.tolist()


def test_stages_that_do_not_run(
    priced: Priced, planner: Planner, said: list[Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first partition stands, with a note; asked for, it is an error."""

    def refuse(*_: Any, **__: Any) -> None:
        raise InputError("stage_0.onnx", "does not load", Advice("give {inputs}", inputs=...))

    monkeypatch.setattr(ClosedLoop, "run", refuse)
    first = planner.partition_to_emit(priced.graph)
    with pytest.raises(InputError, match="does not load"):
        improve(first, priced, planner, MeasureParams(1), tmp_path / "out")
    monkeypatch.setattr(MeasureParams, "rounds", lambda self, cost_model: 1)
    assert improve(first, priced, planner, MeasureParams(), tmp_path / "out") == (first, None)
    (note,) = [text for phase, _, text in said if phase == "note"]
    assert note == "the stages were not measured: stage_0.onnx: does not load; give inputs=..."
    assert isinstance(note, Advice)
