"""Constraints written into the graph."""

from __future__ import annotations

import pytest

from onnx_pipeline.errors import UsageError
from onnx_pipeline.graph.builder import GraphBuilder
from onnx_pipeline.graph.constraints import Demands, constrain, joint_pins


def test_a_node_has_one_pin() -> None:
    """Two pins of one node contradict each other, wherever they come from; the same one twice does not."""
    b = GraphBuilder("one")
    b.add_node("a", 1, pinned=1)
    b.add_node("b", 1)
    graph = b.build()
    for act in (
        lambda: constrain(graph, pins={"a": 0}),
        lambda: Demands(pins={"a": 0}).apply(graph),
        lambda: joint_pins([("b", 0), ("b", 1)]),
    ):
        with pytest.raises(UsageError, match="is pinned to stage"):
            act()
    assert constrain(graph, pins=joint_pins([("b", 1), ("b", 1), ("a", 1)])).pinned.tolist() == [1, 1]
