"""No stage empty."""

from __future__ import annotations

import itertools
import time

import numpy as np
import pytest

from onnx_pipeline.errors import InfeasibleError
from onnx_pipeline.graph.builder import GraphBuilder
from onnx_pipeline.graph.objective import bottleneck, check_partition
from onnx_pipeline.graph.target import INFEASIBLE, Target
from onnx_pipeline.graph.ticks import NS
from onnx_pipeline.partition.incumbent import Incumbent
from onnx_pipeline.partition.instance.build import build
from onnx_pipeline.partition.portfolio import partition
from onnx_pipeline.partition.search.annealing import Annealer
from onnx_pipeline.partition.search.exactly import place, slice_exactly, slice_to_fill
from onnx_pipeline.partition.search.orders import in_degrees, kahn
from onnx_pipeline.partition.search.slicing import stages_of
from onnx_pipeline.partition.search.tapes import make_tape
from onnx_pipeline.partition.searching import Searching
from onnx_pipeline.partition.task import Task
from onnx_pipeline.stop import Asked, never
from tests.random_graphs import brute_force, random_graph, solvable


def test_every_stage_is_used() -> None:
    """An order is cut into k segments whenever it has k nodes, valid and no better than the optimum."""
    cut = 0
    for graph, target, k in solvable(200, 17):
        inst = build(graph, target)
        order = kahn(inst, in_degrees(inst), np.arange(inst.n, dtype=np.float64))
        ends = np.zeros(k, dtype=np.int64)
        optimum = brute_force(graph, target, k)
        if not slice_exactly(make_tape(inst, order), k, 0, 2 * INFEASIBLE, ends):
            assert inst.n < k or (inst.pin >= 0).any()
            continue
        stage = inst.expand(stages_of(order, ends, k))
        assert sorted(set(stage.tolist())) == list(range(k))
        assert not check_partition(graph, stage, k)
        assert bottleneck(graph, target, stage, k) >= optimum
        cut += 1
    assert cut > 100


def test_filling_stages_of_a_graph_that_costs_nothing() -> None:
    """From a bottleneck of 0 the search for a cut still gets to limits that can be met."""
    b = GraphBuilder("idle", ticks_per_second=NS)
    x, y = b.add_node("x", 0), b.add_node("y", 0)
    b.add_net("t", x, [y], nbytes=5)
    result = partition(b.build(), 2, Target(bandwidth=1e9), exactly=True)
    assert (result.used, result.upper, result.lower) == (2, 5, 5)
    with pytest.raises(InfeasibleError, match="cannot all be filled"):
        partition(b.build(), 3, Target(bandwidth=1e9), exactly=True)


def test_whether_stages_can_be_filled() -> None:
    """The first partition fills every stage wherever pins, groups and edges allow, and only there."""
    verdicts = set()
    rng = np.random.default_rng(23)
    for _ in range(400):
        k = int(rng.integers(1, 5))
        graph = random_graph(rng, 6, pins=k if rng.random() < 0.7 else 0)
        try:
            inst = build(graph, Target())
        except InfeasibleError:
            continue
        stage = place(inst, k, every=True)
        possible = brute_force(graph, Target(), k, exactly=True) is not None
        assert (stage is not None) == possible
        verdicts.add(possible)
        if stage is not None:
            assert set(stage.tolist()) == set(range(k))
            assert check_partition(graph, inst.expand(stage), k) == []
        free = place(inst, k)
        assert free is not None
        assert check_partition(graph, inst.expand(free), k) == []
    assert verdicts == {True, False}


def test_filling_stops_when_asked() -> None:
    """A cut and the orders that are cut: each pass looks whether time is up."""
    b = GraphBuilder("chain", ticks_per_second=NS)
    nodes = [b.add_node(f"n{v}", 1000 + v) for v in range(8)]
    for v, (x, y) in enumerate(itertools.pairwise(nodes)):
        b.add_net(f"t{v}", x, [y], nbytes=1)
    graph, target = b.build(), Target(bandwidth=1e9)
    inst = build(graph, target)
    for stop, cut in ((never, True), (lambda: True, False)):
        found = slice_to_fill(inst, np.arange(8), 3, 1, INFEASIBLE, stop)
        assert (found is not None) == cut
        known = Incumbent(graph, target, 3, exactly=True)
        first = place(inst, 3, every=True)
        assert first is not None
        known.offer(first, "first")
        searching = Searching(Task(inst, known), 0, stop)
        searching.start()
        assert (len(searching.orders) > 1) == (len(known.methods) > 1) == cut


@pytest.mark.parametrize("exactly", [False, True])
def test_no_time_at_all_still_has_an_answer(exactly: bool) -> None:
    """The first partition is there before the clock is looked at."""
    b = GraphBuilder("chain", ticks_per_second=NS)
    for v in range(6):
        b.add_node(f"n{v}", 10, pinned=2 if v == 4 else -1)
    b.add_net("t", 0, [4], nbytes=3)
    result = partition(b.build(), 4, Target(bandwidth=1e9), exactly=exactly, time_limit=1e-9)
    assert result.stage_of[4] == 2
    assert not exactly or result.used == 4


def test_annealing_keeps_every_stage_filled() -> None:
    """Emptying a stage would be cheaper, and yet it walks from a bad cut to the best one."""
    b = GraphBuilder("chain", ticks_per_second=NS)
    nodes = [b.add_node(f"n{v}", 10) for v in range(8)]
    for v, (x, y) in enumerate(itertools.pairwise(nodes)):
        b.add_net(f"t{v}", x, [y], nbytes=500 if v in (3, 5) else 1000)
    graph, target = b.build(), Target(bandwidth=1e9)
    known = Incumbent(graph, target, 3, exactly=True)
    known.offer(np.array([0, 1, 1, 1, 1, 1, 1, 2]), "first")
    Annealer(Task(build(graph, target), known)).turn(Asked(100))
    assert known.stage_of.tolist() == [0, 0, 0, 0, 1, 1, 2, 2]


def test_filling_keeps_its_time_limit() -> None:
    """Slicing stops with the clock."""
    rng = np.random.default_rng(2)
    b = GraphBuilder("long")
    nodes = [b.add_node(f"n{v}", float(rng.integers(1, 10**6))) for v in range(1500)]
    for v, (x, y) in enumerate(itertools.pairwise(nodes)):
        b.add_net(f"t{v}", x, [y, *nodes[v + 2 : v + 4]], nbytes=int(rng.integers(1, 10**6)))
    graph = b.build()
    partition(graph, 40, Target(bandwidth=1e9), exactly=True, time_limit=0.1)
    start = time.perf_counter()
    result = partition(graph, 40, Target(bandwidth=1e9), exactly=True, time_limit=0.5)
    assert time.perf_counter() - start < 1.5
    assert result.used == 40
