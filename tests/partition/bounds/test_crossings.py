"""What all stages pay together, against brute force."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from onnx_pipeline.graph.builder import GraphBuilder
from onnx_pipeline.graph.costgraph import CostGraph
from onnx_pipeline.graph.objective import bottleneck
from onnx_pipeline.graph.target import Target
from onnx_pipeline.graph.ticks import NS
from onnx_pipeline.partition.bounds import crossings as crossings_module
from onnx_pipeline.partition.bounds import windows as windows_module
from onnx_pipeline.partition.bounds.crossings import Crossings
from onnx_pipeline.partition.bounds.windows import reach_by_cuts, reach_by_sets
from onnx_pipeline.partition.instance.build import build
from onnx_pipeline.partition.instance.instance import Instance
from tests.random_graphs import brute_force, contracted

Case = tuple[CostGraph, Target, int, Instance]


def refuted(count: int, seed: int) -> int:
    """How often the crossings refute the optimum itself."""
    wrong = 0
    for graph, target, k, inst in contracted(count, seed, 7):
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
