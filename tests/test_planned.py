"""Plans read back are the results that were written."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import onnx_pipeline as op
from onnx_pipeline.graph.builder import GraphBuilder
from onnx_pipeline.graph.constraints import Demands


def two_branches(times: tuple[int, ...] = (3, 5, 2, 4)) -> op.CostGraph:
    """A source, two branches and a join; a host input, a host output and a shared parameter."""
    builder = GraphBuilder("two branches")
    source, left, right, join = (
        builder.add_node(name, 1e6 * time)
        for name, time in zip(("source", "left", "right", "join"), times, strict=True)
    )
    builder.add_net("x", -1, [source], nbytes=4096)
    builder.add_net("s", source, [left, right], nbytes=4096)
    builder.add_net("l", left, [join], nbytes=8192)
    builder.add_net("r", right, [join], nbytes=4096)
    builder.add_net("y", join, [], nbytes=64, to_host=True)
    builder.add_group("w", 1 << 20, [left, join])
    return builder.build()


@pytest.fixture
def plan(tmp_path: Path) -> tuple[op.PartitionResult, Path]:
    """A plan with a pin and a memory limit, and its file beside the costs."""
    op.write_graph(two_branches(), tmp_path / "costs.json")
    demands = Demands(pins={"source": 0}, together=(("left", "join"),))
    result = op.plan(
        tmp_path / "costs.json", stages=3, bandwidth=1e9, memory=1 << 19, demands=demands, time_limit=5
    )
    path = tmp_path / "plan.json"
    path.write_text(json.dumps(result.to_json(tmp_path / "costs.json")), encoding="utf-8")
    return result, path


def test_a_plan_read_back_is_the_result(plan: tuple[op.PartitionResult, Path]) -> None:
    """Partition, certificate, search, target and constraints: the documents agree to the last figure."""
    result, path = plan
    again = op.read_plan(path)
    assert again.to_json(path.parent / "costs.json") == json.loads(path.read_text(encoding="utf-8"))
    assert np.array_equal(again.stage_of, result.stage_of)
    assert (again.target, again.bounds, again.history) == (result.target, result.bounds, result.history)
    assert again.graph.pinned[0] == 0
    assert again.status == "optimal"


def test_the_costs_may_be_given(plan: tuple[op.PartitionResult, Path], tmp_path: Path) -> None:
    """A plan that names no file is read with a graph or another path."""
    result, path = plan
    path.write_text(json.dumps(result.to_json()), encoding="utf-8")
    with pytest.raises(op.InputError, match=r"does not name the file of its costs.*graph="):
        op.read_plan(path)
    for graph in (two_branches(), tmp_path / "costs.json"):
        assert op.read_plan(path, graph).upper == result.upper


def _rename(document: dict[str, Any]) -> None:
    document["stages"][0]["node_names"][0] = "gone"


def _swap(document: dict[str, Any]) -> None:
    first, last = document["stages"][0], document["stages"][-1]
    first["node_names"], last["node_names"] = last["node_names"], first["node_names"]
    first["nodes"], last["nodes"] = last["nodes"], first["nodes"]


def _praise(document: dict[str, Any]) -> None:
    document["certificate"]["bounds"][0]["seconds"] = 1.0


@pytest.mark.parametrize(
    ("change", "message"),
    [(_rename, "node 'source' is in only one"), (_swap, "flows back"), (_praise, "above the partition")],
)
def test_what_contradicts_the_costs_is_refused(
    plan: tuple[op.PartitionResult, Path], change: Callable[[dict[str, Any]], None], message: str
) -> None:
    """Nodes that do not exist, tensors that flow backwards and bounds above the partition."""
    path = plan[1]
    document = json.loads(path.read_text(encoding="utf-8"))
    change(document)
    path.write_text(json.dumps(document), encoding="utf-8")
    with pytest.raises(op.InputError, match=message):
        op.read_plan(path)


def test_other_costs_are_refused(plan: tuple[op.PartitionResult, Path]) -> None:
    """A graph of the same nodes with other times."""
    with pytest.raises(op.InputError, match=r"the bottleneck is .* s in these costs"):
        op.read_plan(plan[1], two_branches((30, 5, 2, 4)))
