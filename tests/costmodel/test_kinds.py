"""The work of nodes on every kind of device of a fleet."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from onnx_pipeline.costmodel.fleets import Fleet
from onnx_pipeline.costmodel.kinds import KindCosts, price_kinds
from onnx_pipeline.errors import InfeasibleError, InputError, UsageError
from onnx_pipeline.graph.builder import GraphBuilder
from onnx_pipeline.graph.costgraph import CostGraph
from onnx_pipeline.graph.costs_json import graph_from_json, graph_to_json
from onnx_pipeline.graph.target import INFEASIBLE


def graph(meta: Mapping[str, Any] | None = None) -> CostGraph:
    """Return three nodes of 1001, 2000 and 4000 ns."""
    builder = GraphBuilder("g", meta=dict(meta or {}))
    nodes = [
        builder.add_node("a", 1001, operator="Conv"),
        builder.add_node("b/x", 2000, operator="TopK"),
        builder.add_node("b/y", 4000, operator="Conv"),
    ]
    builder.add_net("t", nodes[0], [nodes[1]], nbytes=8)
    return builder.build().counted(10**9)


def fleet(*devices: dict[str, Any]) -> Fleet:
    """Return a fleet with these entries."""
    return Fleet.from_table({"device": list(devices)})


def on(priced: CostGraph, kind: str) -> list[int]:
    """Return the work on a kind in ticks."""
    assert priced.work_on is not None
    return priced.work_on[kind].tolist()


def notes(into: list[str]) -> Any:
    """Return a progress that collects notes."""
    return lambda phase, _, message: into.append(message) if phase == "note" else None


def test_speed_divides_the_work() -> None:
    """Work is rounded down; every kind has an entry, also one that is the graph's own."""
    priced = fleet({"name": "fast", "speed": 2}, {"name": "slow", "speed": 0.5}, {}).priced(graph())
    assert on(priced, "fast") == [500, 1000, 2000]
    assert on(priced, "slow") == [2002, 4000, 8000]
    assert on(priced, "cpu") == [1001, 2000, 4000]
    assert priced.meta["kinds"]["fast"] == "the graph's, 2 times as fast"


def test_very_slow_kinds_are_counted_in_longer_ticks() -> None:
    """Ticks grow where a kind's work could not be counted, for all kinds and the graph alike."""
    fine = replace(graph(), ticks_per_second=10**9, work=np.array([1 << 44, 1 << 44, 1 << 44]))
    priced = fleet({"name": "slow", "speed": 1e-3}, {}).priced(fine)
    assert priced.ticks_per_second == 10**6
    assert on(priced, "cpu") == priced.work.tolist() == [(1 << 44) // 1000] * 3
    assert on(priced, "slow") == [1 << 44] * 3


def test_files_of_costs_by_node(tmp_path: Path) -> None:
    """A kind's own file wins over what the graph has; a file of another model is refused."""
    path = tmp_path / "own.csv"
    path.write_text("node,work_us\na,1\nb/x,2\nb/y,3\n", encoding="utf-8")
    own = replace(graph(), work_on={"x": np.array([7, 7, 7])})
    priced = fleet({"name": "x", "costs": str(path)}).priced(own)
    assert on(priced, "x") == [1000, 2000, 3000]
    assert priced.meta["kinds"]["x"] == "from own.csv"
    path.write_text("node,work_us\na,1\n", encoding="utf-8")
    with pytest.raises(InputError, match=r"no cost for 2 of 3 nodes, 'b/x' for one"):
        fleet({"name": "x", "costs": str(path)}).priced(graph())


def test_the_graphs_own_times_of_a_kind() -> None:
    """What COSTS.json has of a kind is taken, and stays what it is when priced again."""
    asked = fleet({"name": "x", "costs": "profile", "unsupported": ["TopK"]}, {})
    found = {"x": KindCosts({"a": 1, "b/x": 2, "b/y": 3}, "profiled", ("b/y",))}
    priced = price_kinds(graph(), asked, found)
    assert on(priced, "x") == [1, INFEASIBLE, INFEASIBLE]
    assert priced.meta["kinds"]["x"] == "profiled; cannot run 2 nodes"
    back = graph_from_json(graph_to_json(priced))
    assert on(back, "x") == on(priced, "x")
    assert back.operators == ("Conv", "TopK", "Conv")
    again = asked.priced(back)
    assert on(again, "x") == on(priced, "x")
    assert again.meta["kinds"] == priced.meta["kinds"]
    with pytest.raises(UsageError, match="needs the model"):
        asked.priced(graph())


def test_unsupported_by_operator_name_and_pattern() -> None:
    """An entry is an operator, a node or a pattern; one that meets nothing is only noted."""
    told: list[str] = []
    entries = ["Conv"], ["b/x"], ["b/*"], ["Softmax"]
    asked = fleet({}, *({"name": str(i), "unsupported": each} for i, each in enumerate(entries)))
    priced = asked.priced(graph(), notes(told))
    lacking = [[work == INFEASIBLE for work in on(priced, str(i))] for i in range(4)]
    assert lacking == [[True, False, True], [False, True, False], [False, True, True], [False] * 3]
    assert told == ["3: nothing in this graph is 'Softmax', which it cannot run"]


def test_a_node_that_nothing_can_run() -> None:
    """It is infeasible at once, with the node and its operator."""
    with pytest.raises(InfeasibleError, match=r"can run node 'b/x' \(TopK\)") as caught:
        fleet({"unsupported": ["TopK"]}).priced(graph())
    assert caught.value.exit_code == 4


@pytest.mark.parametrize(
    ("meta", "device", "words"),
    [
        ({"cost_model": "profile", "provider": "CPUExecutionProvider"}, {}, None),
        ({"cost_model": "profile", "provider": "CPUExecutionProvider"}, {"device": "gpu"}, "not on gpu"),
        (
            {"cost_model": "profile", "provider": "CPUExecutionProvider", "threads": 1},
            {"threads": 2},
            "timed with threads = 1, not 2",
        ),
        ({"cost_model": "analytic", "device": "cpu"}, {"device": "edge"}, "computed for cpu, not for edge"),
        ({}, {"device": "gpu"}, "the work of nodes is the graph's"),
    ],
)
def test_guesses_are_noted(meta: dict[str, Any], device: dict[str, Any], words: str | None) -> None:
    """Where the graph's work is not that of a kind, one line says so."""
    told: list[str] = []
    asked = fleet({"name": "first", "speed": 1}, device)
    priced = asked.priced(graph(meta), notes(told))
    assert on(priced, asked.kinds[1].name) == priced.work.tolist()
    assert len(told) == (words is not None)
    assert words is None or words in told[0]
