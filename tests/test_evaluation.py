"""A user's own partition is priced by the objective, and the bounds hold for it."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import onnx_pipeline as op
from onnx_pipeline.graph.constraints import Demands
from onnx_pipeline.graph.objective import bottleneck, check_partition
from onnx_pipeline.graph.target import INFEASIBLE
from onnx_pipeline.partition import certificate
from tests.random_graphs import brute_force, solvable
from tests.test_planned import two_branches

LINK = op.Target(bandwidth="1GB/s")


def test_random_partitions_against_brute_force() -> None:
    """The bounds proved for a partition are below the optimum, the bottleneck is the objective's."""
    rng = np.random.default_rng(7)
    seen = 0
    for graph, target, k in solvable(150, 21):
        given = np.sort(rng.integers(0, k, graph.num_nodes))
        if check_partition(graph, given, k) or bottleneck(graph, target, given, k) >= INFEASIBLE:
            continue
        result = op.evaluate(graph, given, target, stages=k, time_limit=5, threads=1)
        own = bottleneck(result.graph, target, given, k)
        assert np.array_equal(result.stage_of, given)
        assert result.lower <= brute_force(graph, target, k) <= own == result.upper
        assert certificate.check(result.partition, result.certificate) == []
        seen += 1
    assert seen > 50


def test_gap_and_hint() -> None:
    """The gap says how much better a partition could be; that one was found is said."""
    said: list[str] = []

    def tell(phase: str, share: float | None, message: str) -> None:
        if phase == "note":
            said.append(str(message))

    best = op.partition(two_branches(), 2, LINK)
    worst = op.evaluate(two_branches(), [0, 0, 0, 0], LINK, stages=2, progress=tell)
    assert worst.lower == best.lower == best.upper
    assert worst.bottleneck > best.bottleneck == worst.history[-1].bottleneck
    assert worst.gap == 1 - best.lower / worst.upper
    assert worst.search.methods == ("given",)
    (note,) = said
    assert note.endswith(" % shorter bottleneck exists; plan without partition=... to get it")
    said.clear()
    own = op.evaluate(two_branches(), best.stage_of, LINK, progress=tell)
    assert own.status == "optimal"
    assert not said


def test_every_node_is_where_it_was_put() -> None:
    """Empty stages stay empty and where they are; k counts them, and further ones if asked for."""
    result = op.evaluate(two_branches(), [1, 1, 1, 3], LINK)
    assert (result.stage_of.tolist(), result.stages, result.used) == ([1, 1, 1, 3], 4, 2)
    assert op.evaluate(two_branches(), [0, 0, 0, 1], stages=7).stages == 7


def test_demands() -> None:
    """They have to be kept, and the bound is that of the constrained problem; progress may be shown."""
    home = {"source": 0, "left": 0, "right": 1, "join": 1}
    free = op.evaluate(two_branches(), home)
    bound = op.evaluate(two_branches(), home, pins={"r*": 1}, progress=True)
    assert bound.lower == op.partition(two_branches(), 2, pins={"right": 1}).lower >= free.lower
    with pytest.raises(op.UsageError, match="'right' in stage 1 is apart from"):
        op.evaluate(two_branches(), home, no_cut=["s"])


def test_a_hard_limit() -> None:
    """A stage that cannot run has no cost; one that can is evaluated where no search finds any."""
    tight = replace(LINK, memory=float(1 << 19), memory_mode="hard")
    with pytest.raises(op.InfeasibleError, match=r"stage 1 .* holds 1\.02 MiB, more .* 512 KiB"):
        op.evaluate(two_branches(), [0, 1, 1, 1], tight)
    builder = op.GraphBuilder("two halves")
    for name in "ab":
        builder.add_group(name, 1 << 19, [builder.add_node(name, 1e6)])
    assert op.evaluate(builder.build(), [0, 1], tight, time_limit=1e-9).bottleneck == 0.001


def test_plan_takes_a_partition(tmp_path: Path) -> None:
    """Demands are checked, the file is read before the graph is."""
    given = {"source": 0, "left": 1, "right": 0, "join": 1}
    result = op.plan(two_branches(), stages=2, bandwidth="1GB/s", partition=given, time_limit=2)
    assert result.stage_of.tolist() == [0, 1, 0, 1]
    with pytest.raises(op.UsageError, match="'left' is not in stage 0, to which it is pinned"):
        op.plan(two_branches(), stages=2, partition=given, demands=Demands(pins={"left": 0}))
    with pytest.raises(op.UsageError, match="the partition leaves 1 of 3 stages empty"):
        op.plan(two_branches(), stages=3, partition=given, demands=Demands(exactly=True))
    with pytest.raises(op.InputError, match=r"mine\.csv: cannot be read"):
        op.plan(tmp_path / "absent.json", stages=2, partition=tmp_path / "mine.csv")
    path = tmp_path / "plan.json"
    path.write_text(json.dumps(result.to_json()), encoding="utf-8")
    again = op.plan(two_branches(), stages=2, bandwidth="1GB/s", partition=path, time_limit=2)
    assert np.array_equal(again.stage_of, result.stage_of)
