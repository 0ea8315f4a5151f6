"""peak(S) against a simulation that keeps a set of live tensors."""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator

import numpy as np

from onnx_pipeline.graph.activations import frugal_order, peak_bytes, schedule, stage_peaks
from onnx_pipeline.graph.builder import GraphBuilder
from onnx_pipeline.graph.costgraph import HOST, CostGraph, topological_order
from onnx_pipeline.graph.ticks import NS
from tests.random_graphs import random_graph


def simulated(graph: CostGraph, order: list[int]) -> int:
    """Step through the stage; a tensor is live while it is needed, computed from the definition."""
    inside, peak = set(order), 0
    for step, node in enumerate(order):
        done = set(order[: step + 1])
        live = 0
        for t in range(graph.num_nets):
            producer, readers = int(graph.net_producer[t]), {int(v) for v in graph.consumers(t)}
            here = producer in inside and producer != HOST
            exists = producer in done if here else bool(readers & inside)
            leaves = here and (bool(graph.net_to_host[t]) or bool(readers - inside))
            waiting = (readers & inside) - set(order[:step])
            if exists and (leaves or waiting or (producer == node and readers)):
                live += int(graph.net_bytes[t])
        peak = max(peak, live)
    return peak


def test_against_simulation() -> None:
    """Random graphs, random stages: both agree on every one."""
    rng = random.Random(5)
    for seed in range(150):
        graph = random_graph(np.random.default_rng(seed))
        order = topological_order(graph)
        cut = sorted(rng.choices(range(graph.num_nodes + 1), k=2))
        stage = order[cut[0] : cut[1]]
        assert peak_bytes(graph, stage) == simulated(graph, stage), seed


def test_a_chain_holds_two_tensors() -> None:
    """Operand and result of the largest step, not the sum of all."""
    b = GraphBuilder("chain", ticks_per_second=NS)
    nodes = [b.add_node(f"n{i}", 1) for i in range(4)]
    b.add_net("x", HOST, [nodes[0]], nbytes=1)
    for i, size in enumerate((10, 20, 5)):
        b.add_net(f"t{i}", nodes[i], [nodes[i + 1]], nbytes=size)
    b.add_net("y", nodes[3], [], nbytes=2, to_host=True)
    graph = b.build()
    assert stage_peaks(graph, [0, 0, 0, 0], 1) == [30]
    # t1 leaves stage 0, so it stays to its end; stage 1 begins with it.
    assert stage_peaks(graph, [0, 0, 1, 1], 2) == [30, 25]


def test_order_matters() -> None:
    """Two branches one after the other need less than both at once."""
    b = GraphBuilder("branches", ticks_per_second=NS)
    source, one, two, one2, two2, sink = (b.add_node(name, 1) for name in "sabcdt")
    b.add_net("s", source, [one, two], nbytes=1)
    b.add_net("big1", one, [one2], nbytes=100)
    b.add_net("big2", two, [two2], nbytes=100)
    b.add_net("small1", one2, [sink], nbytes=1)
    b.add_net("small2", two2, [sink], nbytes=1)
    graph = b.build()
    assert peak_bytes(graph, [source, one, two, one2, two2, sink]) == 201
    assert peak_bytes(graph, [source, one, one2, two, two2, sink]) == 102


def test_empty_stage() -> None:
    """Nothing is live in an empty stage."""
    assert peak_bytes(random_graph(np.random.default_rng(0)), []) == 0


def test_an_order_that_fits_is_found_on_small_stages() -> None:
    """Against all orders: a schedule fits wherever one does, and states its own peak."""
    rng = np.random.default_rng(31)
    better = 0
    for _ in range(150):
        graph = random_graph(rng, 6, colocation=False)
        nodes = list(graph.order)
        least = min(peak_bytes(graph, order) for order in orders(graph))
        for room in (least - 1, least):
            found = schedule(graph, nodes, room)
            assert found.peak == peak_bytes(graph, found.order)
            assert (found.peak <= room) == (room == least)
        frugal = peak_bytes(graph, frugal_order(graph, nodes))
        better += least < min(frugal, peak_bytes(graph, nodes))
    assert better > 2


def orders(graph: CostGraph) -> Iterator[tuple[int, ...]]:
    """All topological orders."""
    before = {
        (int(graph.net_producer[t]), int(v))
        for t in range(graph.num_nets)
        for v in graph.consumers(t)
        if graph.net_producer[t] >= 0
    }
    for order in itertools.permutations(range(graph.num_nodes)):
        place = {v: i for i, v in enumerate(order)}
        if all(place[u] < place[v] for u, v in before):
            yield order
