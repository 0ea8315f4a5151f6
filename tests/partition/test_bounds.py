"""Solver bounds and stage windows against brute force, and checks that these tests can fail."""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

from benchmarks.generators import layered
from onnx_pipeline.errors import InfeasibleError, UsageError
from onnx_pipeline.graph.builder import GraphBuilder
from onnx_pipeline.graph.costgraph import CostGraph
from onnx_pipeline.graph.objective import bottleneck, check_partition, stage_costs
from onnx_pipeline.graph.target import INFEASIBLE, Target
from onnx_pipeline.graph.ticks import NS
from onnx_pipeline.partition.bounds import crossings as crossings_module
from onnx_pipeline.partition.bounds import windows as windows_module
from onnx_pipeline.partition.bounds.crossings import Crossings
from onnx_pipeline.partition.bounds.models import exact_cpsat as exact_module
from onnx_pipeline.partition.bounds.models.blocks import ScaledCosts, scaled
from onnx_pipeline.partition.bounds.models.bottleneck import bottleneck as bottleneck_mip
from onnx_pipeline.partition.bounds.models.exact import exact_model
from onnx_pipeline.partition.bounds.models.exact_cpsat import exact_cpsat
from onnx_pipeline.partition.bounds.models.exact_mip import exact_mip
from onnx_pipeline.partition.bounds.models.guess import bottleneck_guess
from onnx_pipeline.partition.bounds.models.linear import LinearModel, run_interruptibly
from onnx_pipeline.partition.bounds.solve import solve
from onnx_pipeline.partition.bounds.windows import Windows, reach_by_cuts, reach_by_sets, windows
from onnx_pipeline.partition.instance.build import build
from onnx_pipeline.partition.instance.contract import contract
from onnx_pipeline.partition.instance.instance import Instance
from tests.random_graphs import brute_force, random_graph, random_target

Case = tuple[CostGraph, Target, int, Instance]


def cases(count: int, seed: int, max_nodes: int = 6, *, possible: bool = True) -> Iterator[Case]:
    """Yield random (graph, target, k, contracted instance) with every feature."""
    rng = np.random.default_rng(seed)
    while count:
        k = int(rng.integers(1, 5))
        graph = random_graph(rng, max_nodes, pins=k if rng.random() < 0.4 else 0)
        target = random_target(rng)
        if possible and brute_force(graph, target, k) is None:
            continue
        # Pins that contradict colocation groups are noticed by build already.
        with contextlib.suppress(InfeasibleError):
            inst = contract(build(graph, target))
            count -= 1
            yield graph, target, k, inst


def chains(graph: CostGraph, k: int) -> Iterator[tuple[int, ...]]:
    """Every partition into k stages."""
    for stages in itertools.product(range(k), repeat=graph.num_nodes):
        if not check_partition(graph, stages, k):
            yield stages


def rounding(inst: Instance) -> int:
    """How many nanoseconds the overflow of a stage loses at most by rounding every group on its own."""
    return len(inst.group_bytes) + 1 if len(inst.group_bytes) and inst.ns_per_byte >= 0 else 0


def test_exact_cpsat_is_the_optimum() -> None:
    """The bound is the brute-force optimum, exactly where nothing is rounded, and the partition has it."""
    for graph, target, k, inst in cases(160, 1):
        optimum = brute_force(graph, target, k)
        seen: list[int] = []
        bounds: list[int] = []

        def solution(stages: np.ndarray, c: Case = (graph, target, k, inst), out: list[int] = seen) -> None:
            assert not check_partition(c[0], c[3].expand(stages), c[2])
            out.append(bottleneck(c[0], c[1], c[3].expand(stages), c[2]))

        answer = exact_cpsat(inst, k, 0, INFEASIBLE, None, 30.0, on_solution=solution, on_bound=bounds.append)
        assert answer.finished
        assert optimum - rounding(inst) <= answer.bound <= optimum
        assert max(bounds, default=0) <= optimum
        assert answer.stage_of is not None
        assert seen[-1] <= optimum + rounding(inst)
        # Nothing is better than the optimum: the solver must find the question impossible.
        none = exact_cpsat(inst, k, 0, optimum - 1, None, 30.0)
        assert none.finished
        assert none.bound <= optimum
        if not rounding(inst):
            assert none.bound == optimum
            assert none.stage_of is None


