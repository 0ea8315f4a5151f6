"""Constraints written into the graph."""

from __future__ import annotations

import pytest

import onnx_pipeline as op
from onnx_pipeline.errors import UsageError
from onnx_pipeline.graph.builder import GraphBuilder
from onnx_pipeline.graph.constraints import Demands, constrain, joint_pins
from onnx_pipeline.graph.costgraph import CostGraph


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


@pytest.fixture
def blocks() -> CostGraph:
    """Two blocks of two nodes, and a node whose name reads like a pattern."""
    b = GraphBuilder("blocks")
    names = ["enc/a", "enc/b", "dec/a", "dec/b", "w[a]*"]
    for i, name in enumerate(names):
        b.add_node(name, 1)
        b.add_net(
            f"{name}:0", i, [i + 1] if i + 1 < len(names) else [], nbytes=1, to_host=i + 1 == len(names)
        )
    return b.build()


def test_patterns_stand_for_all_that_match(blocks: CostGraph) -> None:
    """In pins, groups and tensors; a group may join several patterns."""
    assert Demands(pins={"enc/*": 0, "dec/?": 1}).apply(blocks).pinned.tolist() == [0, 0, 1, 1, -1]
    assert Demands(together=(("*/a", "enc/b"),)).apply(blocks).colocation.tolist() == [0, 0, 0, -1, -1]
    assert Demands(uncut=("enc/*",)).apply(blocks).colocation.tolist() == [0, 0, 0, -1, -1]
    assert Demands(pins={"[ed]*/b": 2}).apply(blocks).pinned.tolist() == [-1, 2, -1, 2, -1]


def test_a_name_that_exists_is_no_pattern(blocks: CostGraph) -> None:
    """Whatever characters it holds."""
    assert Demands(pins={"w[a]*": 1}).apply(blocks).pinned.tolist() == [-1, -1, -1, -1, 1]


@pytest.mark.parametrize(
    ("demands", "message"),
    [
        (Demands(pins={"emc/*": 0}), "no node of the graph matches 'emc/*'; did you mean 'enc/a' or "),
        (Demands(together=(("enc/a", "*/c"),)), "no node of the graph matches '*/c'"),
        (Demands(uncut=("enc/*:1",)), "no tensor of the graph matches 'enc/*:1'"),
        (Demands(pins={"enc/c": 0}), "the graph has no node 'enc/c'; did you mean 'enc/b' or 'enc/a'"),
        (Demands(pins={"enc/*": 0, "*/b": 1}), "node 'enc/b' is pinned to stage 0 and to stage 1"),
    ],
)
def test_what_meets_nothing_is_an_error(demands: Demands, message: str, blocks: CostGraph) -> None:
    """With names that are close to it; so are patterns that contradict each other."""
    with pytest.raises(UsageError) as caught:
        demands.apply(blocks)
    assert str(caught.value).startswith(message)


def test_constraints_one_by_one(blocks: CostGraph) -> None:
    """The facade's parameters add to the demands, and errors name the parameter."""
    demands = Demands(pins={"enc/a": 0}, exactly=True)
    joined = demands.joined({"dec/*": 1}, [["enc/a", "enc/b"], "dec/a,dec/b"], ["enc/b:0"])
    assert joined == Demands(
        pins={"enc/a": 0, "dec/*": 1},
        together=(("enc/a", "enc/b"), ("dec/a", "dec/b")),
        uncut=("enc/b:0",),
        exactly=True,
    )
    assert demands.joined() is demands
    with pytest.raises(UsageError, match="is pinned to stage 0 and to stage 2"):
        demands.joined({"enc/a": 2})
    for name, value in (("pins", {"a": -1}), ("together", "a,b"), ("no_cut", "a")):
        with pytest.raises(UsageError, match=f"^{name} must be "):
            demands.joined(**{name: value})  # type: ignore[arg-type]
    for plan in (op.plan, op.partition):
        found = plan(blocks, stages=2, pins={"enc/*": 0}, no_cut=["dec/a:0"], together=[["enc/b", "dec/a"]])
        assert found.stage_of.tolist()[:4] == [0, 0, 0, 0]
    (row,) = op.explore(blocks, stages=2, pins={"enc/*": 0, "dec/*": 1})
    assert row.result is not None
    assert row.result.stage_of.tolist()[:4] == [0, 0, 1, 1]
