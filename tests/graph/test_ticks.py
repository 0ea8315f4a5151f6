"""Counting time: fine enough that rounding cannot be seen, coarse enough that nothing overflows."""

from __future__ import annotations

import math
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import onnx_pipeline as op
from onnx_pipeline.errors import InputError, UsageError
from onnx_pipeline.graph.builder import GraphBuilder
from onnx_pipeline.graph.costgraph import CostGraph
from onnx_pipeline.graph.costs_json import read_graph, write_graph
from onnx_pipeline.graph.objective import countable, stage_costs
from onnx_pipeline.graph.target import Target
from onnx_pipeline.graph.ticks import MOST_TICKS, NS, TICKS, WORK_TICKS, choose_ticks, whole
from onnx_pipeline.partition.portfolio import partition
from tests.random_graphs import brute_force, random_graph


def chain(works: list[float], nbytes: int = 0, **options: float) -> CostGraph:
    """Nodes in a row with a tensor of ``nbytes`` between neighbours; times in nanoseconds."""
    b = GraphBuilder("chain")
    for i, work in enumerate(works):
        b.add_node(f"v{i}", work)
        if i:
            b.add_net(f"t{i}", i - 1, [i], nbytes=nbytes, **options)
    return b.build()


def exact_cost(graph: CostGraph, target: Target, works: list[float], inside: range) -> Fraction:
    """Cost of a segment of a chain in seconds, without any rounding."""
    last = graph.num_nodes - 1
    cuts = (inside[0] > 0) + (inside[-1] < last)
    transfer = Fraction(target.transfer_latency) + Fraction(int(graph.net_bytes[0])) / Fraction(
        target.bandwidth
    )
    work = sum((Fraction(works[v]) for v in inside), Fraction(0)) / NS
    return work + cuts * transfer + Fraction(target.stage_overhead)


@settings(max_examples=60, deadline=None)
@given(
    works=st.lists(st.floats(20, 200), min_size=4, max_size=12),
    nbytes=st.integers(1, 10_000),
    bandwidth=st.floats(1e9, 1e12),
    scale=st.sampled_from([1e-3, 1.0, 1e6, 1e12]),
)
def test_rounding_stays_below_a_millionth(
    works: list[float], nbytes: int, bandwidth: float, scale: float
) -> None:
    """Nodes of 20 to 200 ns, or any other size: the reported bottleneck is the unrounded one to 1e-6.

    It is never below it by more than the rounding of the work, and the searched one never above it.
    """
    works = [work * scale for work in works]
    target = Target(bandwidth=bandwidth, transfer_latency=3.3e-9 * scale, stage_overhead=7.7e-9 * scale)
    graph = countable(chain(works, nbytes), target, 2)
    cut = len(works) // 2
    stage_of = [int(v >= cut) for v in range(len(works))]
    exact = max(exact_cost(graph, target, works, part) for part in (range(cut), range(cut, len(works))))
    down = max(cost.total for cost in stage_costs(graph, target, stage_of, 2))
    up = max(cost.total for cost in stage_costs(graph, target, stage_of, 2, up=True))
    tick = Fraction(1, graph.ticks_per_second)
    assert (
        down * tick
        <= exact * (1 + Fraction(1, 10**14))
        <= (up + len(works)) * tick * (1 + Fraction(1, 10**13))
    )
    assert up - down <= 4
    assert abs(up * tick - exact) <= exact / 10**6


def test_nanoseconds_would_not_do() -> None:
    """The case that made ticks finer: small nodes lose a third of a percent in whole nanoseconds."""
    works = [20.99] * 8
    fine = partition(chain(works), 2, time_limit=1)
    coarse = partition(replace(chain(works).counted(NS)), 2, time_limit=1)
    assert fine.bottleneck == pytest.approx(83.96e-9, rel=1e-9)
    assert coarse.bottleneck < 0.96 * fine.bottleneck


def test_a_graph_chooses_its_ticks() -> None:
    """Whatever the work is, it is counted in at most 2**46 ticks, and in more than a tenth of that."""
    for seconds in (1e-3, 7.0, 123.456, 5e8):
        ticks = choose_ticks(seconds)
        assert ticks in TICKS
        assert WORK_TICKS / 10 < seconds * ticks <= WORK_TICKS
    assert choose_ticks(1e-9) == TICKS[-1]
    assert choose_ticks(0) == NS
    with pytest.raises(UsageError, match="counted"):
        choose_ticks(1e14)
    with pytest.raises(InputError, match="counted"):
        chain([1e308])


