"""Activations in the memory of a stage: segments, searches and bounds against the one objective."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
import pytest

import onnx_pipeline as op
from models.net import Net
from onnx_pipeline.errors import InfeasibleError
from onnx_pipeline.graph.activations import frugal_order, peak_bytes, schedule, stage_peaks
from onnx_pipeline.graph.builder import GraphBuilder
from onnx_pipeline.graph.costgraph import HOST, CostGraph
from onnx_pipeline.graph.objective import bottleneck, price_stages
from onnx_pipeline.graph.target import INFEASIBLE, Target
from onnx_pipeline.graph.ticks import NS
from onnx_pipeline.ort.session import session_options
from onnx_pipeline.partition.bounds.mincut import mincut
from onnx_pipeline.partition.bounds.windows import window_bound
from onnx_pipeline.partition.ideals.question import IdealSearch
from onnx_pipeline.partition.instance.build import build
from onnx_pipeline.partition.instance.contract import contract
from onnx_pipeline.partition.instance.hypergraph import hypergraph, place_free_sources
from onnx_pipeline.partition.portfolio import partition
from onnx_pipeline.partition.search import slicing, tapes, walk
from onnx_pipeline.partition.search.exactly import slice_exactly
from onnx_pipeline.partition.search.orders import in_degrees, kahn
from onnx_pipeline.runtime.placement import place
from tests.random_graphs import brute_force, random_graph, random_target


def cases(
    count: int, seed: int, max_nodes: int = 7, *, pins: bool = True, possible: bool = True
) -> Iterator[tuple[CostGraph, Target, int, int | None]]:
    """Yield random (graph, target with little memory, k, optimum)."""
    rng = np.random.default_rng(seed)
    while count:
        k = int(rng.integers(1, 5))
        graph = random_graph(rng, max_nodes, pins=k if pins and rng.random() < 0.2 else 0)
        target = dataclasses.replace(
            random_target(rng, activations=True), memory=float(rng.integers(20, 400))
        )
        optimum = brute_force(graph, target, k)
        if optimum is not None or not possible:
            count -= 1
            yield graph, target, k, optimum


def segment_costs(graph: CostGraph, target: Target, order: np.ndarray) -> dict[tuple[int, int], int]:
    """Cost of every segment of an order: the objective without activations, and the reference peak."""
    plain = dataclasses.replace(target, activations=False, memory=float("inf"))
    costs = {}
    for i in range(len(order)):
        for j in range(i + 1, len(order) + 1):
            inside = np.zeros(len(order), dtype=np.int64)
            inside[order[i:j]] = 1
            cost = price_stages(graph, plain, inside, 2)[1]
            held = cost.parameter_bytes + peak_bytes(graph, order[i:j])
            costs[i, j] = cost.total + target.overflow_ticks(held, NS)
    return costs


def test_segments_grow_by_one_node_at_a_time() -> None:
    """The best cut of random orders is the one found from peaks that are computed from the definition."""
    rng = np.random.default_rng(3)
    mattered = 0
    for graph, target, k, _ in cases(300, 1, 9, pins=False, possible=False):
        graph = dataclasses.replace(graph, colocation=np.full(graph.num_nodes, -1))
        inst = build(graph, target)
        order = kahn(inst, in_degrees(inst), rng.random(inst.n))
        costs = segment_costs(graph, target, order)
        best = {0: 0}
        for _ in range(k):
            for (i, j), cost in sorted(costs.items(), reverse=True):
                if i in best:
                    best[j] = min(best.get(j, 1 << 62), max(best[i], cost))
        ends = np.zeros(k, dtype=np.int64)
        tape = tapes.make_tape(inst, order)
        found, value = slicing.evaluate(inst, order, k, 0, 1 + best[inst.n] // 3, 1 << 62, ends)
        assert found
        assert value == best[inst.n]
        assert slicing.feasible(tape, k, value, ends)[0] > 0
        assert value == 0 or slicing.feasible(tape, k, value - 1, ends)[0] == 0
        assert slice_exactly(tape, 1, 0, 2 * INFEASIBLE, ends)
        assert ends[0] == inst.n
        blind = dataclasses.replace(target, activations=False)
        mattered += slicing.evaluate(build(graph, blind), order, k, 0, 1, 1 << 62, ends)[1] < value
    assert mattered > 100


def test_frugal_orders_are_topological_and_never_chosen_when_worse() -> None:
    """Stages run producers first, and a stage's peak is at most that of the graph's own order."""
    rng = np.random.default_rng(4)
    better = 0
    for _ in range(300):
        graph = random_graph(rng, 10, colocation=False)
        cut = sorted(rng.integers(0, graph.num_nodes + 1, 2))
        nodes = graph.order[cut[0] : cut[1]]
        order = frugal_order(graph, nodes)
        assert sorted(order) == sorted(nodes)
        at = {v: step for step, v in enumerate(order)}
        for t in range(graph.num_nets):
            producer = int(graph.net_producer[t])
            assert all(at[producer] < at[int(v)] for v in graph.consumers(t) if producer in at and v in at)
        own = peak_bytes(graph, nodes)
        assert schedule(graph, nodes, own) == (tuple(nodes), own)
        found = schedule(graph, nodes, own - 1)
        assert found.peak == peak_bytes(graph, found.order) <= own
        better += found.peak < own
    assert better > 15


def test_bounds_stay_below_and_partitions_above() -> None:
    """On every random net: bound <= optimum <= partition, and mostly the partition is the optimum."""
    reached = total = 0
    for graph, target, k, optimum in cases(150, 7):
        assert optimum is not None
        full = build(graph, target)
        small = contract(full)
        assert mincut(full) <= optimum
        assert mincut(small) <= optimum
        assert window_bound(small, k, optimum + 1) <= optimum
        for reverse in (False, True):
            assert not IdealSearch(small, k, reverse=reverse).ask(optimum, 10**6, lambda: False).proved_none
        try:
            result = partition(graph, k, target, time_limit=0.15, threads=1)
        except InfeasibleError:
            total += 1
            continue
        assert result.lower <= optimum <= result.upper == bottleneck(graph, target, result.stage_of, k)
        reached += result.upper == optimum
        total += 1
    assert reached > 0.9 * total


def test_small_graphs_end_in_the_optimum_of_true_peaks() -> None:
    """With activations, too: every small graph is proved optimal, or that nothing fits."""
    proved = impossible = 0
    for graph, target, k, optimum in cases(60, 12, possible=False):
        if optimum is None:
            with pytest.raises(InfeasibleError, match=r"stages? do(es)? not fit in|pinned to stage"):
                partition(graph, k, target, time_limit=10, threads=1)
            impossible += 1
            continue
        result = partition(graph, k, target, time_limit=10, threads=1)
        assert (result.upper, result.lower, result.status) == (optimum, optimum, "optimal")
        proved += 1
    assert proved > 30
    assert impossible > 3


def test_annealing_keeps_its_books() -> None:
    """After thousands of moves costs and largest needs are those of a fresh start."""
    for i, (graph, target, k, _) in enumerate(cases(80, 9, 8)):
        inst = build(graph, target)
        h, index = hypergraph(inst._replace(need=inst.usual))
        ends = np.zeros(k, dtype=np.int64)
        order = kahn(inst, in_degrees(inst), np.arange(inst.n, dtype=np.float64))
        used, _ = slicing.evaluate(inst, order, k, 0, 1, 1 << 61, ends)
        state = walk.new_walk(h, k, slicing.stages_of(order, ends, used)[index >= 0], i)
        walk.anneal(h, state, 0, 0, 1e4, 1.0, 2000, False)
        cost, top = state.cost.copy(), state.top.copy()
        walk.reset(h, state)
        assert cost.tolist() == state.cost.tolist()
        assert top.tolist() == state.top.tolist()
        stage = inst.expand(place_free_sources(inst, index, state.stage))
        for s, need in enumerate(top):
            inside = np.flatnonzero(stage == s)
            # The relaxation that bounds rest on: no stage lives on less than its neediest node.
            if len(inside):
                assert need >= 0
                assert inst.need[inst.node_of[inside]].max() <= stage_peaks(graph, stage, k)[s]


def cone() -> CostGraph:
    """Equal work; the first half is all activations, the second half all parameters."""
    b = GraphBuilder("cone", ticks_per_second=NS)
    nodes = [b.add_node(f"n{i}", 100) for i in range(16)]
    sizes = [900] * 7 + [400, 60] + [10] * 7
    b.add_net("x", HOST, nodes[:1], nbytes=900)
    for i in range(15):
        b.add_net(f"t{i}", nodes[i], [nodes[i + 1]], nbytes=sizes[i])
    b.add_net("y", nodes[15], [], nbytes=10, to_host=True)
    for i, size in enumerate([20] * 7 + [300] * 9):
        b.add_group(f"w{i}", size, [nodes[i]])
    return b.build()


def test_fits_only_when_activations_count() -> None:
    """Four devices of 2000 bytes: balanced stages overfill one unless peak(S) is part of the demand."""
    graph = cone()
    target = Target(memory=2000, memory_mode="hard")
    blind = partition(graph, 4, dataclasses.replace(target, activations=False), time_limit=2)
    assert blind.status == "optimal"

    def held(result: op.PartitionResult) -> list[int]:
        return [
            cost.parameter_bytes + peak
            for cost, (_, peak) in zip(result.costs, result.schedules, strict=True)
        ]

    assert max(held(blind)) > 2000
    result = partition(graph, 4, target, time_limit=2)
    assert max(held(result)) <= 2000
    assert [cost.activation_bytes for cost in result.costs] == [found.peak for found in result.schedules]
    with pytest.raises(InfeasibleError, match="live activations"):
        partition(graph, 4, dataclasses.replace(target, memory=1500), time_limit=1)


def test_overflow_streams_activations_too() -> None:
    """What does not fit is paid for at the link's rate."""
    graph = cone()
    target = Target(bandwidth=1e9, memory=1000)
    one = price_stages(graph, target, [0] * 16, 1)[0]
    assert one.activation_bytes == 1800
    assert one.overflow == one.parameter_bytes + 1800 - 1000