def test_hints_are_a_solution() -> None:
    """The columns' hints that a known partition gives satisfy every row, and the solver accepts them."""
    for graph, target, k, inst in cases(60, 9):
        found = exact_cpsat(inst, k, 0, INFEASIBLE, None, 30.0).stage_of
        assert found is not None
        value = bottleneck(graph, target, inst.expand(found), k)
        costs = scaled(inst, 1 << 40)
        allowed = windows(inst, reach_by_sets(inst), k, value)
        model = exact_model(inst, k, costs, allowed, 0, value, found).model
        for columns, coefficients, limit in model.rows:
            assert model.value(zip(coefficients, columns, strict=True)) <= limit
        assert value - rounding(inst) <= costs.bound(model.hints[model.objective]) <= value
        assert exact_cpsat(inst, k, 0, value, found, 30.0).bound <= value


def test_coarse_costs_stay_below() -> None:
    """Rounding to few digits gives a smaller bound, never a larger one."""
    lost = 0
    for graph, target, k, inst in cases(100, 2):
        optimum = brute_force(graph, target, k)
        answer = exact_cpsat(inst, k, 0, optimum, None, 30.0, resolution=60)
        assert answer.bound <= optimum
        lost += answer.bound < optimum
    assert lost


def violations(count: int, seed: int, bound: Callable[[Instance, int, int], int]) -> int:
    """How often a bound, given (instance, k, upper), exceeds the optimum."""
    wrong = 0
    for graph, target, k, inst in cases(count, seed):
        optimum = brute_force(graph, target, k)
        wrong += bound(inst, k, optimum) > optimum
    return wrong


def _dearer_nets(inst: Instance, resolution: int) -> ScaledCosts:
    costs = scaled(inst, resolution)
    return dataclasses.replace(costs, net=[c + 1 for c in costs.net])


def _less_room(inst: Instance, resolution: int) -> ScaledCosts:
    costs = scaled(inst, resolution)
    return dataclasses.replace(costs, room=max(0, costs.room - 20))


