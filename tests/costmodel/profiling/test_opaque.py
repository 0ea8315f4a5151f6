"""Compiled subgraphs as units, on events recorded with a provider that compiles."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest

import onnx_pipeline as op
from models.net import Net
from onnx_pipeline.costmodel.profiling import opaque
from onnx_pipeline.costmodel.profiling.mapping import GraphNode
from onnx_pipeline.costmodel.profiling.sessions import Runner
from onnx_pipeline.costmodel.profiling.trace import KernelEvent

#: onnxruntime 1.24 with OpenVINOExecutionProvider, one run of :func:`model`: the provider has no Hardmax.
RECORDED = [
    ("OpenVINO-EP-subgraph_4", "OpenVINOExecutionProvider_OpenVINO-EP-subgraph_4_0", 50),
    ("Hardmax", "odd0", 9),
    ("OpenVINO-EP-subgraph_5", "OpenVINOExecutionProvider_OpenVINO-EP-subgraph_5_1", 60),
    ("Hardmax", "odd1", 8),
    ("OpenVINO-EP-subgraph_6", "OpenVINOExecutionProvider_OpenVINO-EP-subgraph_6_2", 70),
]
EVENTS = [KernelEvent(kind, name, 100 * i, us) for i, (kind, name, us) in enumerate(RECORDED)]


def model(path: Path) -> None:
    """Three residual blocks, two of them with an operator that stays outside."""
    net = Net("mixed")
    x = net.input("x", [1, 4, 8, 8])
    for b in range(3):
        y = net.op("Conv", x, net.weight(4, 4, 3, 3, name=f"w{b}"), name=f"conv{b}", pads=[1] * 4)
        y = net.op("Relu", y, name=f"relu{b}")
        y = net.op("Hardmax", y, name=f"odd{b}") if b < 2 else y
        x = net.op("Add", x, y, name=f"add{b}")
    net.output(net.op("Sigmoid", x, name="last", out="y"), [1, 4, 8, 8])
    onnx.save(net.model(), path)


def nodes() -> list[GraphNode]:
    """Reduce the nodes of that model to names."""
    blocks = []
    for b in range(3):
        x, end = (f"x{b}", f"h{b}" if b < 2 else f"r{b}")
        blocks += [
            GraphNode("Conv", f"conv{b}", (x,), (f"c{b}",)),
            GraphNode("Relu", f"relu{b}", (f"c{b}",), (f"r{b}",)),
            *([GraphNode("Hardmax", f"odd{b}", (f"r{b}",), (f"h{b}",))] if b < 2 else []),
            GraphNode("Add", f"add{b}", (x, end), (f"x{b + 1}",)),
        ]
    return [*blocks, GraphNode("Sigmoid", "last", ("x3",), ("y",))]


def by_name(events: list[KernelEvent]) -> tuple[dict[str, float], list[int]]:
    """Attribute one run; every node weighs the same."""
    graph = nodes()
    mapping, units = opaque.attribute_units(events, graph, np.ones(len(graph)))
    times = np.array([[event.duration for event in events]], dtype=np.float64)
    assert mapping.placed_share(times) == 1.0
    found = mapping.apply(times)[0]
    assert found.sum() == pytest.approx(times.sum())
    return dict(zip((node.name for node in graph), found.tolist(), strict=True)), units


def test_units_end_where_a_node_runs_outside() -> None:
    """A residual edge does not join what the provider had to compile apart."""
    found, units = by_name(EVENTS)
    assert units == [2, 3, 5]
    assert found["odd0"] == 9
    assert found["conv0"] == found["relu0"] == 25
    assert found["add0"] == found["conv1"] == found["relu1"] == pytest.approx(20)
    assert found["add1"] == found["conv2"] == found["last"] == found["add2"] == pytest.approx(14)


def test_one_subgraph_is_one_unit() -> None:
    """The usual case: the provider takes everything."""
    found, units = by_name([KernelEvent("whole", "whole_0", 0, 120)])
    assert units == [12]
    assert set(found.values()) == {10.0}


def test_unexpected_numbers_of_subgraphs_are_pooled() -> None:
    """Where it cannot be said which is which, all compiled nodes share all compiled time."""
    found, units = by_name([EVENTS[0], EVENTS[1], EVENTS[3], EVENTS[4]])
    assert units == [10]
    assert found["odd0"] == 9
    assert found["conv0"] == found["last"] == pytest.approx(12)


def test_profile_falls_back_to_units(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A provider that cannot save its model: the events it reports are all there is, and no time is lost."""
    model(tmp_path / "mixed.onnx")
    monkeypatch.setattr(Runner, "traced", lambda *_, **__: None)
    monkeypatch.setattr(opaque, "read_trace", lambda path: [EVENTS] * 5)
    graph = op.profile(tmp_path / "mixed.onnx", profile_runs=2, cache=False)
    assert graph.meta["method"] == "compiled subgraphs as units"
    assert graph.meta["unit_nodes"] == [2, 3, 5]
    assert graph.meta["mapped_share"] == 1.0
    total = graph.meta["wall_seconds_per_inference"]
    assert graph.seconds(int(graph.work.sum())) == pytest.approx(total, abs=1e-9)
    work = dict(zip(graph.node_names, graph.work.tolist(), strict=True))
    # Whole nanoseconds: the running sum is rounded, so a node is off by at most one.
    assert abs(work["odd0"] - sum(work.values()) * 9 / 197) <= graph.ticks_per_second / 1e9


def test_budget_is_a_bound(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without time left one round is measured, which is one run of each session."""
    monkeypatch.setattr(Runner, "traced", lambda *_, **__: None)
    monkeypatch.setattr(opaque, "read_trace", lambda path: [EVENTS])
    runs: list[object] = []
    run = Runner.run

    def counted(self: Runner, session: object) -> None:
        runs.append(session)
        run(self, session)

    monkeypatch.setattr(Runner, "run", counted)
    model(tmp_path / "mixed.onnx")
    graph = op.profile(tmp_path / "mixed.onnx", profile_seconds=1e-9, cache=False)
    assert graph.meta["runs"] == 1
    assert len(runs) == 2
