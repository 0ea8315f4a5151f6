"""The partitioner against brute force, and its promises."""

from __future__ import annotations

import dataclasses
import itertools
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import onnx_pipeline as op
from benchmarks.generators import layered
from onnx_pipeline.errors import InfeasibleError, UsageError
from onnx_pipeline.graph.builder import GraphBuilder
from onnx_pipeline.graph.constraints import constrain
from onnx_pipeline.graph.costgraph import CostGraph
from onnx_pipeline.graph.costs_json import read_graph
from onnx_pipeline.graph.objective import bottleneck, check_partition
from onnx_pipeline.graph.target import INFEASIBLE, Target
from onnx_pipeline.graph.ticks import NS
from onnx_pipeline.partition.bounds.mincut import mincut
from onnx_pipeline.partition.bounds.models.bottleneck import bottleneck as bottleneck_mip
from onnx_pipeline.partition.bounds.simple import simple
from onnx_pipeline.partition.certificate import check
from onnx_pipeline.partition.ideals import question
from onnx_pipeline.partition.instance.build import build
from onnx_pipeline.partition.instance.coarsen import coarsen
from onnx_pipeline.partition.instance.contract import contract
from onnx_pipeline.partition.instance.hypergraph import hypergraph, place_free_sources
from onnx_pipeline.partition.instance.instance import Instance
from onnx_pipeline.partition.instance.quotient import quotient
from onnx_pipeline.partition.portfolio import partition
from onnx_pipeline.partition.result import Bound, Certificate
from onnx_pipeline.partition.search import annealing, slicing, tapes
from onnx_pipeline.partition.search.beam import beam
from onnx_pipeline.partition.search.brkga import BrkgaParams, brkga
from onnx_pipeline.partition.search.orders import in_degrees, kahn, keys_of, starting_orders
from onnx_pipeline.stop import never
from tests.random_graphs import brute_force, random_graph, random_target


def cases(
    count: int, seed: int, max_nodes: int = 7, ticks_per_second: int | None = NS
) -> Iterator[tuple[CostGraph, Target, int]]:
    """Yield random (graph, target, k) with every feature, where constraints can be met."""
    rng = np.random.default_rng(seed)
    while count:
        k = int(rng.integers(1, 5))
        pins = k if rng.random() < 0.3 else 0
        graph = random_graph(rng, max_nodes, pins=pins, ticks_per_second=ticks_per_second)
        target = random_target(rng)
        if brute_force(graph, target, k) is not None:
            count -= 1
            yield graph, target, k


def best_cut(inst: Instance, graph: CostGraph, target: Target, order: np.ndarray, k: int) -> int | None:
    """Best bottleneck of one order by trying all cut positions with the one objective."""
    n = inst.n
    best = {0: 0}
    for b in range(k):
        step = dict(best)
        for i, value in best.items():
            for j in range(i + 1, n + 1):
                if any(inst.pin[v] not in (-1, b) for v in order[i:j]):
                    continue
                inside = np.zeros(n, dtype=np.int64)
                inside[order[i:j]] = 1
                stage = inst.expand(inside)
                cost = op.stage_costs(graph, target, stage, 2)[1].total
                step[j] = min(step.get(j, max(value, cost)), max(value, cost))
        best = step
    return best[n] if best[n] < INFEASIBLE else None


