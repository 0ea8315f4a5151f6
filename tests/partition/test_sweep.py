"""One search for many numbers of stages: every row is what a search of its own finds, validly certified."""

from __future__ import annotations

import itertools
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from onnx_pipeline.errors import InfeasibleError, UsageError
from onnx_pipeline.graph.builder import GraphBuilder
from onnx_pipeline.graph.costgraph import CostGraph
from onnx_pipeline.graph.costs_json import read_graph
from onnx_pipeline.graph.objective import bottleneck, check_partition
from onnx_pipeline.graph.target import Target
from onnx_pipeline.graph.ticks import NS
from onnx_pipeline.parameters import SearchParams, TargetParams
from onnx_pipeline.partition.certificate import check
from onnx_pipeline.partition.portfolio import solve
from onnx_pipeline.partition.result import PartitionResult
from onnx_pipeline.partition.sweep import Refusal, Sweep, sweep
from tests.random_graphs import brute_force, random_graph, random_target

QUICK = SearchParams(time_limit=5.0, threads=1)


def _row(found: Sweep, stages: int) -> PartitionResult | Refusal:
    return next(row for row in found.rows if row.stages == stages)


def _whole(row: PartitionResult | Refusal) -> PartitionResult:
    assert isinstance(row, PartitionResult)
    return row


@pytest.mark.parametrize("seed", range(60))
def test_rows_are_optimal_on_random_graphs(seed: int) -> None:
    """Against brute force, with memory limits and activations; what does not fit is refused with a proof."""
    rng = np.random.default_rng(seed)
    graph = random_graph(rng, 7, ticks_per_second=None if seed % 2 else 10**9)
    target = random_target(rng, activations=seed % 3 == 0)
    numbers = range(1, 6)
    try:
        found = sweep(graph, numbers, target, QUICK)
    except InfeasibleError:
        pytest.skip("the colocation groups contradict each other")
    assert [row.stages for row in found.rows] == list(numbers)
    for row in found.rows:
        best = brute_force(graph, target, row.stages)
        if isinstance(row, Refusal):
            assert best is None
            assert row.proved
            continue
        assert (row.lower, row.upper) == (best, best)
        assert row.upper == bottleneck(graph, target, row.stage_of, row.stages)
        assert check(row.partition, row.certificate) == []


@pytest.mark.parametrize("seed", range(20))
def test_pins_and_stages_to_fill(seed: int) -> None:
    """Pins hold in every row, and rows that leave no stage empty are searched one by one."""
    rng = np.random.default_rng(1000 + seed)
    graph = random_graph(rng, 7, pins=2)
    exactly = seed % 2 == 0
    numbers = range(2, 5)
    try:
        found = sweep(graph, numbers, Target(bandwidth=1e9), replace(QUICK, exactly=exactly))
    except InfeasibleError:
        pytest.skip("pins and colocation groups contradict each other")
    for row in found.rows:
        best = brute_force(graph, Target(bandwidth=1e9), row.stages, exactly=exactly)
        if isinstance(row, Refusal):
            assert best is None
            continue
        assert row.upper == best
        assert not check_partition(graph, row.stage_of, row.stages)
        assert check(row.partition, row.certificate) == []
        assert not exactly or row.used == row.stages


@pytest.mark.parametrize("name", ["bert_l-3_operator", "gnmt_layer", "resnet50_layer", "resnet50_operator"])
def test_rows_equal_plans_of_their_own(name: str, msr_dir: Path) -> None:
    """On recorded graphs: the same bottleneck and bound wherever the separate search proves its own."""
    graph = read_graph(msr_dir / f"{name}.json", ignore_colocation=True)
    target = TargetParams().target(graph)
    found = sweep(graph, range(1, 25), target, QUICK)
    for stages in (1, 2, 3, 8, 16, 24):
        row, alone = _whole(_row(found, stages)), solve(graph, stages, target, QUICK)
        assert row.upper <= alone.upper
        if alone.status == "optimal":
            assert (row.upper, row.lower) == (alone.upper, alone.lower)
        assert check(row.partition, row.certificate) == []


def _chain(works: list[int]) -> CostGraph:
    builder = GraphBuilder("chain", ticks_per_second=NS)
    nodes = [builder.add_node(f"v{i}", work) for i, work in enumerate(works)]
    for i, (a, b) in enumerate(itertools.pairwise(nodes)):
        builder.add_net(f"t{i}", a, [b], nbytes=1)
    return builder.build()