def fans(path: Path) -> None:
    """Three fans in a row, each of eight wide branches that the file lists breadth first."""
    net = Net("fans")
    x = net.input("x", [1, 8, 32, 32])
    for f in range(3):
        wide = [
            net.op("Conv", x, net.weight(64, 8, 1, 1, name=f"f{f}.e{b}.w"), name=f"f{f}.e{b}")
            for b in range(8)
        ]
        thin = [
            net.op("Conv", y, net.weight(8, 64, 1, 1, name=f"f{f}.r{b}.w"), name=f"f{f}.r{b}")
            for b, y in enumerate(wide)
        ]
        x = net.op("Sum", *thin, name=f"f{f}.sum")
    net.output(net.op("Relu", x, name="last", out="y"), [1, 8, 32, 32])
    onnx.save(net.model(), path)


def test_stages_run_in_the_order_that_fits(tmp_path: Path) -> None:
    """Where the file's order needs too much, stages are written and run in one that does not."""
    fans(tmp_path / "fans.onnx")
    wide = 4 * 64 * 32 * 32  # bytes
    limit = 3 * wide
    options = {
        "stages": 4, "cost_model": "analytic", "memory": limit, "memory_mode": "hard", "time_limit": 2.0,
    }  # fmt: skip
    document = op.split(tmp_path / "fans.onnx", output=tmp_path / "out", **options)
    held = [stage.parameter_bytes + stage.peak_activation_bytes for stage in document.stages]
    assert max(held) <= limit
    graph = op.profile(tmp_path / "fans.onnx", cost_model="analytic")
    home = {name: stage.index for stage in document.stages for name in stage.node_names}
    own = stage_peaks(graph, [home[name] for name in graph.node_names], 4)
    assert max(own) > limit
    moved = 0
    for stage in document.stages:
        names = [node.name for node in onnx.load(tmp_path / "out" / stage.file).graph.node]
        assert sorted(names) == sorted(stage.node_names)
        moved += names != [name for name in graph.node_names if name in set(names)]
        spec = place(tmp_path / "out", document)[stage.index]
        assert session_options(spec.settings).execution_order.name == "PRIORITY_BASED"
    assert moved
    assert op.verify(tmp_path / "out", model=tmp_path / "fans.onnx").ok
    free = op.split(tmp_path / "fans.onnx", output=tmp_path / "free", **options | {"memory": None})
    assert session_options(place(tmp_path / "free", free)[0].settings).execution_order.name == "DEFAULT"
