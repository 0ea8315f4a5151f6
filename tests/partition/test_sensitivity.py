"""What costs that are off do to a partition."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from onnx_pipeline.cli.entry import main
from onnx_pipeline.errors import UsageError
from onnx_pipeline.graph.builder import GraphBuilder
from onnx_pipeline.graph.costs_json import write_graph
from onnx_pipeline.graph.target import Target
from onnx_pipeline.graph.ticks import NS
from onnx_pipeline.partition.portfolio import partition
from onnx_pipeline.partition.sensitivity import sensitivity


def chain(works: list[int]) -> GraphBuilder:
    """Nodes in a row with free tensors."""
    b = GraphBuilder("chain", ticks_per_second=NS)
    for i, work in enumerate(works):
        b.add_node(f"n{i}", work)
    for i in range(len(works) - 1):
        b.add_net(f"t{i}", i, [i + 1], nbytes=0)
    return b


def test_forced_partition_never_loses() -> None:
    """One heavy node decides: the bottleneck moves with it, no rival ever wins."""
    result = partition(chain([10, 100_000, 10]).build(), 3, Target(), time_limit=2, threads=1)
    found = sensitivity(result, perturb=0.2, samples=10, seed=3, time_limit=5, threads=1)
    assert found.wins == 0
    assert found.regret == (0.0,) * 10
    low, high = found.bottleneck_seconds[0] * 1e9, found.bottleneck_seconds[-1] * 1e9
    assert 80_000 <= low < high <= 120_000


def test_close_race_is_often_lost() -> None:
    """Many equal nodes: with errors another cut is often better, and never by more than errors allow."""
    graph = chain([1000] * 9).build()
    result = partition(graph, 4, Target(), time_limit=2, threads=1)
    found = sensitivity(result, perturb=0.3, samples=12, time_limit=6, threads=1)
    assert found.wins > 0
    assert 0 <= found.regret[0] <= found.regret[-1] <= 1.3 / 0.7
    again = sensitivity(result, perturb=0.3, samples=12, time_limit=6, threads=1)
    assert again == found


def test_rivals_fill_every_stage_too() -> None:
    """Where no stage may stay empty, a partition with fewer stages is no rival."""
    b = GraphBuilder("costly", ticks_per_second=NS)
    for i, work in enumerate([1000, 1000, 1]):
        b.add_node(f"n{i}", work)
    for i in range(2):
        b.add_net(f"t{i}", i, [i + 1], nbytes=5000)
    result = partition(b.build(), 3, Target(bandwidth=1e9), time_limit=2, threads=1, exactly=True)
    found = sensitivity(result, perturb=0.1, samples=4, time_limit=4, threads=1)
    assert found.regret == (0.0,) * 4


@pytest.mark.parametrize(("perturb", "samples"), [(0.0, 5), (1.0, 5), (0.1, 0)])
def test_bad_arguments(perturb: float, samples: int) -> None:
    """Fractions lie between 0 and 1, and something must be sampled."""
    result = partition(chain([1, 2]).build(), 2, Target(), time_limit=1, threads=1)
    with pytest.raises(UsageError):
        sensitivity(result, perturb=perturb, samples=samples)


def test_command_line(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """`plan --perturb` reports quantiles and the share of lost samples, in JSON and in words."""
    write_graph(chain(np.arange(1000, 1400, 50).tolist()).build(), tmp_path / "c.json")
    arguments = ["plan", str(tmp_path / "c.json"), "-k", "3", "--perturb", "0.1", "--samples", "4"]
    assert main([*arguments, "--json", "-q", "-o", str(tmp_path / "p.json")]) == 0
    found = json.loads(capfd.readouterr().out)["sensitivity"]
    assert (found["perturb"], found["samples"]) == (0.1, 4)
    times = found["bottleneck_seconds"]
    assert times["min"] <= times["p50"] <= times["max"]
    assert 0 <= found["other_partition_wins"] <= 1
    assert main(["show", str(tmp_path / "p.json")]) == 0
    assert "sensitivity" in capfd.readouterr().out
