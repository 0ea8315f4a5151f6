"""From kernels back to original nodes."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from onnx_pipeline.costmodel.profiling.mapping import GraphNode, attribute


def node(name: str, reads: str, writes: str, op: str = "Op") -> GraphNode:
    """Make a node from lists of tensor names."""
    return GraphNode(op, name, tuple(reads.split()), tuple(writes.split()))


def divide(
    kernels: list[GraphNode], nodes: list[GraphNode], times: list[float], weights: list[float] | None = None
) -> list[float]:
    """Attribute one round."""
    given_weights = np.array(weights or [1.0] * len(nodes))
    return attribute(kernels, nodes, given_weights).apply(np.array([times])).ravel().tolist()


CHAIN = [node("conv", "x w", "a"), node("bn", "a s", "b"), node("relu", "b", "c"), node("pool", "c", "d")]


def test_fused_kernel_is_divided_by_weight() -> None:
    """Conv+BN+Relu in one kernel: its time goes to the three by their unfused times."""
    kernels = [node("fused", "x w", "c"), node("pool", "c", "d")]
    assert divide(kernels, CHAIN, [10.0, 4.0], [3.0, 1.0, 1.0, 9.0]) == pytest.approx([6.0, 2.0, 2.0, 4.0])


def test_weightless_group_divides_equally() -> None:
    """Nodes that never showed up unfused still share their kernel's time."""
    assert divide([node("k", "x w", "b")], CHAIN[:2], [8.0], [0.0, 0.0]) == pytest.approx([4.0, 4.0])


def test_nchwc_kernel_is_known_by_its_name() -> None:
    """The NCHWc transformer renames tensors; its kernel and the reorder behind it are one group."""
    kernels = [
        node("", "x", "reorder", "ReorderInput"),
        node("c_nchwc", "reorder w", "reorder_token_0", "Conv"),
        node("ReorderOutput", "reorder_token_0", "c", "ReorderOutput"),
        node("pool", "c", "d"),
    ]
    got = divide(kernels, CHAIN, [1.0, 10.0, 1.0, 5.0])
    assert sum(got[:3]) == pytest.approx(12.0)
    assert got[3] == pytest.approx(5.0)


def test_rewritten_names() -> None:
    """Kernels that write new tensors are known by the node's name, with what onnxruntime appends to it."""
    kernels = [
        node("conv_token_17", "x", "t0", "QLinearConv"),
        node("bn/BatchNormFusion/", "t0", "t1"),
        node("relu/duplicated", "t1", "t2"),
        node("pool", "t2", "t3"),
    ]
    assert divide(kernels, CHAIN, [1.0, 2.0, 3.0, 4.0]) == pytest.approx([1.0, 2.0, 3.0, 4.0])


def test_inserted_kernel_goes_to_its_reader() -> None:
    """A Transpose that onnxruntime inserts belongs to the kernel that needs it."""
    nodes = [node("a", "x", "ta"), node("b", "ta", "tb")]
    kernels = [node("a", "x", "ta"), node("", "ta", "new", "Transpose"), node("b", "new", "tb")]
    assert divide(kernels, nodes, [1.0, 2.0, 4.0]) == pytest.approx([1.0, 6.0])


def test_last_inserted_kernel_goes_to_its_writer() -> None:
    """Without a reader it belongs to what it reads from."""
    kernels = [node("a", "x", "ta"), node("", "ta", "odd")]
    assert divide(kernels, [node("a", "x", "ta")], [1.0, 2.0]) == pytest.approx([3.0])


def test_result_of_several_readers_belongs_to_the_kernel_before() -> None:
    """A residual Add fused into the convolution before it: two kernels read its result by another name."""
    nodes = [
        node("conv1", "x", "a"),
        node("add", "a x", "s"),
        node("conv2", "s", "b"),
        node("conv3", "s b", "c"),
    ]
    kernels = [node("a_nchwc", "x", "r0"), node("b_nchwc", "r0", "r1"), node("conv3", "r0 r1", "c")]
    got = divide(kernels, nodes, [8.0, 3.0, 5.0], [3.0, 1.0, 1.0, 1.0])
    assert got == pytest.approx([6.0, 2.0, 3.0, 5.0])


def test_kernel_without_any_tie_is_reported() -> None:
    """What cannot be placed has group -1 and lowers the placed share."""
    got = attribute([node("k", "q", "z"), node("a", "x", "ta")], [node("a", "x", "ta")], np.ones(1))
    assert got.group.tolist() == [-1, 0]
    assert got.placed_share(np.array([[1.0, 3.0]])) == pytest.approx(0.75)


@given(st.data())
def test_no_time_is_lost(data: st.DataObject) -> None:
    """Whatever is fused in a chain, the nodes' times sum to the kernels'."""
    length = data.draw(st.integers(1, 8))
    nodes = [node(f"n{i}", f"t{i}", f"t{i + 1}") for i in range(length)]
    ends = sorted({*data.draw(st.sets(st.integers(1, length))), length})
    kernels = [node("", f"t{a}", f"t{b}") for a, b in zip([0, *ends], ends, strict=False)]
    times = data.draw(st.lists(st.floats(0.1, 1e6), min_size=len(ends), max_size=len(ends)))
    weights = data.draw(st.lists(st.floats(0, 1e6), min_size=length, max_size=length))
    got = divide(kernels, nodes, times, weights)
    assert sum(got) == pytest.approx(sum(times))
    for a, b, time in zip([0, *ends], ends, times, strict=False):
        assert sum(got[a:b]) == pytest.approx(time)
