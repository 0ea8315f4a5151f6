"""What is drawn of a graph: its nodes, or layers of many."""

from __future__ import annotations

import pytest

from onnx_pipeline.reporting import layers
from onnx_pipeline.reporting.layers import MOST_LAYERS, MOST_NODES, draw
from tests.reporting.subjects import chain, cut


def test_a_small_graph_is_drawn_node_by_node() -> None:
    """One layer per node below the limit, in the order of the stages."""
    drawing = draw(cut(chain([f"n{i}" for i in range(MOST_NODES - 1)]), 3).partition)
    assert not drawing.collapsed
    assert [layer.name for layer in drawing.layers] == [f"n{i}" for i in range(MOST_NODES - 1)]


def test_a_large_graph_is_drawn_by_the_finest_scopes_that_are_few_enough() -> None:
    """Layers are scopes within stages; every node is in exactly one, and a block cut in two is two layers."""
    names = [f"/model/layers.{i // 20}/part{i // 2}/op{i}" for i in range(MOST_NODES)]
    partition = cut(chain(names), 3).partition
    drawing = draw(partition)
    assert drawing.collapsed
    assert len(drawing.layers) <= MOST_LAYERS
    assert {layer.name for layer in drawing.layers} == {f"model/layers/{i}" for i in range(50)}
    assert sorted(v for layer in drawing.layers for v in layer.nodes) == list(range(MOST_NODES))
    assert all({int(partition.stage_of[v]) for v in layer.nodes} == {layer.stage} for layer in drawing.layers)
    assert len(drawing.layers) == 52  # two blocks lie across a border


def test_names_without_scopes_make_layers_of_consecutive_nodes() -> None:
    """Layers are named by their first and last node."""
    drawing = draw(cut(chain([f"n{i}" for i in range(2 * MOST_NODES)]), 4).partition)
    assert drawing.collapsed
    assert 4 < len(drawing.layers) <= MOST_LAYERS
    first = drawing.layers[0]
    assert first.name == f"n0 … n{first.nodes[-1]}"


def test_a_graph_of_too_many_edges_is_collapsed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Down to a layer per stage, if need be."""
    monkeypatch.setattr(layers, "MOST_EDGES", 1)
    drawing = draw(cut(chain([f"n{i}" for i in range(30)]), 3).partition)
    assert drawing.collapsed
    assert [layer.stage for layer in drawing.layers] == [0, 1, 2]


def test_edges_join_layers_by_tensors() -> None:
    """Each pair of layers once, with every tensor between them; none within a layer."""
    drawing = draw(cut(chain(["a", "b", "c"]), 3).partition)
    names = drawing.partition.graph.net_names
    assert {edge: [names[t] for t in nets] for edge, nets in drawing.edges.items()} == {
        (0, 1): ["t a"],
        (1, 2): ["t b"],
        (0, 2): ["skipping"],
    }
