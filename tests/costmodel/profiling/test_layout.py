"""Which tensors a cut forces out of the blocked layout."""

from __future__ import annotations

import pytest

from onnx_pipeline.costmodel.profiling import layout
from onnx_pipeline.costmodel.profiling.layout import (
    BLOCKED_DOMAIN,
    blocked_tensors,
    border_costs,
    reorder_rate,
)
from onnx_pipeline.costmodel.profiling.mapping import GraphNode

# conv -> relu -> conv -> softmax; the first relu is fused, the last convolution ends in a reorder.
NODES = [
    GraphNode("Conv", "c1", ("x", "w1"), ("a",)),
    GraphNode("Relu", "r1", ("a",), ("b",)),
    GraphNode("Conv", "c2", ("b", "w2"), ("c",)),
    GraphNode("Softmax", "s", ("c",), ("y",)),
]
KERNELS = [
    GraphNode("Conv", "b_nchwc", ("x", "w1'"), ("reorder",), BLOCKED_DOMAIN),
    GraphNode("Conv", "c_nchwc", ("reorder", "w2'"), ("reorder_1",), BLOCKED_DOMAIN),
    GraphNode("ReorderOutput", "ReorderOutput", ("reorder_1",), ("c",), BLOCKED_DOMAIN),
    GraphNode("Softmax", "s", ("c",), ("y",)),
]


def test_blocked_tensors() -> None:
    """What only blocked kernels hold is found, fused tensors included; what exists plainly is not."""
    assert blocked_tensors(KERNELS, NODES) == {"a", "b"}


def test_nothing_is_blocked_without_blocked_kernels() -> None:
    """A fused tensor of other kernels costs nothing at a border."""
    kernels = [GraphNode("FusedConv", "c1", ("x", "w1"), ("b",)), *KERNELS[3:]]
    assert blocked_tensors(kernels, NODES) == set()
    assert border_costs(kernels, NODES, {"a": 1000}, 1) == {}


def test_border_costs_grow_with_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every blocked tensor is priced by its bytes at the measured rate."""
    monkeypatch.setattr(layout, "reorder_rate", lambda threads: 0.5)
    assert border_costs(KERNELS, NODES, {"a": 10, "b": 2000, "c": 9}, 1) == {"a": 5, "b": 1000}


def test_reorder_rate_is_plausible() -> None:
    """The probe gives nanoseconds per byte: neither zero nor slower than a disk."""
    assert 0 < reorder_rate(1) < 100
