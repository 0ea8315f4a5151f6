"""What a prompt shows of objects: one or two lines with the figures that matter."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

import onnx_pipeline as op
from models import builders
from onnx_pipeline.graph.constraints import constrain
from onnx_pipeline.partition.result import Partition
from onnx_pipeline.verification.compare import OutputCheck
from tests.test_planned import two_branches

LINK = "1 GB/s between devices, 8.00 MiB of memory, 10.0 us per tensor, 20.0 us per stage"
BOARD = op.Device("board", "1GB/s", "8MiB", "10us", "20us", {"int8": 4e12})
SAME = OutputCheck("y", equal=True, max_abs=0.0, max_rel=0.0, tolerance=0.0, ok=True)


def chosen() -> op.PartitionResult:
    """A plan of the four nodes."""
    return op.partition(constrain(two_branches(), pins={"join": 1}), 3, BOARD, time_limit=5)


@pytest.mark.parametrize(
    ("thing", "text"),
    [
        (
            two_branches(),
            "<CostGraph 'two branches': 4 nodes, 5 tensors, 14.0 ms of work, 1.00 MiB of parameters>",
        ),
        (op.Target(), "<Target custom: free transfers, unlimited memory>"),
        (
            replace(BOARD.target(host_io=False), memory_mode="hard", activations=False),
            f"<Target board: {LINK}, a hard limit, parameters only, model inputs and outputs free>",
        ),
        (
            BOARD,
            f"<Device board: {LINK}, operations/s: int8 4e+12>",
        ),
        (
            op.StageCost(2, 600, 300, 0, 0, 100, 2048, 1024),
            "<StageCost: 2 nodes, 1000 ticks (work 60.0 %, input 30.0 %, overhead 10.0 %), "
            "2.00 KiB of parameters, 1.00 KiB of activations>",
        ),
        (op.StageCost(0, 0, 0, 0, 0, 0, 0), "<StageCost: 0 nodes, 0 ticks, 0 B of parameters>"),
        (
            op.VerifyReport("out", 2, ("files", "wiring"), (), outputs=(SAME,)),
            "<VerifyReport out: sound, 2 stages, 2 checks, 1 of 1 output bitwise equal>",
        ),
        (
            op.VerifyReport("out", 2, ("files",), ("stage_0.onnx is missing", "more")),
            "<VerifyReport out: 2 problems: stage_0.onnx is missing, 2 stages, 1 check>",
        ),
    ],
)
def test_texts(thing: Any, text: str) -> None:
    """The figures in units that people read; what is 0 or as usual is left out."""
    assert repr(thing) == text


def test_results(tmp_path: Path) -> None:
    """Partition, plan and manifest say what was proved."""
    result = chosen()
    begin = "<PartitionResult 'two branches': 2 of 3 stages on board, bottleneck "
    assert repr(result).startswith(begin)
    assert repr(result).endswith(", gap 0 %>")
    assert repr(result.partition) == "<Partition 'two branches': 4 nodes in 2 of 3 stages on board>"
    assert repr(result.graph).endswith(", 1 pin>")
    assert "history" not in repr(result.search)
    onnx.save(builders.mlp(), tmp_path / "mlp.onnx")
    written = op.split(tmp_path / "mlp.onnx", stages=2, output=tmp_path / "out", cost_model="analytic")
    assert repr(written).startswith("<Manifest mlp.onnx: ")
    assert repr(written).endswith("(costs: analytic)>")
    assert all(len(repr(thing)) < 200 for thing in (result, result.partition, result.graph, written))


def test_an_exploration() -> None:
    """Not its rows."""
    found = op.explore(two_branches(), stages=[1, 2, 4], memory=3 << 19, memory_mode="hard", time_limit=2)
    shown = "<Exploration 'two branches': 3 plans, 1 to 4 stages, bottleneck 14.0 ms to "
    assert repr(found).startswith(shown)
    none = op.explore(two_branches(), stages=[1, 2], memory=1024, memory_mode="hard", time_limit=2)
    assert repr(none) == "<Exploration 'two branches': 2 plans, 1 to 2 stages, 2 without any partition>"


def test_what_is_wrong_can_still_be_shown() -> None:
    """A debugger must not fail on an invalid partition; names move no cursor."""
    wrong = Partition(two_branches(), op.Target(), 2, np.array([9, 0, -1, 0]))
    assert repr(wrong) == "<Partition 'two branches': 4 nodes in 3 stages on custom>"
    assert "\x1b" not in repr(op.Target(name="\x1b[2Jevil"))
