"""The partitioner's promises."""

from __future__ import annotations

import itertools
import json
import time
import tracemalloc
from pathlib import Path

import numpy as np
import pytest

import onnx_pipeline as op
from onnx_pipeline.errors import InfeasibleError, UsageError
from onnx_pipeline.graph.builder import GraphBuilder
from onnx_pipeline.graph.constraints import constrain
from onnx_pipeline.graph.costgraph import CostGraph
from onnx_pipeline.graph.costs_json import read_graph
from onnx_pipeline.graph.objective import check_partition
from onnx_pipeline.graph.target import Target
from onnx_pipeline.graph.ticks import NS
from onnx_pipeline.partition import portfolio
from onnx_pipeline.partition.certificate import check, recheck
from onnx_pipeline.partition.instance.instance import Instance
from onnx_pipeline.partition.least import Least
from onnx_pipeline.partition.portfolio import partition
from onnx_pipeline.partition.proving import Proving
from tests.random_graphs import brute_force, random_graph, solvable

Case = tuple[CostGraph, Target, int, Instance]


@pytest.mark.parametrize("ticks_per_second", [NS, None])
def test_partition_end_to_end(ticks_per_second: int | None) -> None:
    """The whole search on small graphs: valid, checked, optimal when it says so, however time is counted."""
    for graph, target, k in solvable(60, 5, ticks_per_second=ticks_per_second):
        result = partition(graph, k, target, time_limit=0.15, threads=1)
        optimum = brute_force(graph, target, k)
        assert check(result.partition, result.certificate) == []
        assert result.lower <= optimum <= result.upper
        if (graph.pinned < 0).all():
            assert sorted(set(result.stage_of.tolist())) == list(range(result.used))
        assert result.history[-1].bottleneck == graph.seconds(result.upper)
        if result.status == "optimal":
            assert result.upper == optimum


def test_public_call() -> None:
    """``op.partition`` is the function although ``onnx_pipeline.partition`` is a package."""
    graph, target, _ = next(solvable(1, 3))
    result = op.partition(graph, stages=2, target=target, time_limit=0.2)
    assert 0 <= result.bottleneck - graph.seconds(result.upper) < 1e-7
    assert 0 <= result.gap <= 1


@pytest.mark.parametrize("mode", ["colocated", "free"])
def test_msr_within_two_percent(msr_dir: Path, mode: str) -> None:
    """Known optima of real workloads: result within 2 %, bound never above."""
    optima = json.loads((msr_dir / "optima.json").read_text())
    checked = 0
    for name, entry in optima.items():
        graph = read_graph(msr_dir / f"{name}.json", ignore_colocation=mode == "free")
        for k in (2, 4, 8, 16):
            optimum = entry.get(mode, {}).get("optimum_ms", {}).get(str(k))
            if optimum is None:
                continue
            result = partition(graph, k, Target(host_io=False), time_limit=0.5, threads=1)
            assert check(result.partition, result.certificate) == []
            # The recorded optima have twelve digits.
            assert result.lower_bound * 1e3 <= optimum * (1 + 1e-11)
            assert result.bottleneck * 1e3 <= optimum * 1.02
            checked += 1
    assert checked >= 16


def test_interrupt_returns_the_best_so_far() -> None:
    """Ctrl-C during the search leaves a valid partition with a valid certificate."""
    rng = np.random.default_rng(1)
    graph = random_graph(rng, 8, colocation=False)
    calls = 0

    def progress(phase: str, fraction: float | None, message: str) -> None:
        nonlocal calls
        calls += 1
        if calls == 3:
            raise KeyboardInterrupt

    result = partition(graph, 2, Target(bandwidth=1e9), time_limit=5, progress=progress)
    assert result.interrupted
    assert check(result.partition, result.certificate) == []


@pytest.mark.parametrize(
    "wrong",
    [{"stages": 0}, {"stages": 2, "time_limit": 0}, {"stages": 2, "gap": 1.0}, {"stages": 2, "gap": -0.1}],
)
def test_arguments_out_of_range(wrong: dict[str, float]) -> None:
    """Nonsense arguments are refused before any work."""
    graph, target, _ = next(solvable(1, 3))
    with pytest.raises(UsageError):
        partition(graph, target=target, **wrong)


def test_empty_and_tiny_graphs() -> None:
    """No node and one node are graphs too."""
    empty = GraphBuilder("empty", ticks_per_second=NS).build()
    assert partition(empty, 3).bottleneck == 0
    one = GraphBuilder("one", ticks_per_second=NS)
    one.add_node("x", 5)
    result = partition(one.build(), 3)
    assert (result.upper, result.status, result.used) == (5, "optimal", 1)


