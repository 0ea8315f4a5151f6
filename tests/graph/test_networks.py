"""Cost graphs as networkx graphs, and back."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import networkx
import numpy as np
import pytest

import onnx_pipeline as op
from onnx_pipeline.graph.costs_json import graph_to_json
from tests.random_graphs import random_graph
from tests.test_planned import two_branches


def test_random_graphs_survive() -> None:
    """Every field of 300 graphs with every feature, to the tick and in the same order."""
    rng = np.random.default_rng(3)
    for i in range(300):
        pins = 3 if i % 3 == 0 else 0
        graph = random_graph(rng, pins=pins, ticks_per_second=None if i % 2 else 10**9)
        graph.meta["cost_model"] = "made up"
        if i % 4 == 0:
            extra = rng.integers(0, 50, graph.num_nets)
            graph = replace(graph, net_time=rng.integers(0, 1 << 40, graph.num_nets), net_extra=extra)
        if i % 5 == 0 and graph.num_nets:
            kinds = [(None, None), ("float32", (2, 3)), ("string", None), ("int64", ())]
            graph = replace(graph, net_types=tuple(kinds[t % 4] for t in range(1, graph.num_nets + 1)))
        again = op.CostGraph.from_networkx(graph.to_networkx())
        assert graph_to_json(again) == graph_to_json(graph)


def test_files_survive(tmp_path: Path) -> None:
    """What networkx saves and copies, it gives back: names, groups and the host's tensors included."""
    view = two_branches().to_networkx()
    assert {(u, v): d["tensor"] for u, v, d in view.edges(data=True)} == {
        ("source", "left"): "s",
        ("source", "right"): "s",
        ("left", "join"): "l",
        ("right", "join"): "r",
    }
    assert [entry["tensor"] for entry in view.graph["tensors"]] == ["x", "y"]
    again = networkx.node_link_graph(networkx.node_link_data(view, edges="edges"), edges="edges")
    graph = op.CostGraph.from_networkx(again)
    assert graph_to_json(graph) == graph_to_json(two_branches())


def plain() -> networkx.DiGraph:
    """Three nodes that are no texts, without tensor names."""
    graph = networkx.DiGraph()
    for node in range(3):
        graph.add_node(node, work=np.float32(0.5), parameter_bytes=100 * node)
    graph.add_edges_from([(0, 1), (0, 2)], bytes=np.int64(8))
    return graph


def test_a_plain_graph() -> None:
    """An edge is a tensor of its own, unless names say that several are one."""
    graph = op.CostGraph.from_networkx(plain())
    assert graph.node_names == ("0", "1", "2")
    assert graph.net_names == ("0 -> 1", "0 -> 2")
    assert graph.seconds(int(graph.work.sum())) == 1.5
    assert graph.group_bytes.tolist() == [0, 100, 200]
    named = plain()
    networkx.set_edge_attributes(named, "t", "tensor")
    shared = op.CostGraph.from_networkx(named)
    assert (shared.num_nets, shared.consumers(0).tolist()) == (1, [1, 2])
    link = op.Target(bandwidth=8)  # 1 s per tensor
    for given, paid in ((graph, 2), (shared, 1)):
        assert op.stage_costs(given, link, [0, 1, 1], 2)[1].input == paid * given.ticks_per_second


def test_attributes_of_other_names() -> None:
    """Work, sizes, tensors and parameters may be called otherwise; parallel edges are several tensors."""
    graph = networkx.MultiDiGraph(name="other")
    graph.add_node("a", seconds=1.0, weights=7)
    graph.add_node("b", seconds=2.0)
    for blob in ("t", "u"):
        graph.add_edge("a", "b", size=4.0, blob=blob)
    found = op.CostGraph.from_networkx(
        graph, work="seconds", bytes="size", tensor="blob", parameters="weights"
    )
    assert (found.name, found.net_names, found.net_bytes.tolist()) == ("other", ("t", "u"), [4, 4])
    assert found.group_bytes.tolist() == [7]


def node(**fields: Any) -> Callable[[networkx.DiGraph], object]:
    """Change node 1."""
    return lambda graph: graph.nodes[1].update(fields)


def edge(**fields: Any) -> Callable[[networkx.DiGraph], object]:
    """Change the edge from 0 to 2."""
    return lambda graph: graph.edges[0, 2].update(fields)


def about(**fields: Any) -> Callable[[networkx.DiGraph], object]:
    """Change what belongs to the graph."""
    return lambda graph: graph.graph.update(fields)


WRONG = {
    "no work": (lambda g: g.nodes[1].pop("work"), "node '1' has no attribute 'work'; set it to a finite"),
    "work": (
        node(work="1ms"),
        "node '1': attribute 'work' must be a finite number of seconds >= 0",
    ),
    "negative": (node(work=-1), "node '1': attribute 'work' must be"),
    "endless": (node(work=float("inf")), "node '1': attribute 'work' must be"),
    "parameters": (node(parameter_bytes=True), "node '1': attribute 'parameter_bytes' must be"),
    "pin": (node(stage=1.5), "node '1': attribute 'stage' must be a whole number >= 0, got 1.5"),
    "group": (node(colocation="left"), "node '1': attribute 'colocation' must be a whole number"),
    "no bytes": (
        lambda g: g.edges[0, 2].pop("bytes"),
        "edge '0' -> '2' has no attribute 'bytes'; set it",
    ),
    "bytes": (
        edge(bytes=1.5),
        "edge '0' -> '2': attribute 'bytes' must be a whole number of bytes >= 0",
    ),
    "sizes": (
        lambda g: (networkx.set_edge_attributes(g, "t", "tensor"), edge(bytes=9)(g)),
        "edge '0' -> '2': attribute 'bytes' is 9, 8 on another edge of 't'",
    ),
    "same name": (lambda g: g.add_node("1", work=1), "two nodes are called '1'"),
    "cycle": (lambda g: g.add_edge(2, 0, bytes=1), "the graph has a cycle through or before node '0'"),
    "tensors": (about(tensors="x"), "the graph: attribute 'tensors' must be a list of dictionaries, got 'x'"),
    "reader": (
        about(tensors=[{"tensor": "x", "bytes": 1, "consumers": ["0"]}]),
        "tensors[0] of the graph: there is no node '0'",
    ),
    "ticks": (about(ticks_per_second=3), "the graph: attribute 'ticks_per_second' must be a power of ten"),
}


@pytest.mark.parametrize(("change", "message"), WRONG.values(), ids=WRONG)
def test_errors_name_the_place(change: Callable[[networkx.DiGraph], object], message: str) -> None:
    """Node or edge, the attribute, and what it should be."""
    graph = plain()
    change(graph)
    with pytest.raises(op.InputError) as raised:
        op.CostGraph.from_networkx(graph)
    assert message in str(raised.value)


@pytest.mark.parametrize("given", [networkx.Graph(), 3, {}])
def test_what_is_no_directed_graph(given: Any) -> None:
    """Edges need a direction."""
    with pytest.raises(op.InputError, match="expected a directed graph of networkx, got"):
        op.CostGraph.from_networkx(given)
