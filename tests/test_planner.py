"""What surrounds a search: notes, the log, and partitions that cannot be written."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import onnx_pipeline as op
from onnx_pipeline.errors import InfeasibleError, InputError, UsageError
from onnx_pipeline.graph.builder import GraphBuilder
from onnx_pipeline.graph.constraints import Demands
from onnx_pipeline.graph.costgraph import CostGraph
from onnx_pipeline.graph.target import Target
from onnx_pipeline.parameters import SearchParams
from onnx_pipeline.planner import Planner

QUICK = SearchParams(time_limit=1, threads=1)


@pytest.fixture
def graph() -> CostGraph:
    """A chain of three equal nodes."""
    builder = GraphBuilder("chain")
    a, b, c = (builder.add_node(name, 1000) for name in "abc")
    builder.add_net("t", a, [b], nbytes=1)
    builder.add_net("u", b, [c], nbytes=1)
    return builder.build()


def test_notes_and_log(graph: CostGraph, tmp_path: Path) -> None:
    """More devices than nodes, and fewer stages than either, are said; the history is written."""
    said: list[Any] = []
    demands = Demands(together=[["b", "c"]])
    planner = Planner(4, Target(), QUICK, demands, tmp_path / "h.csv", lambda *told: said.append(told))
    result = planner.partition(graph)
    assert [text for phase, _, text in said if phase == "note"] == [
        "4 stages for 3 nodes: empty stages are not written",
        "the best partition found uses 2 of 4 stages",
    ]
    assert result.used == 2
    assert (tmp_path / "h.csv").read_text().startswith("seconds,")
    assert list(planner.phases) == ["partition"]


def test_searches_share_the_time_limit(graph: CostGraph, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where more may follow, each takes half of what is left; even a late one has time to find something."""
    from onnx_pipeline.partition import portfolio

    limits: list[float] = []
    clock = 0.0
    solve = portfolio.solve

    def slow(graph: Any, stages: Any, target: Any, params: SearchParams, progress: Any) -> Any:
        nonlocal clock
        limits.append(params.time_limit)
        clock += params.time_limit + 0.1
        return solve(graph, stages, target, QUICK, progress)

    monkeypatch.setattr(portfolio, "solve", slow)
    monkeypatch.setattr("onnx_pipeline.planner.time.monotonic", lambda: clock)
    planner = Planner(2, Target(), SearchParams(time_limit=8, threads=1), repeats=True)
    for _ in range(6):
        planner.partition(graph)
    assert limits == pytest.approx([4.0, 1.95, 0.925, 0.4125, 0.15625, 0.125], abs=0.01)
    assert clock < 8.5


def test_stages_that_must_be_filled_are_not_said_to_stay_empty(graph: CostGraph) -> None:
    """The error alone says that there are not enough nodes."""
    said: list[Any] = []
    search = SearchParams(time_limit=1, threads=1, exactly=True)
    planner = Planner(4, Target(), search, Demands(exactly=True), progress=lambda *told: said.append(told))
    with pytest.raises(InfeasibleError, match="4 stages cannot all be filled: the graph has 3 nodes"):
        planner.partition(graph)
    assert not [text for phase, _, text in said if phase == "note"]


def test_pins_that_leave_a_gap(graph: CostGraph) -> None:
    """Files are numbered without gaps, so there is no such split; a plan there is."""
    planner = Planner(4, Target(), QUICK, Demands(pins={"a": 1, "b": 3, "c": 3}))
    planner.partition(graph)
    with pytest.raises(InfeasibleError, match="leave an earlier stage empty; pin to lower stages"):
        planner.partition_to_emit(graph)


def test_the_number_of_stages() -> None:
    """It is checked before anything else happens."""
    for stages in (0, 10**9, 1.5):
        with pytest.raises(UsageError, match="stages must be a whole number"):
            Planner(stages, Target(), QUICK)  # type: ignore[arg-type]


def test_the_log_holds_every_search(graph: CostGraph, tmp_path: Path) -> None:
    """A closed loop's searches follow each other, their seconds too."""
    planner = Planner(2, Target(), QUICK, log=tmp_path / "h.csv")
    points = [len(planner.partition(graph).history) for _ in range(2)]
    lines = (tmp_path / "h.csv").read_text().splitlines()[1:]
    assert len(lines) == sum(points)
    seconds = [float(line.split(",")[0]) for line in lines]
    assert seconds == sorted(seconds)


def test_an_unwritable_log_is_refused_at_once(tmp_path: Path) -> None:
    """Not after the search."""
    (tmp_path / "file").touch()
    with pytest.raises(UsageError, match="is a folder"):
        Planner(2, Target(), QUICK, log=tmp_path)
    with pytest.raises(InputError, match="cannot be written"):
        Planner(2, Target(), QUICK, log=tmp_path / "file" / "h.csv")


def test_stages_or_devices() -> None:
    """Exactly one of them, in every function that plans."""
    graph = GraphBuilder("one")
    graph.add_node("a", 1e6)
    neither: dict[str, int] = {}
    for wrong in (neither, {"stages": 2, "devices": 2}):
        with pytest.raises(UsageError, match="stages and devices"):
            op.plan(graph.build(), **wrong)
    with pytest.raises(UsageError, match="devices must be a whole number"):
        op.plan(graph.build(), devices=0)
    with pytest.raises(UsageError, match="devices and exactly exclude each other"):
        op.plan(graph.build(), devices=2, demands=op.Demands(exactly=True))
    plan = op.plan(graph.build(), devices=2)
    assert isinstance(plan, op.ReplicaPlan)
    assert plan.replicas == (2,)
