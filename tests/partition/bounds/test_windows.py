"""Stage windows hold every partition that keeps the limit."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import numpy as np
import pytest

from onnx_pipeline.graph.builder import GraphBuilder
from onnx_pipeline.graph.costgraph import CostGraph
from onnx_pipeline.graph.objective import bottleneck, check_partition
from onnx_pipeline.graph.target import INFEASIBLE, Target
from onnx_pipeline.graph.ticks import NS
from onnx_pipeline.partition.bounds import windows as windows_module
from onnx_pipeline.partition.bounds.windows import reach_by_cuts, reach_by_sets, windows
from onnx_pipeline.partition.instance.build import build
from onnx_pipeline.partition.instance.instance import Instance
from tests.random_graphs import random_graph, random_target

Case = tuple[CostGraph, Target, int, Instance]


def chains(graph: CostGraph, k: int) -> Iterator[tuple[int, ...]]:
    """Every partition into k stages."""
    for stages in itertools.product(range(k), repeat=graph.num_nodes):
        if not check_partition(graph, stages, k):
            yield stages


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
    pinned = inst._replace(pin=np.array([-1, 2, -1, -1]))
    assert windows(pinned, reach, 4, 2).first.tolist() == [0, 2, 2, 2]
    assert windows(pinned, reach, 4, 2).last.tolist() == [2, 2, 3, 3]
