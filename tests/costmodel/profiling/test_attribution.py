"""Kernel times divided among nodes: what recording adds is taken off, and noise is told."""

from __future__ import annotations

import numpy as np
import pytest

from onnx_pipeline.costmodel.profiling.attribution import Measured, without_overhead


def test_recording_overhead_is_taken_off() -> None:
    """A constant per kernel goes, at most what the smallest kernels show, and never below a tenth."""
    times = np.array([[6.0, 6.0, 6.0, 106.0], [6.0, 6.0, 6.0, 106.0]])
    assert without_overhead(times, 104.0).tolist()[0] == [1.0, 1.0, 1.0, 101.0]
    assert without_overhead(times, 10.0).tolist()[0] == pytest.approx([0.6, 0.6, 0.6, 100.0])
    assert without_overhead(times, 200.0).tolist() == times.tolist()


def test_noise_is_told() -> None:
    """Scatter of the runs, or waits for the processor where all runs are slow alike."""
    steady, rising = np.ones(10), np.array([1.0] * 4 + [2.0] * 6)
    nodes = np.ones((1, 1))
    assert Measured(steady, nodes, {}).noise == 0.0
    assert Measured(rising, nodes, {}).noise == pytest.approx(1.0)
    assert Measured(steady, nodes, {}, stalled=0.4).noise == 0.4
    assert Measured(steady[:1], nodes, {}).noise is None
