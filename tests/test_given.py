"""Partitions that users bring, in every form, and what is said of wrong ones."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import onnx_pipeline as op
from onnx_pipeline.given import GivenPartition
from onnx_pipeline.graph.constraints import constrain
from tests.test_planned import two_branches

HOME = {"source": 0, "left": 0, "right": 1, "join": 1}
ROWS = "".join(f"{name},{stage}\n" for name, stage in HOME.items())


@pytest.mark.parametrize("given", [[0, 0, 1, 1], (0, 0, 1, 1), np.array([0, 0, 1, 1], np.int32), HOME])
def test_objects(given: Any) -> None:
    """Lists and arrays in the graph's order, mappings by name; k is what the partition needs."""
    stage_of, stages = GivenPartition.load(given).of(two_branches())
    assert (stage_of.tolist(), stages) == ([0, 0, 1, 1], 2)
    assert stage_of.dtype == np.int64


@pytest.mark.parametrize(
    "text",
    [
        json.dumps(HOME),
        "[0, 0, 1, 1]",
        f"name,stage\n{ROWS}",
        f"\ufeffnode,stage\r\n{ROWS}".replace("\n", "\r\n"),
        "stage,why,name\n" + "".join(f"{stage},because,{name}\n" for name, stage in HOME.items()),
    ],
)
def test_files(text: str, tmp_path: Path) -> None:
    """JSON and CSV are told apart by what they hold, whatever the file is called."""
    path = tmp_path / "mine.txt"
    path.write_text(text, encoding="utf-8", newline="")
    assert GivenPartition.load(path).of(two_branches())[0].tolist() == [0, 0, 1, 1]


def test_plans_and_manifests(tmp_path: Path) -> None:
    """What this program wrote it takes again."""
    result = op.partition(two_branches(), 3)
    path = tmp_path / "plan.json"
    path.write_text(json.dumps(result.to_json()), encoding="utf-8")
    assert GivenPartition.load(path).of(two_branches(), 3)[0].tolist() == result.stage_of.tolist()


def test_names_of_the_model() -> None:
    """Where the graph holds several ONNX nodes as one, each of them may be named, in one stage."""
    graph = two_branches()
    graph = replace(graph, onnx_nodes=(("a", "b"), ("left",), ("right",), ("join",)))
    own = {name: stage for name, stage in HOME.items() if name != "source"}
    for names in (("a",), ("a", "b"), ("source",)):
        given = own | dict.fromkeys(names, 0)
        assert GivenPartition.load(given).of(graph)[0].tolist() == [0, 0, 1, 1]
    with pytest.raises(op.UsageError, match="'a' and 'b' are one node of the graph: give them one stage"):
        GivenPartition.load(own | {"a": 0, "b": 1}).of(graph)


BACKWARDS = (
    "not a partition: tensor 's' flows back from node 'source' in stage 1 to node 'right' in stage 0; "
    "move the nodes that are named to other stages"
)
WRONG = {
    "too short": ([0, 0, 1], "the partition has 3 entries for 4 nodes"),
    "backwards": ([1, 1, 0, 1], BACKWARDS),
    "several": ([1, 0, 0, 0], "(the first of 2 problems)"),
    "too high": ([0, 0, 1, 5], "node 'join' is in stage 5, beyond 1; stages count from 0; give stages=6"),
    "negative": ([0, 0, 1, -1], "the stage of node 'join' must be a whole number from 0, got -1"),
    "fraction": ([0, 0, 1, 1.0], "the stage of node 'join' must be a whole number from 0, got 1.0"),
    "truth": ({**HOME, "join": True}, "node 'join' must be a whole number from 0, got True"),
    "unknown": ({**HOME, "jion": 1}, "the graph has no node 'jion'; leave it out"),
    "misspelt": ({"source": 0, "left": 0, "right": 1, "jion": 1}, "no node 'jion'; did you mean 'join'?"),
    "missing": (
        {"left": 0, "join": 1},
        "no stage for 2 of 4 nodes, 'source' for one; give every",
    ),
}


@pytest.mark.parametrize(("given", "message"), WRONG.values(), ids=WRONG)
def test_what_is_no_partition_is_refused(given: Any, message: str, tmp_path: Path) -> None:
    """The message names node or edge and a remedy, and the file where there is one."""
    with pytest.raises(op.UsageError) as raised:
        GivenPartition.load(given).of(two_branches(), 2)
    assert message in str(raised.value)
    path = tmp_path / "mine.json"
    path.write_text(json.dumps(given), encoding="utf-8")
    with pytest.raises(op.InputError) as of_file:
        GivenPartition.load(path).of(two_branches(), 2)
    assert str(of_file.value) == f"{path}: {raised.value}"


def test_pins_and_groups_are_kept() -> None:
    """What is demanded of the graph holds for a user's own partition, too."""
    graph = constrain(two_branches(), pins={"left": 1})
    with pytest.raises(op.UsageError, match="'left' is not in stage 1, to which it is pinned"):
        GivenPartition.load(HOME).of(graph)
    graph = constrain(two_branches(), together=[("left", "join")])
    with pytest.raises(op.UsageError, match="'join' in stage 1 is apart from node 'left' in stage 0, with"):
        GivenPartition.load(HOME).of(graph)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"\x08\x07\x12\xff", r"not a partition: expected JSON .* or CSV \(name,stage\)"),
        (b"", r"begins with the line name,stage"),
        (b"source,0\nleft,0\n", r"begins with the line name,stage"),
        (b"name,stage\nsource\n", r"line 2: 1 values for 2 columns"),
        (b"name,stage\nsource,first\n", r"line 2: the stage of node 'source' must be .* got 'first'"),
        (b"name,stage\nsource,0\nsource,1\n", r"line 3: node 'source' is in two stages"),
        (b'name,stage\n"source,0\n', r"line 2: unexpected end"),
        (b'{"source": 0,}', r"not valid JSON"),
        (b'{"format": "onnx-pipeline/costs"}', r"not a partition: .*, this is 'onnx-pipeline/costs'"),
        (b'{"format": "onnx-pipeline/plan"}', r"do not list their nodes"),
        (b'{"format": "onnx-pipeline/manifest", "stages": [{"index": 0}]}', r"do not list their nodes"),
    ],
)
def test_files_that_cannot_be_used(content: bytes, message: str, tmp_path: Path) -> None:
    """One line, with the file and the place in it."""
    path = tmp_path / "mine"
    path.write_bytes(content)
    with pytest.raises(op.InputError, match=message) as raised:
        GivenPartition.load(path).of(two_branches())
    assert str(raised.value).startswith(f"{path}: ")
    with pytest.raises(op.InputError, match="cannot be read: no such file"):
        GivenPartition.load(tmp_path / "absent")


@pytest.mark.parametrize("given", [3, "", {1, 2}, object()])
def test_other_things(given: Any) -> None:
    """They are refused at once, not after profiling."""
    with pytest.raises(op.UsageError, match="partition must be stages by node, a list of them or a file"):
        op.plan(two_branches(), stages=2, partition=given)