def test_whole_numbers_stay() -> None:
    """3 ns + 0.1 ns/byte * 10 bytes is 4 ns both ways, whatever floats make of it."""
    target = Target(bandwidth=1e10, transfer_latency=3e-9)
    for up in (False, True):
        assert target.transfer_ticks(np.array([0, 10, 30]), NS, up=up).tolist() == [3, 4, 6]
    assert whole([2.5, 0.1], up=True).tolist() == [3, 1]
    assert whole([2.5, 0.1]).tolist() == [2, 0]
    with pytest.raises(UsageError, match="too long"):
        whole([float(MOST_TICKS)])


def test_the_file_keeps_every_tick(tmp_path: Path) -> None:
    """Times that are no whole nanoseconds come back to the tick."""
    rng = np.random.default_rng(5)
    works = (rng.random(50) * 1e6).tolist()
    b = GraphBuilder("fine")
    for i, work in enumerate(works):
        b.add_node(f"v{i}", work)
        if i:
            b.add_net(f"t{i}", i - 1, [i], nbytes=3, time=work / 3, extra=work / 7)
    graph = b.build()
    write_graph(graph, tmp_path / "costs.json")
    again = read_graph(tmp_path / "costs.json")
    assert again.ticks_per_second == graph.ticks_per_second > NS
    assert again.work.tolist() == graph.work.tolist()
    assert again.net_time is not None
    assert graph.net_time is not None
    assert again.net_time.tolist() == graph.net_time.tolist()
    assert again.net_extra is not None
    assert graph.net_extra is not None
    assert again.net_extra.tolist() == graph.net_extra.tolist()


def test_large_costs_are_counted_in_longer_ticks() -> None:
    """Costs of 2**62 ns, and links that need years, end in a right answer or in one line."""
    b = GraphBuilder("huge")
    for i in range(3):
        b.add_node(f"v{i}", 2**62)
        if i:
            b.add_net(f"t{i}", i - 1, [i], nbytes=2**40)
    graph = b.build()
    result = partition(graph, 2, Target(bandwidth=1.0), time_limit=2)
    optimum = brute_force(result.graph, result.target, 2)
    assert (result.upper, result.lower, result.status) == (optimum, optimum, "optimal")
    assert result.bottleneck == pytest.approx(3 * 2**62 / 1e9, rel=1e-6)  # a cut would take 2**40 s
    with pytest.raises(op.UsageError, match="counted"):
        partition(graph, 2, Target(bandwidth=1e-12), time_limit=2)


def test_sums_beyond_the_safe_range_are_counted_in_longer_ticks() -> None:
    """Nodes and tensors of up to 2**57 ns each: nothing overflows, and no certificate is false."""
    rng = np.random.default_rng(34)
    for _ in range(40):
        graph = random_graph(rng, 8, colocation=False)
        if graph.num_nodes < 3:
            continue
        scale = 2**57 // int(graph.work.max())
        large = replace(graph, work=graph.work * scale)
        target = Target(bandwidth=1e9 / scale)
        longer = countable(large, target, 3)
        assert longer.ticks_per_second < large.ticks_per_second
        ticks = brute_force(longer, target, 3)
        assert ticks is not None
        optimum = longer.seconds(ticks)
        result = partition(large, 3, target, time_limit=0.5, threads=1)
        assert result.lower_bound <= optimum * (1 + 1e-9)
        assert result.bottleneck >= optimum * (1 - 1e-6)
        if result.status == "optimal":
            assert result.bottleneck == pytest.approx(optimum, rel=1e-6)


def test_longer_ticks_keep_bounds_valid() -> None:
    """Every cost is rounded down when a graph is counted in longer ticks."""
    graph = chain([1.2345678, 9.87654321], 10, time=5.4321, extra=0.6789)
    coarse = graph.counted(10**10)
    assert coarse.ticks_per_second == 10**10
    assert coarse.work.tolist() == [12, 98]
    assert graph.counted(graph.ticks_per_second * 10) is graph
    assert math.isclose(graph.seconds(int(graph.work[0])), 1.2345678e-9, rel_tol=1e-6)
