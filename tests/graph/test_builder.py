"""Wrong types are refused where they are given."""

from __future__ import annotations

from typing import Any

import pytest

from onnx_pipeline.errors import InputError
from onnx_pipeline.graph.builder import MOST_BYTES, GraphBuilder


@pytest.mark.parametrize(
    ("method", "arguments"),
    [
        ("add_node", {"name": 3, "work": 1}),
        ("add_node", {"name": "n", "work": "x"}),
        ("add_node", {"name": "n", "work": True}),
        ("add_node", {"name": "n", "work": 1, "pinned": 0.5}),
        ("add_node", {"name": "n", "work": 1, "colocation": "a"}),
        ("add_net", {"name": "t", "producer": "a", "consumers": [0], "nbytes": 1}),
        ("add_net", {"name": "t", "producer": 0, "consumers": ["a"], "nbytes": 1}),
        ("add_net", {"name": "t", "producer": 0, "consumers": [], "nbytes": 1.5}),
        ("add_net", {"name": "t", "producer": 0, "consumers": [], "nbytes": 1, "time": "2"}),
        ("add_group", {"name": "w", "nbytes": "1", "nodes": [0]}),
        ("add_group", {"name": "w", "nbytes": 1, "nodes": [None]}),
    ],
)
def test_wrong_types(method: str, arguments: dict[str, Any]) -> None:
    """Names are text, indices and bytes whole numbers, times numbers."""
    with pytest.raises(InputError, match="must be"):
        getattr(GraphBuilder("g"), method)(**arguments)


def test_more_bytes_than_can_be_added_up() -> None:
    """Sums of sizes must fit into 64 bits."""
    b = GraphBuilder("g")
    b.add_node("a", 1)
    for i in range(2):
        b.add_group(f"w{i}", MOST_BYTES // 2 + 1, [0])
    with pytest.raises(InputError, match=r"more than 1\.00 EiB"):
        b.build()
