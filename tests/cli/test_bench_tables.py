"""The table of ``bench``: how many stages share how many cores, in units that fit."""

from __future__ import annotations

import io
from typing import Any

from onnx_pipeline.cli.bench_tables import show_bench


def document(stages: int, cores: int) -> dict[str, Any]:
    """A result of bench for a slow model."""
    stage = {
        "predicted_seconds": 1.0,
        "measured_seconds": 2.0,
        "busy_seconds": 2.0,
        "wait_input_seconds": 0.0,
        "wait_output_seconds": 0.0,
        "transfer_bytes": 5 << 20,
        "transfer_seconds": 0.0,
    }
    return {
        "model": "net.onnx",
        "backend": "threads",
        "cores": cores,
        "rounds": 1,
        "requests": 8,
        "period_seconds": 4.0,
        "latency_seconds": {"p50": 5.0},
        "unloaded_latency_seconds": 4.0,
        "bottleneck": {"predicted_seconds": 1.0, "measured_seconds": 0.0},
        "efficiency": 0.417,
        "simulated": {"period_seconds": 2.0, "latency_seconds": {"p50": 9.0}},
        "baselines": {"one_thread_seconds": 3.0},
        "speedup": {"one_thread": 0.75},
        "stages": [{"index": index} | stage for index in range(stages)],
    }


def shown(stages: int, cores: int) -> str:
    """What is printed."""
    stream = io.StringIO()
    show_bench(document(stages, cores), stream)
    return stream.getvalue()


def test_stages_that_share_cores_are_told_of() -> None:
    """An efficiency of 0.4 is then not the partition's fault."""
    text = shown(4, 2)
    assert "efficiency         41.7 % (slowest stage alone / period): 4 stages share 2 cores; " in text
    assert "simulate 4 devices with `onnx_pipeline.simulate`" in text
    assert "simulated          on 4 devices: one every 2.00 s" in text
    assert shown(2, 2).count("share") == 0


def test_figures_of_a_slow_pipeline() -> None:
    """Singular, rates with decimals, and no error in percent of nothing."""
    text = shown(1, 1)
    assert text.splitlines()[0] == "net.onnx: 1 stage on threads, 1 core, 1 round of 8 requests"
    assert "pipeline           0.25 requests/s, one every 4.00 s" in text
    assert "0 s alone, predicted 1.00 s\n" in text
    assert "unsplit, 1 thread  one every 3.00 s; the pipeline is 0.75 x as fast" in text


def test_replicas_in_the_table() -> None:
    """The stage's cost, and how often all its replicas together finish a request."""
    found = document(2, 3)
    for stage, replicas in zip(found["stages"], (1, 3), strict=True):
        periods = {
            f"{what}_period_seconds": stage[f"{what}_seconds"] / replicas
            for what in ("predicted", "measured")
        }
        stage |= {"replicas": replicas} | periods
    found["devices"] = [{"stages": [0]}, *({"stages": [1]} for _ in range(3))]
    stream = io.StringIO()
    show_bench(found, stream)
    text = stream.getvalue()
    assert text.splitlines()[0] == "net.onnx: 2 stages, 4 devices on threads, 3 cores, 1 round of 8 requests"
    assert "1 x 3" in text
    assert "stage 1            on 3 devices: one every 667 ms, predicted 333 ms (-50 %)" in text
    assert "4 devices share 3 cores" in text
