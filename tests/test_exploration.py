"""Explorations: every row a plan of its own, answers with proofs, files in three formats."""

from __future__ import annotations

import csv
import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import onnx_pipeline as op
from onnx_pipeline.errors import InputError, UsageError
from onnx_pipeline.exploration import Exploration, explore
from onnx_pipeline.goals import Goals, answer
from onnx_pipeline.graph.builder import GraphBuilder
from onnx_pipeline.graph.costgraph import HOST, CostGraph
from onnx_pipeline.graph.objective import stage_costs
from onnx_pipeline.graph.ticks import NS
from onnx_pipeline.partition.certificate import check
from onnx_pipeline.settings import SETTINGS

MS = 1_000_000


def chain(works: list[int], weights: list[int] | None = None) -> CostGraph:
    """Nodes that work so many milliseconds, one after the other, with 1000-byte tensors and parameters."""
    builder = GraphBuilder("chain", ticks_per_second=NS)
    builder.add_net("x", HOST, [0], nbytes=1000)
    for i, work in enumerate(works):
        builder.add_node(f"v{i}", work * MS)
        last = i == len(works) - 1
        builder.add_net(f"t{i}", i, [] if last else [i + 1], nbytes=1000, to_host=last)
        if weights:
            builder.add_group(f"w{i}", weights[i], [i])
    return builder.build()


def _explore(graph: CostGraph, **choices: Any) -> Exploration:
    return explore(graph, device="ideal", time_limit=5, threads=1, **choices)


def test_every_row_is_a_plan() -> None:
    """Figures of a row are those of a plan of its own, recomputed by the objective."""
    graph = chain([4, 3, 2, 5, 6], [100] * 5)
    found = _explore(graph, stages="1-3,5", bandwidth=["1MB/s", math.inf], memory=[300.0, "1KiB"])
    assert len(found) == 16
    assert [len(group) for group in found.groups()] == [4] * 4
    for row in found:
        target = row.setup.target
        plan = op.plan(
            graph,
            stages=row.stages,
            device="ideal",
            bandwidth=target.bandwidth,
            memory=target.memory,
            threads=1,
        )
        assert row.result is not None
        assert row.bottleneck_seconds == plan.bottleneck
        costs = stage_costs(graph, target, row.result.stage_of, row.stages, up=True)
        assert row.latency_seconds == pytest.approx(sum(cost.total for cost in costs) / NS)
        held = [
            cost.parameter_bytes + each.peak for cost, each in zip(costs, row.result.schedules, strict=True)
        ]
        assert row.memory_bytes == max(held)
        assert check(row.result.partition, row.result.certificate) == []
        whole = row.setup.whole.seconds
        assert whole is not None
        assert row.speed_up == pytest.approx(whole / plan.bottleneck)
        assert row.setup.whole.rate(row.stages) == pytest.approx(row.stages / whole)


def test_a_rate_with_its_proof() -> None:
    """The fewest stages, the bound that rules one fewer out, and the goal that is met to the tick."""
    graph = chain([10, 10, 10, 10])
    found = _explore(graph, stages=range(1, 9), for_rate=50)
    ((_, best),) = found.answers
    assert (best.stages, best.ruled_out, best.proof, best.proved) == (2, 1, "rate", True)
    assert best.proved_seconds == pytest.approx(0.04)
    assert not best.forever
    ((_, none),) = _explore(graph, stages=range(1, 9), for_rate=101).answers
    assert (none.stages, none.ruled_out, none.forever) == (None, 8, True)
    assert _explore(graph, stages=range(1, 9), for_rate=100).answers[0][1].stages == 4


def test_an_open_gap_is_not_called_a_proof() -> None:
    """Rows whose bound allows the goal are neither reached nor ruled out."""
    graph = chain([10, 10, 10, 10, 10])
    weak = op.Demands(bounds=("simple",))
    found = explore(graph, device="ideal", stages="1-5", for_rate=70, demands=weak, time_limit=0.05)
    ((_, best),) = found.answers
    # Four stages need 20 ms, the simple bound says 12.5 ms.
    assert (best.stages, best.ruled_out, best.proved) == (5, 3, False)


def test_latency_is_least_on_one_device() -> None:
    """More stages never lower the latency of what fits: below one device's there is no number of stages."""
    graph = chain([10, 10, 10, 10])
    ((_, none),) = _explore(graph, stages="1-4", bandwidth=1e6, for_latency="41ms").answers
    assert (none.stages, none.forever, none.proof) == (None, True, "latency")
    assert none.proved_seconds == pytest.approx(0.042)  # all work, the input and the output
    ((_, one),) = _explore(graph, stages="1-4", bandwidth=1e6, for_latency="42ms").answers
    assert (one.stages, one.ruled_out) == (1, 0)


def test_latency_where_memory_overflows() -> None:
    """More devices hold more: few of them stream so much that none of their partitions is fast enough."""
    graph = chain([1, 1, 1, 1], [100_000] * 4)
    found = _explore(
        graph, stages="1-4", bandwidth=1e6, memory=102_500.0, activations=False, for_latency=0.05
    )
    ((_, best),) = found.answers
    assert (best.stages, best.proved, best.proof) == (4, True, "latency")
    floors = [row.least_latency_seconds for row in found]
    latencies = [row.latency_seconds for row in found]
    assert floors == sorted(floors, reverse=True)
    assert all(
        latency is not None and floor <= latency for floor, latency in zip(floors, latencies, strict=True)
    )