def _rounded_up(inst: Instance, resolution: int) -> ScaledCosts:
    costs = scaled(inst, 60)
    return dataclasses.replace(costs, work=[-(-w // costs.scale) for w in inst.work.tolist()])


@pytest.mark.parametrize("mutant", [_dearer_nets, _less_room, _rounded_up])
def test_wrong_costs_are_noticed(
    mutant: Callable[[Instance, int], ScaledCosts], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The comparison with brute force fails for a model that is only slightly wrong."""

    def exact(inst: Instance, k: int, upper: int) -> int:
        return exact_cpsat(inst, k, 0, upper, None, 30.0).bound

    assert violations(40, 3, exact) == 0
    monkeypatch.setattr(exact_module, "scaled", mutant)
    assert violations(40, 3, exact) > 0


def three_blocks(graph: CostGraph, target: Target, k: int, index: int | None) -> int:
    """Optimal T of the bottleneck model, or of the guess model of one index, without memory limit."""
    best = 1 << 60
    for blocks in chains(graph, 3):
        a, s, c = (cost.total - cost.overhead for cost in stage_costs(graph, target, blocks, 3))
        shares = [(a + c, k - 1)] if index is None else [(a, index), (c, k - 1 - index)]
        if any(cost and not stages for cost, stages in shares):
            continue
        best = min(best, max([s, *(-(-cost // stages) for cost, stages in shares if stages)]))
    return best + target.overhead_ticks(NS) if graph.num_nodes else 0


def test_paper_models_by_enumeration() -> None:
    """The bottleneck and guess models have the value that their definition has."""
    for graph, target, k, _ in cases(50, 4, 5):
        free = dataclasses.replace(target, memory=float("inf"))
        graph = dataclasses.replace(graph, pinned=np.full(graph.num_nodes, -1))
        inst = build(graph, free)
        upper = bottleneck(graph, free, [0] * graph.num_nodes, k)
        plain = bottleneck_mip(inst, k, 30.0, upper)
        guess = bottleneck_guess(inst, k, 30.0, upper)
        assert plain == three_blocks(graph, free, k, None)
        assert guess == min(three_blocks(graph, free, k, b) for b in range(k))
        assert plain <= guess


@pytest.mark.parametrize("solver", ["cp-sat", "highs", "scip"])
def test_every_solver_stays_below(solver: str, capfd: pytest.CaptureFixture[str]) -> None:
    """All models with every solver: at most the optimum, ordered, the exact one tight; nothing is printed."""
    for graph, target, k, inst in cases(30, 5):
        optimum = brute_force(graph, target, k)
        plain = bottleneck_mip(inst, k, 30.0, optimum, solver=solver)
        guess = bottleneck_guess(inst, k, 30.0, optimum, solver=solver)
        exact = exact_mip(inst, k, 0, optimum, 30.0, solver=solver)
        assert plain <= guess + 1
        assert max(plain, guess, exact) <= optimum
        assert exact >= optimum - rounding(inst)
    assert capfd.readouterr().out == ""


def test_windows_hold_every_partition(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every partition lies within the windows at its own bottleneck; sets, cuts and paths in that order."""
    tighter = checked = 0
    rng = np.random.default_rng(6)
    for _ in range(150):
        k = int(rng.integers(1, 5))
        graph = random_graph(rng, 5, colocation=False, pins=k if rng.random() < 0.4 else 0)
        target = random_target(rng)
        inst = build(graph, target)
        sets = reach_by_sets(inst)
        cuts = reach_by_cuts(inst, sets)
        with monkeypatch.context() as patch:
            patch.setattr(windows_module, "SET_NODES", 0)
            paths = reach_by_sets(inst)
        for weak, strong in ((paths, sets), (sets, cuts)):
            assert (weak.before <= strong.before).all()
            assert (weak.after <= strong.after).all()
        tighter += bool((sets.before < cuts.before).any())
        for stages in itertools.islice(chains(graph, k), 0, None, max(1, 3 ** (graph.num_nodes - 3))):
            value = bottleneck(graph, target, stages, k)
            if value >= INFEASIBLE:
                continue
            for reach in (paths, sets, cuts):
                window = windows(inst, reach, k, value)
                assert (window.first[inst.node_of] <= stages).all()
                assert (stages <= window.last[inst.node_of]).all()
            checked += bool((window.last - window.first < k - 1).any())
    assert tighter
    assert checked


def test_windows_that_are_too_narrow_are_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """One stage too many cut off, and the exact bound exceeds the optimum."""

    def narrow(inst: Instance, *args: object) -> Windows:
        first, last = windows(inst, *args)  # type: ignore[arg-type]
        return Windows(np.minimum(first + 1, last), last)

    monkeypatch.setattr(exact_module, "windows", narrow)
    assert violations(60, 7, lambda inst, k, upper: exact_cpsat(inst, k, 0, upper, None, 30.0).bound) > 0


def test_windows_of_a_chain() -> None:
    """A chain of four unit nodes on four stages at T = 1 leaves one stage each; at T = 2 two to four."""
    b = GraphBuilder("chain", ticks_per_second=NS)
    nodes = [b.add_node(f"n{i}", 1) for i in range(4)]
    for u, v in itertools.pairwise(nodes):
        b.add_net(f"t{u}", u, [v], nbytes=0)
    inst = build(b.build(), Target())
    reach = reach_by_sets(inst)
    assert (
        windows(inst, reach, 4, 1).first.tolist() == windows(inst, reach, 4, 1).last.tolist() == [0, 1, 2, 3]
    )
    assert windows(inst, reach, 4, 2).first.tolist() == [0, 0, 1, 1]
    assert windows(inst, reach, 4, 2).last.tolist() == [2, 2, 3, 3]
    assert windows(inst, reach, 3, 1).empty
    pinned = dataclasses.replace(inst, pin=np.array([-1, 2, -1, -1]))
    assert windows(pinned, reach, 4, 2).first.tolist() == [0, 2, 2, 2]
    assert windows(pinned, reach, 4, 2).last.tolist() == [2, 2, 3, 3]


def refuted(count: int, seed: int) -> int:
    """How often the crossings refute the optimum itself."""
    wrong = 0
    for graph, target, k, inst in cases(count, seed, 7):
        optimum = brute_force(graph, target, k)
        for reach in (reach_by_sets(inst), reach_by_cuts(inst, reach_by_sets(inst))):
            wrong += Crossings(inst, k, reach).refutes(optimum)
            # The optimum must not be in sight of the search, or it could not go wrong.
            wrong += Crossings(inst, k, reach).bound(0, 2 * optimum + 100) > optimum
    return wrong


def test_crossings_stay_below() -> None:
    """No optimum is refuted."""
    assert refuted(600, 11) == 0


@pytest.mark.parametrize(
    "mutant",
    [
        ("_of_host", lambda inst: np.ones(inst.m, dtype=np.bool_)),  # tensors that nothing cuts are paid, too
        ("parameters", lambda inst: ([x + 40 for x in windows_module.parameters(inst)[0]], 0)),
    ],
)
def test_wrong_crossings_are_noticed(
    mutant: tuple[str, Callable[..., object]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The comparison with brute force fails when a payment counts more than it may."""
    monkeypatch.setattr(crossings_module, *mutant)
    assert refuted(600, 11) > 0


def test_a_skip_counts_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """A tensor that crosses every border is paid twice in all, not twice at each."""
    b = GraphBuilder("skip", ticks_per_second=NS)
    nodes = [b.add_node(f"n{i}", 10) for i in range(40)]
    for u, v in itertools.pairwise(nodes):
        b.add_net(f"t{u}", u, [v], nbytes=1)
    b.add_net("skip", nodes[0], [nodes[-1]], nbytes=10)
    graph, target = b.build(), Target(bandwidth=1e9)
    best = bottleneck(graph, target, np.repeat(np.arange(8), 5), 8)
    found = Crossings(build(graph, target), 8, reach_by_sets(build(graph, target)))
    assert not found.refutes(best)
    minimum_cut = crossings_module._Network.minimum_cut
    full = crossings_module._network(build(graph, target))

    def in_full_everywhere(self: Any, before: Any, after: Any, share: Any) -> tuple[int, Any]:
        value, cut = minimum_cut(full, before, after, 2 * build(graph, target).net_cost[full.net] * 1024)
        return value, cut

    monkeypatch.setattr(crossings_module._Network, "minimum_cut", in_full_everywhere)
    assert found.refutes(best)


def test_crossings_of_two_chains() -> None:
    """Two long chains side by side: balance needs a cut through both, which no node alone forces."""
    b = GraphBuilder("chains", ticks_per_second=NS)
    source, sink = b.add_node("source", 10), b.add_node("sink", 10)
    for side in "ab":
        chain = [b.add_node(f"{side}{i}", 10) for i in range(10)]
        for u, v in itertools.pairwise([source, *chain, sink]):
            b.add_net(f"{side}{u}", u, [v], nbytes=7)
    graph, target = b.build(), Target(bandwidth=1e9)
    inst = build(graph, target)
    reach = reach_by_cuts(inst, reach_by_sets(inst))
    # 220 of work, and two tensors of 7 that leave one stage and enter the other.
    assert Crossings(inst, 2, reach).refutes((220 + 4 * 7) // 2 - 1)
    assert not Crossings(inst, 2, reach).refutes((220 + 4 * 7) // 2)
    assert windows_module.window_bound(inst, 2, 1000, reach) < (220 + 4 * 7) // 2


def test_impossible_demands() -> None:
    """Where pins and a hard memory limit leave no partition, the exact model says so, and only there."""
    impossible = 0
    for graph, target, k, inst in cases(120, 8, possible=False):
        optimum = brute_force(graph, target, k)
        answer = exact_cpsat(inst, k, 0, INFEASIBLE, None, 30.0)
        assert answer.finished
        assert (answer.bound == INFEASIBLE) == (optimum is None) == (answer.stage_of is None)
        impossible += optimum is None
    assert impossible > 5


def test_stop_ends_the_solver() -> None:
    """A stop from outside ends a search that would take hours; the bound is valid, Ctrl-C comes through."""
    inst = contract(build(layered(200, 10), Target(bandwidth=16e9, host_io=False)))
    upper = int(inst.work.sum())
    asked = 0

    def third() -> bool:
        nonlocal asked
        asked += 1
        return asked >= 3

    answer = exact_cpsat(inst, 8, 0, upper, np.zeros(inst.n, dtype=np.int64), 1e6, stop=third)
    assert not answer.finished
    assert 0 <= answer.bound <= upper

    def interrupt() -> bool:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        exact_cpsat(inst, 8, 0, upper, None, 1e6, stop=interrupt)


def test_errors_of_the_solver_thread_arrive() -> None:
    """What fails in the solver's thread fails in the caller's."""

    def fail() -> None:
        raise RuntimeError("broken")

    with pytest.raises(RuntimeError, match="broken"):
        run_interruptibly(fail, lambda: None, lambda: False)


def test_constants_fold() -> None:
    """Rows without columns are decided at once, and an unknown solver is named."""
    model = LinearModel()
    model.objective = model.column(upper=3)
    model.at_most([(2, -2), (-1, -2)], 1)  # 2 - 1 <= 1
    assert not model.rows
    assert not model.contradiction
    assert solve(model, "cp-sat", 5.0).bound == 0
    model.at_most([(2, -2)], 1)
    for solver in ("cp-sat", "highs"):
        outcome = solve(model, solver, 5.0)
        assert outcome.infeasible
        assert outcome.bound > 3
    with pytest.raises(UsageError, match="no solver 'abacus'"):
        solve(model, "abacus", 5.0)


def test_empty_graph() -> None:
    """No node, no cost."""
    inst = build(GraphBuilder("empty", ticks_per_second=NS).build(), Target(stage_overhead=1e-9))
    assert bottleneck_mip(inst, 2, 5.0, 0) == 0
    assert bottleneck_guess(inst, 2, 5.0, 0) == 0
    assert exact_cpsat(inst, 2, 0, 0).bound == 0
    assert exact_mip(inst, 2, 0, 0) == 0