def test_rows_improve_with_stages() -> None:
    """Partitions go up the list and bounds down: neither ever gets worse on the way."""
    rng = np.random.default_rng(0)
    graph = random_graph(rng, 30, colocation=False)
    found = sweep(
        graph, range(1, 20), Target(bandwidth=1e9), replace(QUICK, bounds=("simple",), time_limit=0.02)
    )
    rows = [_whole(row) for row in found.rows]
    assert all(a.upper >= b.upper for a, b in itertools.pairwise(rows))
    assert all(a.lower >= b.lower for a, b in itertools.pairwise(rows))


def test_a_bound_for_more_stages_says_so_and_is_checked() -> None:
    """Bounds that go down the list carry their number of stages, with which they are recomputed."""
    graph = _chain([10] * 8)
    row = _whole(_row(sweep(graph, [2, 4], Target(), QUICK), 2))
    assert row.lower == 40
    simple = next(bound for bound in row.bounds if bound.method == "simple")
    for stages, ticks, problem in (
        (2, 40, ""),
        (4, 20, ""),
        (4, 40, "reproduced"),
        (1, 20, "for 1 stages only"),
    ):
        claimed = replace(row.certificate, bounds=(replace(simple, ticks=ticks, stages=stages),))
        problems = check(row.partition, claimed)
        assert problems == [] if not problem else any(problem in each for each in problems)


def test_a_bound_goes_down_the_list() -> None:
    """Without exact questions of their own, fewer stages live on the bound of more."""
    rows = [_whole(row) for row in sweep(_chain([10] * 5), [3, 4], Target(), QUICK).rows]
    assert [(row.lower, row.upper) for row in rows] == [(20, 20), (20, 20)]
    assert [(b.method, b.ticks, b.stages) for b in rows[0].bounds if b.stages] == [("ideals", 20, 4)]
    for row in rows:
        assert [b.from_json(b.to_json(), row.graph.ticks_per_second) for b in row.bounds] == list(row.bounds)


def test_what_does_not_fit_is_refused() -> None:
    """A hard limit refuses few stages with a proof, as the search for one number does with an error."""
    builder = GraphBuilder("heavy")
    nodes = [builder.add_node(f"v{i}", 10) for i in range(4)]
    for i, node in enumerate(nodes):
        builder.add_group(f"w{i}", 100, [node])
    for i in range(3):
        builder.add_net(f"t{i}", nodes[i], [nodes[i + 1]], nbytes=1)
    graph = builder.build()
    target = Target(memory=120, memory_mode="hard", activations=False)
    found = sweep(graph, [3, 4, 5], target, QUICK)
    assert [isinstance(row, Refusal) for row in found.rows] == [True, False, False]
    refused = found.rows[0]
    assert isinstance(refused, Refusal)
    assert refused.proved
    with pytest.raises(InfeasibleError):
        solve(graph, 3, target, QUICK)


def test_ctrl_c_keeps_the_rows(msr_dir: Path) -> None:
    """An interrupt leaves rows with valid certificates; those that were not finished say so."""
    graph = read_graph(msr_dir / "bert_l-3_operator.json", ignore_colocation=True)
    told = 0

    def interrupt(phase: str, fraction: float | None, message: str) -> None:
        nonlocal told
        told += 1
        if told == 40:
            raise KeyboardInterrupt

    found = sweep(graph, range(1, 33), TargetParams().target(graph), QUICK, interrupt)
    assert found.interrupted
    assert found.rows
    for row in found.rows:
        whole = _whole(row)
        assert check(whole.partition, whole.certificate) == []
        assert whole.status == "optimal" or whole.interrupted


def test_numbers_of_stages() -> None:
    """Numbers come in any order and repeat; one out of range is refused, a pin beyond the fewest, too."""
    graph = _chain([1, 2, 3])
    assert [row.stages for row in sweep(graph, [3, 1, 3, 9], Target(), QUICK).rows] == [1, 3, 9]
    with pytest.raises(UsageError, match="stages must be"):
        sweep(graph, [0, 2], Target(), QUICK)
    builder = GraphBuilder("pinned")
    builder.add_node("v", 1, pinned=2)
    with pytest.raises(UsageError, match="pinned to stage 2"):
        sweep(builder.build(), [2, 4], Target(), QUICK)
    assert sweep(graph, [], Target(), QUICK).rows == ()


def test_an_empty_graph_and_one_node() -> None:
    """Nothing to divide is divided."""
    for graph in (GraphBuilder("none").build(), _chain([7])):
        for row in sweep(graph, [1, 2, 64], Target(), QUICK).rows:
            assert _whole(row).status == "optimal"