def test_what_fits_with_its_proof() -> None:
    """A hard limit: the fewest devices that hold everything, and that one fewer provably does not."""
    graph = chain([1, 1, 1, 1], [100_000] * 4)
    found = _explore(graph, stages="1-4", fit="250kB")
    ((setup, best),) = found.answers
    assert (best.stages, best.ruled_out, best.proof, best.proved) == (2, 1, "memory", True)
    assert setup.whole.seconds is None
    assert setup.whole.rate(4) is None
    assert [row.status for row in found] == ["infeasible", "optimal", "optimal", "optimal"]
    with pytest.raises(UsageError, match="leave out memory"):
        _explore(graph, fit="250kB", memory="1GB")


def test_all_goals_together() -> None:
    """Each goal may be what asks for more stages."""
    graph = chain([10, 10, 10, 10], [100] * 4)
    rows = _explore(graph, stages="1-4", memory=1e9).rows
    assert answer(Goals(for_rate=50, for_latency=0.04), rows).stages == 2
    assert answer(Goals(for_rate=50, for_latency=0.03), rows).stages is None
    assert not Goals()
    with pytest.raises(UsageError, match="for_latency must be"):
        Goals(for_latency=-1)
    with pytest.raises(UsageError, match="for_rate must be"):
        Goals(for_rate=0)


@pytest.mark.parametrize(
    ("text", "numbers"),
    [
        ("8", (8,)),
        ("2-5", (2, 3, 4, 5)),
        ("8,1,2-3", (1, 2, 3, 8)),
        (" 1 , 2 ", (1, 2)),
        (4, (4,)),
        (range(2, 4), (2, 3)),
    ],
)
def test_numbers_of_stages(text: object, numbers: tuple[int, ...]) -> None:
    """One number, a range, a list or both, in text or in Python."""
    assert SETTINGS["stages_list"].check(text, "stages") == numbers


@pytest.mark.parametrize(
    "text", ["", "0-3", "5-2", "a", "1-", "1,,2", "1-2-3", "100001", [], [0], [1.5], None, True, {1: 2}]
)
def test_wrong_numbers_of_stages(text: object) -> None:
    """Anything else is refused in one line."""
    with pytest.raises(UsageError, match="stages must be numbers from 1 to 100000"):
        SETTINGS["stages_list"].check(text, "stages")


def test_files(tmp_path: Path) -> None:
    """The suffix is the format; what it is not is refused before any work."""
    found = _explore(chain([3, 4, 5]), stages="1-3", fit="2kB", for_rate=1)
    found.write(tmp_path / "x.csv")
    with (tmp_path / "x.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [row["stages"] for row in rows] == ["1", "2", "3"]
    assert float(rows[0]["bottleneck_seconds"]) == pytest.approx(0.012)
    found.write(tmp_path / "x.json")
    document = json.loads((tmp_path / "x.json").read_text())
    assert document == json.loads(json.dumps(found.to_json()))
    assert document["goals"] == {"rate_per_second": 1.0, "memory_bytes": 2000.0}
    assert document["answers"][0]["stages"] == 1
    with pytest.raises(UsageError, match="names no format"):
        found.write(tmp_path / "x.txt")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["x.csv", "x.json"]


@pytest.mark.parametrize("suffix", [".png", ".svg", ".pdf"])
def test_plot(suffix: str, tmp_path: Path) -> None:
    """A picture of rates and latencies, the same each time."""
    pytest.importorskip("matplotlib")
    found = _explore(
        chain([3, 4, 5]), stages="1-3", bandwidth=["1MB/s", "1GB/s"], for_rate=100, for_latency=1
    )
    for name in ("a", "b"):
        found.write(tmp_path / f"{name}{suffix}")
    first, second = ((tmp_path / f"{name}{suffix}").read_bytes() for name in ("a", "b"))
    assert len(first) > 1000
    assert first.startswith({".png": b"\x89PNG", ".svg": b"<?xml", ".pdf": b"%PDF"}[suffix])
    assert suffix == ".svg" or first == second  # identifiers in SVG are random


def test_a_plot_without_matplotlib(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """One line says what to install."""
    found = _explore(chain([1]), stages=1)
    monkeypatch.setattr("onnx_pipeline.plotting.find_spec", lambda name: None)
    with pytest.raises(UsageError, match="needs matplotlib; pip install"):
        found.write(tmp_path / "x.png")


def test_files_of_costs_and_models(tmp_path: Path, light_dir: Path) -> None:
    """A path is costs if it is JSON, else a model; what is neither says so."""
    op.write_graph(chain([3, 4, 5]), tmp_path / "costs.json")
    assert [row.stages for row in op.explore(tmp_path / "costs.json", stages="1-2")] == [1, 2]
    found = op.explore(
        light_dir / "light_squeezenet.onnx", stages="1,4", profile={"cost_model": "analytic"}, device="edge"
    )
    assert found.rows[0].setup.target.name == "edge"
    with pytest.raises(InputError, match="no such file"):
        op.explore(tmp_path / "missing.json")
    with pytest.raises(InputError):
        op.explore(tmp_path)


def test_ctrl_c_keeps_rows_and_answers() -> None:
    """What is known counts, for the table and for the goals."""
    rows = _explore(chain([10] * 6), stages="1-6", for_rate=20)
    cut = replace(rows, interrupted=True, rows=rows.rows[:3])
    assert cut.to_json()["interrupted"]

    def interrupt(phase: str, fraction: float | None, message: str) -> None:
        if message.startswith("3 stages"):
            raise KeyboardInterrupt

    found = _explore(chain([10] * 6), stages="1-6", for_rate=20, progress=interrupt)
    assert found.interrupted
    assert found.rows
