"""The devices that a partition is for, in every form in which somebody may give them."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import onnx_pipeline as op
from onnx_pipeline.parameters import as_target
from tests.test_planned import two_branches


def test_quantities_with_units() -> None:
    """Text is read where it is given; what is kept are plain numbers, whatever kind they were."""
    target = op.Target(
        bandwidth="16GB/s", memory="8GiB", transfer_latency="10us", stage_overhead=np.float32(0.5)
    )
    assert target == op.Target(bandwidth=16e9, memory=8 << 30, transfer_latency=1e-5, stage_overhead=0.5)
    figures = (target.bandwidth, target.memory, target.transfer_latency, target.stage_overhead)
    assert {type(figure) for figure in figures} == {float}
    assert op.Target(memory="inf").memory == math.inf


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("bandwidth", "8GiB of it", "bandwidth '8GiB of it' is not a quantity: write it like 16GB/s"),
        ("bandwidth", "16Gb/s", "ambiguous: write B for bytes or bit for bits"),
        ("bandwidth", 0, "bandwidth must be positive, got 0"),
        ("memory", "1GB/s", "memory '1GB/s' has the unknown unit 'GB/s': write it like 8GiB"),
        ("memory", None, "memory None is not a quantity"),
        ("memory", math.nan, "memory must be positive"),
        ("transfer_latency", "1GB", "transfer_latency '1GB' has the unknown unit 'GB'"),
        ("stage_overhead", math.inf, "stage_overhead must be finite and not negative"),
    ],
)
def test_what_is_no_quantity_is_refused_at_once(field: str, value: Any, message: str) -> None:
    """One line that names the field, and how to write it; targets and devices agree."""
    for make in (op.Target, lambda **figure: op.Device("board", **figure)):
        with pytest.raises(op.UsageError) as raised:
            make(**{field: value})
        assert message in str(raised.value)


def test_a_device_is_a_target(tmp_path: Path) -> None:
    """Devices, their names and files are taken wherever a target is; a graph says what the host costs."""
    graph = two_branches()
    board = op.Device("board", bandwidth="1MB/s", stage_overhead="5us")
    (tmp_path / "board.toml").write_text('bandwidth = "1MB/s"\nstage_overhead = "5us"\n', encoding="utf-8")
    expected = op.partition(graph, 2, board.target())
    for given in (board, tmp_path / "board.toml"):
        assert op.partition(graph, 2, given).target == expected.target
        assert op.stage_costs(graph, given, expected.stage_of, 2) == op.stage_costs(
            graph, board.target(), expected.stage_of, 2
        )
    assert op.partition(graph, 2, "edge").target == op.load_device("edge").target()
    graph.meta["host_io"] = False
    assert as_target(board, graph) == board.target(host_io=False)
    assert as_target(None) == op.Target()


@pytest.mark.parametrize("given", [3, {"bandwidth": 1e9}, op.Target])
def test_what_is_no_target_is_refused(given: Any) -> None:
    """Not somewhere inside the search."""
    with pytest.raises(op.UsageError, match="target must be a Target, a Device or the name of one, got"):
        op.partition(two_branches(), 2, given)
    with pytest.raises(op.UsageError, match="unknown device 'abacus': give cpu"):
        op.partition(two_branches(), 2, "abacus")