def chain(costs: list[int], size: int = 1) -> GraphBuilder:
    """Make a path of nodes n0, n1, ... with equal tensors t0, t1, ... between them."""
    b = GraphBuilder("chain", ticks_per_second=NS)
    nodes = [b.add_node(f"n{i}", cost) for i, cost in enumerate(costs)]
    for i, (u, v) in enumerate(itertools.pairwise(nodes)):
        b.add_net(f"t{i}", u, [v], nbytes=size)
    return b


def test_constraints_are_honoured() -> None:
    """Pins, groups and tensors that must not cross hold in the result; without them it would differ."""
    graph = chain([10] * 6).build()
    target = Target(bandwidth=1e9)
    assert partition(graph, 3, target).stage_of.tolist() == [0, 0, 1, 1, 2, 2]
    pinned = constrain(graph, pins={"n0": 1})
    assert partition(pinned, 3, target).stage_of[0] == 1
    uncut = constrain(graph, uncut=["t1"], together=[["n3", "n4"]])
    result = partition(uncut, 3, target)
    assert result.status == "optimal"
    assert result.stage_of[1] == result.stage_of[2]
    assert result.stage_of[3] == result.stage_of[4]
    for wrong in ({"pins": {"n9": 1}}, {"uncut": ["t9"]}, {"together": [["n0", "zz"]]}, {"pins": {"n0": -1}}):
        with pytest.raises(UsageError):
            constrain(graph, **wrong)


def test_infeasible_says_why() -> None:
    """Contradicting pins, a pin beyond the last stage and too little memory are named."""
    graph = chain([10] * 4).build()
    with pytest.raises(InfeasibleError, match="'n2' is pinned to stage 0 and 'n1' to stage 1"):
        partition(constrain(graph, pins={"n2": 0, "n1": 1}), 2)
    with pytest.raises(UsageError, match="pinned to stage 7"):
        partition(constrain(graph, pins={"n2": 7}), 2)
    b = chain([10] * 4)
    for v in range(4):
        b.add_group(f"w{v}", 60, [v])
    heavy = b.build()
    hard = Target(bandwidth=1e9, memory=100, memory_mode="hard")
    with pytest.raises(InfeasibleError, match="240 B of parameters"):
        partition(heavy, 2, hard, time_limit=1)
    result = partition(heavy, 4, hard, time_limit=1)
    assert [cost.parameter_bytes for cost in result.costs] == [60] * 4


def test_exactly_k_stages() -> None:
    """Empty stages are filled on demand, at a price, and too few nodes are an error."""
    graph = chain([10, 10, 1, 1], size=30).build()
    free = partition(graph, 3, Target(bandwidth=1e9))
    full = partition(graph, 3, Target(bandwidth=1e9), exactly=True)
    assert free.used < 3 == full.used
    assert full.upper > free.upper
    assert (full.status, full.lower) == ("optimal", full.upper)
    assert recheck(full.partition, full.certificate, 5) == []
    with pytest.raises(InfeasibleError, match="cannot all be filled"):
        partition(graph, 9, Target(bandwidth=1e9), exactly=True)


def test_exactly_k_parts_what_contraction_would_merge() -> None:
    """Three cuts are free and the fourth is dear: nodes that no good partition parts have to."""
    b = GraphBuilder("chain", ticks_per_second=NS)
    for v in range(70):  # too many for an exhaustive search
        b.add_node(f"n{v}", 1)
        if v:
            b.add_net(f"t{v}", v - 1, [v], nbytes=0 if v in (20, 40, 60) else 1000)
    result = partition(b.build(), 5, Target(bandwidth=1e9), exactly=True, time_limit=2, threads=1)
    assert (result.used, result.upper) == (5, 1005)


@pytest.mark.parametrize("threads", [1, 2])
def test_only_solver_models_end_in_time(threads: int) -> None:
    """Without exact questions, proving still ends with the time limit."""
    graph = chain([7, 3, 9, 2, 8, 1, 9, 4], size=11).build()
    rng = np.random.default_rng(4)
    wide = random_graph(rng, 12, colocation=False)
    for each in (graph, wide):
        start = time.perf_counter()
        partition(
            each, 3, Target(bandwidth=1e9), time_limit=0.3, threads=threads, bounds=["simple", "cp-sat"]
        )
        assert time.perf_counter() - start < 3