def test_slicing_is_optimal_for_its_order() -> None:
    """Threshold slicing finds the best cut of each order, exactly and in objective terms."""
    rng = np.random.default_rng(1)
    for graph, target, k in cases(250, 11):
        inst = build(graph, target)
        g = tapes.arrays(inst)
        order = kahn(g, in_degrees(g), rng.random(inst.n))
        expected = best_cut(inst, graph, target, order, k)
        if expected is None:
            continue
        ends = np.zeros(k, dtype=np.int64)
        found, value = slicing.evaluate(g, order, k, 0, max(1, expected // 3), 1 << 60, ends)
        stage = inst.expand(slicing.stages_of(order, ends, found))
        assert value == expected == bottleneck(graph, target, stage, k)
        tape = tapes.make_tape(g, order)
        # At the value there is a cut, one nanosecond below there is none.
        assert slicing.feasible(tape, k, expected, ends)[0] > 0
        assert expected == 0 or slicing.feasible(tape, k, expected - 1, ends)[0] == 0
        assert slicing.slice_order(tape, k, 0, expected - 1, ends)[0] == 0


@pytest.mark.parametrize("chunk", range(4))
def test_brute_force(chunk: int) -> None:
    """Over 2,000 random nets: contraction keeps the optimum, and bound <= optimum <= result."""
    for i, (graph, target, k) in enumerate(cases(500, 100 + chunk)):
        optimum = brute_force(graph, target, k)
        full = build(graph, target)
        small = contract(full)
        assert _optimum(small, graph, target, k) == optimum
        assert simple(full, k) <= optimum
        assert mincut(full) <= optimum
        assert mincut(small) <= optimum
        if i % 5 == 0 and small.n:
            assert bottleneck_mip(small, k, 5.0, optimum, threads=1) <= optimum
        g = tapes.arrays(small)
        ends = np.zeros(k, dtype=np.int64)
        for _, order in starting_orders(g, np.random.default_rng(i), 1):
            found, value = slicing.evaluate(g, order, k, 0, max(1, optimum), 1 << 60, ends)
            stage = small.expand(slicing.stages_of(order, ends, found))
            assert not check_partition(graph, stage, k)
            assert value == bottleneck(graph, target, stage, k) >= optimum


def _optimum(inst: Instance, graph: CostGraph, target: Target, k: int) -> int:
    """Brute force over partitions that respect an instance's merged nodes."""
    merged = dataclasses.replace(graph, colocation=inst.node_of)
    return brute_force(merged, target, k)


@pytest.mark.parametrize("chunk", range(4))
def test_ideal_search_is_exact(chunk: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """From either end, with and without contraction: a partition at the optimum, none below it."""
    # Tiny chunks pause and resume the enumeration all the time.
    monkeypatch.setattr(question, "CHUNK", 7)
    for i, (graph, target, k) in enumerate(cases(500, 300 + chunk, 8)):
        optimum = brute_force(graph, target, k)
        inst = build(graph, target)
        if i % 2:
            inst = contract(inst)
        search = question.IdealSearch(inst, k, reverse=i % 4 < 2)
        answer = search.ask(optimum, 10**6, lambda: False)
        assert answer.stage_of is not None
        stage = inst.expand(answer.stage_of)
        assert not check_partition(graph, stage, k)
        assert bottleneck(graph, target, stage, k) == optimum
        assert search.ask(optimum - 1, 10**6, lambda: False).proved_none


def test_beam_finds_partitions() -> None:
    """What the beam returns is valid and within the limit, and it mostly finds the optimum."""
    found = tried = 0
    for graph, target, k in cases(150, 91, 8):
        inst = build(graph, target)
        if (inst.pin >= 0).any():
            continue
        optimum = brute_force(graph, target, k)
        search = question.IdealSearch(inst, k, reverse=tried % 2 == 1)
        assert beam(search, optimum - 1, 0.5, never) is None
        stage = beam(search, optimum, 0.5, never)
        tried += 1
        if stage is not None:
            found += 1
            assert not check_partition(graph, inst.expand(stage), k)
            assert bottleneck(graph, target, inst.expand(stage), k) == optimum
    assert found > 0.8 * tried > 80


def test_annealing_keeps_its_books() -> None:
    """After thousands of moves every cost is what the objective says, and limits are kept."""
    improved = 0
    for i, (graph, target, k) in enumerate(cases(150, 77, 8)):
        inst = build(graph, target)
        h, index = hypergraph(inst)
        g = tapes.arrays(inst)
        ends = np.zeros(k, dtype=np.int64)
        order = kahn(g, in_degrees(g), np.arange(inst.n, dtype=np.float64))
        used, _ = slicing.evaluate(g, order, k, 0, 1, 1 << 61, ends)
        start = slicing.stages_of(order, ends, used)[index >= 0]
        walk = annealing.new_walk(h, k, start, i)
        optimum = brute_force(graph, target, k)
        first = int(walk.cost.max())
        found = annealing.anneal(h, walk, optimum * 9 // 10, optimum, 100.0, 1.0, 3000)
        stage = inst.expand(place_free_sources(inst, index, walk.stage))
        assert not check_partition(graph, stage, k)
        costs = [cost.total for cost in op.stage_costs(graph, target, stage, k)]
        assert costs == walk.cost.tolist()
        assert found == (max(costs) <= optimum)
        improved += found and optimum < first
    assert improved > 10


@pytest.mark.parametrize("ticks_per_second", [NS, None])
def test_partition_end_to_end(ticks_per_second: int | None) -> None:
    """The whole search on small graphs: valid, checked, optimal when it says so, however time is counted."""
    for graph, target, k in cases(60, 5, ticks_per_second=ticks_per_second):
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
    graph, target, _ = next(cases(1, 3))
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


def test_same_seed_same_partition() -> None:
    """Two runs agree bit for bit when no time limit is reached."""
    rng = np.random.default_rng(2)
    graph = random_graph(rng, 8)
    inst = build(graph, Target(bandwidth=1e9))
    g = tapes.arrays(inst)
    runs = []
    for _ in range(2):
        trace: list[tuple[int, bytes]] = []
        brkga(
            g,
            3,
            0,
            [],
            1 << 50,
            np.random.default_rng(9),
            lambda value, order, trace=trace: trace.append((value, order.tobytes())),
            lambda: False,
            BrkgaParams(population=8),
            max_generations=20,
        )
        runs.append(trace)
    assert runs[0] == runs[1] != []


def test_contraction_shrinks_real_graphs(msr_dir: Path) -> None:
    """The rules do what they were measured to do on real operator graphs."""
    graph = read_graph(msr_dir / "bert_l-12_operator.json", ignore_colocation=True)
    small = contract(build(graph, Target(host_io=False)))
    assert graph.num_nodes == 783
    assert small.n < 260


def test_colocation_takes_in_what_lies_between() -> None:
    """A group that is not convex pulls the path between its members along."""
    b = GraphBuilder("g", ticks_per_second=NS)
    nodes = [b.add_node(f"n{i}", 10, colocation=1 if i in (0, 2) else -1) for i in range(4)]
    for i in range(3):
        b.add_net(f"t{i}", nodes[i], [nodes[i + 1]], nbytes=1)
    inst = build(b.build(), Target())
    assert inst.n == 2
    assert inst.node_of[0] == inst.node_of[1] == inst.node_of[2] != inst.node_of[3]


@given(st.integers(0, 2**32 - 1))
@settings(max_examples=60, deadline=None)
def test_quotient_keeps_the_objective(seed: int) -> None:
    """Merging nodes that share a stage anyway changes no segment cost."""
    rng = np.random.default_rng(seed)
    graph, target = random_graph(rng, colocation=False), random_target(rng)
    inst = build(graph, target)
    g = tapes.arrays(inst)
    order = kahn(g, in_degrees(g), rng.random(inst.n))
    # Merge random runs of consecutive positions: convex, so a partition of runs is one of the graph.
    runs = np.cumsum(rng.random(inst.n) < 0.6)
    label = np.empty(inst.n, dtype=np.int64)
    label[order] = runs
    small = quotient(inst, label)
    h = tapes.arrays(small)
    ends = np.zeros(3, dtype=np.int64)
    coarse = np.arange(small.n)  # labels rise along the order
    found, value = slicing.evaluate(h, coarse, 3, 0, 1, 1 << 60, ends)
    stage = small.expand(slicing.stages_of(coarse, ends, found))
    assert value == bottleneck(graph, target, stage, 3)


@given(st.integers(0, 2**32 - 1))
@settings(max_examples=60, deadline=None)
def test_orders_are_topological_and_decode_their_keys(seed: int) -> None:
    """Every starting order is topological, and Kahn on its keys gives it back."""
    rng = np.random.default_rng(seed)
    inst = build(random_graph(rng), random_target(rng))
    g = tapes.arrays(inst)
    heads, tails = inst.edges()
    for _, order in starting_orders(g, rng):
        position = np.empty(inst.n, dtype=np.int64)
        position[order] = np.arange(inst.n)
        assert sorted(order.tolist()) == list(range(inst.n))
        assert (position[heads] < position[tails]).all()
        assert (kahn(g, in_degrees(g), keys_of(order)) == order).all()


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


def test_certificate_check_rejects_mutations() -> None:
    """Every wrong number or partition in a result is found."""
    graph, target, _ = next(cases(1, 21))
    result = partition(graph, 2, target, time_limit=0.2)
    assert check(result.partition, result.certificate) == []
    n = graph.num_nodes
    for method in ("bottleneck", "simple"):
        wrong = Certificate((Bound(method, result.upper + 1),))
        assert check(result.partition, wrong) != [], method
    weak = next(bound for bound in result.bounds if bound.method == "simple")
    assert weak.ticks < result.upper  # or the next line shows nothing
    assert check(result.partition, Certificate((dataclasses.replace(weak, ticks=weak.ticks + 1),))) != []
    for stage_of in (np.full(n, 2), result.stage_of[:-1], np.arange(n)[::-1] % 2):
        other = dataclasses.replace(result.partition, stage_of=stage_of)
        assert check(other, result.certificate) != [], stage_of


def test_certificate_check_repeats_the_crossings() -> None:
    """A bound by crossings is found again, one a little above is not."""
    graph, target = layered(150, 6), Target(bandwidth=1e9)
    result = partition(graph, 6, target, time_limit=1, bounds=("windows", "crossings"), threads=1)
    found = {bound.method: bound for bound in result.bounds}
    assert found["crossings"].ticks > max(found[name].ticks for name in ("simple", "windows"))
    assert check(result.partition, result.certificate) == []
    forged = (found["crossings"].ticks + 9 * result.upper) // 10
    wrong = Certificate((dataclasses.replace(found["crossings"], ticks=forged),))
    assert check(result.partition, wrong) == ["the crossings bound cannot be reproduced"]


@pytest.mark.parametrize(
    "wrong",
    [{"stages": 0}, {"stages": 2, "time_limit": 0}, {"stages": 2, "gap": 1.0}, {"stages": 2, "gap": -0.1}],
)
def test_arguments_out_of_range(wrong: dict[str, float]) -> None:
    """Nonsense arguments are refused before any work."""
    graph, target, _ = next(cases(1, 3))
    with pytest.raises(UsageError):
        partition(graph, target=target, **wrong)


@pytest.mark.parametrize("field", ["population", "elite", "mutants", "bias", "restart_after"])
def test_brkga_parameters_are_checked(field: str) -> None:
    """A parameter out of range is named."""
    with pytest.raises(UsageError, match=field):
        BrkgaParams(**{field: -1})


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
    with pytest.raises(InfeasibleError, match="240 bytes"):
        partition(heavy, 2, hard, time_limit=1)
    result = partition(heavy, 4, hard, time_limit=1)
    assert [cost.parameter_bytes for cost in result.costs] == [60] * 4


def test_exactly_k_stages() -> None:
    """Empty stages are filled on demand, at a price, and too few nodes are an error."""
    graph = chain([10, 10, 1, 1], size=30).build()
    free = partition(graph, 3, Target(bandwidth=1e9))
    full = partition(graph, 3, Target(bandwidth=1e9), exactly=True)
    assert free.used < 3 == full.used
    assert full.upper > free.upper >= full.lower
    with pytest.raises(InfeasibleError, match="cannot all be filled"):
        partition(graph, 9, Target(bandwidth=1e9), exactly=True)


def test_coarse_slicing_is_valid() -> None:
    """A large graph sliced at the borders of runs gives a partition of the graph itself."""
    graph = layered(600, 6)
    target = Target(bandwidth=1e9)
    inst = build(graph, target)
    g = tapes.arrays(inst)
    order = kahn(g, in_degrees(g), np.arange(inst.n, dtype=np.float64))
    coarse = coarsen(inst, g, order, runs=80)
    assert 40 <= coarse.n <= 90
    ends = np.zeros(8, dtype=np.int64)
    line = np.arange(coarse.n)
    used, value = slicing.evaluate(tapes.arrays(coarse), line, 8, 1, 1, 1 << 60, ends)
    stage = coarse.expand(slicing.stages_of(line, ends, used))
    assert not check_partition(graph, stage, 8)
    assert bottleneck(graph, target, stage, 8) == value