def test_what_is_proved_infeasible_is_not_asked_again() -> None:
    """A proof that nothing fits ends the search at once, and is said as certain."""
    b = GraphBuilder("full")
    for v in range(5):
        b.add_group(f"w{v}", 60, [b.add_node(f"n{v}", 10)])
    b.add_net("t", 0, [1], nbytes=1)
    graph = b.build()
    hard = Target(bandwidth=1e9, memory=100, memory_mode="hard")
    partition(graph, 5, hard, time_limit=1)
    start = time.perf_counter()
    with pytest.raises(
        InfeasibleError, match=r"do not fit in 100 B each; .* is 120 B .*plus live activations"
    ):
        partition(graph, 4, hard, time_limit=20, threads=1)
    assert time.perf_counter() - start < 5


def test_a_tiny_time_limit_with_pins_still_has_an_answer() -> None:
    """Pins are met from the first partition on: no time to search is not "no partition"."""
    graph = constrain(chain([10] * 6, size=9).build(), pins={"n1": 1, "n4": 3})
    result = partition(graph, 5, Target(bandwidth=1e9, memory=1), time_limit=1e-6)
    assert (result.stage_of[1], result.stage_of[4]) == (1, 3)


def tight() -> tuple[CostGraph, Target]:
    """Six nodes of 60 bytes for devices of 100."""
    b = chain([10] * 6, size=9)
    for v in range(6):
        b.add_group(f"w{v}", 60, [v])
    return b.build(), Target(bandwidth=1e9, memory=100, memory_mode="hard")


def test_only_what_is_proved_is_said_as_certain(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where stages could fit and there was no time to find them, the message leaves it open."""
    graph, hard = tight()
    with pytest.raises(InfeasibleError, match="3 stages do not fit in 100 B each"):
        partition(graph, 3, hard, time_limit=1e-9)
    monkeypatch.setattr(portfolio, "least_memory", lambda *_: Least(works=120, refuted=60))
    with pytest.raises(InfeasibleError, match="no partition into 6 stages was found that fits"):
        partition(graph, 6, hard, time_limit=1e-9)


def test_what_fits_is_no_error() -> None:
    """Asking which memory would do finds a partition that fits after all."""
    graph, hard = tight()
    result = partition(graph, 6, hard, time_limit=1e-9)
    assert check_partition(graph, result.stage_of, 6) == []
    assert check(result.partition, result.certificate) == []
    assert result.used == 6


def test_broken_limits_are_no_history() -> None:
    """Partitions that break a hard limit leave no trace in figures."""
    b = chain([10] * 6, size=9)
    for v in range(6):
        b.add_group(f"w{v}", 60, [v])
    result = partition(b.build(), 3, Target(bandwidth=1e9, memory=150, memory_mode="hard"), time_limit=1)
    assert result.history
    assert max(point.bottleneck for point in result.history) < 1e-3
    assert max(point.lower_bound for point in result.history) < 1e-3


def test_more_stages_than_nodes_take_no_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """Stages that must stay empty are not searched."""
    graph = chain([10] * 6, size=9).build()
    seen: list[int] = []
    monkeypatch.setattr(
        "onnx_pipeline.partition.portfolio.Proving",
        lambda *arguments: seen.append(arguments[0].k) or Proving(*arguments),
    )
    result = partition(graph, 100_000, Target(bandwidth=1e9), time_limit=0.5)
    assert seen == [6]
    assert result.stages == 100_000
    assert check(result.partition, result.certificate) == []


def test_many_stages_under_pins_keep_memory_bounded() -> None:
    """Tables with an entry per tensor and stage are not made for a hundred thousand stages."""
    graph = constrain(chain([10] * 300, size=9).build(), pins={"n5": 20, "n250": 90_000})
    tracemalloc.start()
    try:
        partition(graph, 100_000, Target(bandwidth=1e9), time_limit=1.5, threads=1)
        assert tracemalloc.get_traced_memory()[1] < 100e6
    finally:
        tracemalloc.stop()


def test_loading_counts_against_the_time_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    """Kernels that take their time to load leave the search half of it."""
    graph = chain([7, 3, 9, 2, 8, 1, 9, 4], size=11).build()
    partition(graph, 3, time_limit=0.5)
    monkeypatch.setattr("onnx_pipeline.partition.portfolio.ensure_compiled", lambda _: time.sleep(0.6))
    seen: list[float] = []
    monkeypatch.setattr(
        "onnx_pipeline.partition.portfolio.Proving",
        lambda *arguments: seen.append(arguments[3].remaining) or Proving(*arguments),
    )
    partition(graph, 3, Target(bandwidth=1e9), time_limit=1.0)
    assert 0.3 < seen[0] <= 0.5
