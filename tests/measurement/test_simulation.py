"""The simulator against closed formulas, against an independent event simulation, and on a real manifest."""

from __future__ import annotations

import heapq
import itertools
import shutil
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import onnx_pipeline as op
from onnx_pipeline import manifest
from onnx_pipeline.errors import UsageError
from onnx_pipeline.manifest import Manifest
from onnx_pipeline.measurement.simulation import simulate_stages
from onnx_pipeline.runtime.layout import Layout
from tests import streaming


@pytest.fixture(scope="module")
def document(tmp_path_factory: pytest.TempPathFactory) -> Manifest:
    """A split of four stages."""
    return manifest.read(streaming.loops(tmp_path_factory.mktemp("loops")))


def test_balanced_stages_flow_without_waiting(document: Manifest) -> None:
    """Period: one stage. One request at a time takes the sum of all."""
    found = op.simulate(document, 50, stage_seconds=[0.01] * 4)
    assert found.period_seconds == pytest.approx(0.01)
    assert found.throughput_per_second == pytest.approx(100)
    alone = op.simulate(document, 50, stage_seconds=[0.01] * 4, max_in_flight=1)
    assert alone.period_seconds == pytest.approx(0.04)
    assert alone.latency_seconds == pytest.approx({"p50": 0.04, "p95": 0.04, "p99": 0.04})


@pytest.mark.parametrize("slow", range(4))
def test_the_slowest_stage_sets_the_period(document: Manifest, slow: int) -> None:
    """And latency is period times what is inside (Little), wherever it is."""
    times = [0.004] * 4
    times[slow] = 0.01
    found = op.simulate(document, 200, 2, stage_seconds=times)
    assert found.period_seconds == pytest.approx(0.01)
    assert found.latency_seconds["p50"] == pytest.approx(0.01 * Layout.chain(4).capacity(2), rel=0.25)
    assert np.argmax(found.utilisation) == slow


def test_requests_that_come_slowly_meet_an_empty_pipeline(document: Manifest) -> None:
    """Latency: the sum of all stages and hand-overs. Period: that of the arrivals."""
    arrivals = [0.1 * i for i in range(20)]
    found = op.simulate(
        document, 20, stage_seconds=[0.01, 0.02, 0.03, 0.0], handover_seconds=0.001, arrival_seconds=arrivals
    )
    assert found.latency_seconds["p99"] == pytest.approx(0.06 + 5 * 0.001)
    assert found.period_seconds == pytest.approx(0.1)


@pytest.mark.parametrize("kind", [list, tuple, np.array])
def test_arrivals_may_be_an_array(document: Manifest, kind: Callable[[Any], Any]) -> None:
    """Of any kind, all zero or not."""
    for step in (0.0, 0.1):
        arrivals = kind([step * i for i in range(20)])
        found = op.simulate(document, 20, stage_seconds=[0.01] * 4, arrival_seconds=arrivals)
        assert found.period_seconds == pytest.approx(max(step, 0.01))


def events(times: np.ndarray, depth: int, limit: int) -> list[float]:
    """Simulate the same with events and queues; return when each request is done."""
    requests, stages = times.shape
    queues: list[deque[int]] = [deque() for _ in range(stages)]
    serving: list[int | None] = [None] * stages
    blocked = [False] * stages
    done = [0.0] * requests
    calendar: list[tuple[float, int]] = []
    entered = inside = 0
    clock = 0.0
    while True:
        moved = True
        while moved:
            moved = False
            if entered < requests and inside < limit:
                queues[0].append(entered)
                entered, inside, moved = entered + 1, inside + 1, True
            for s in range(stages):
                if blocked[s] and len(queues[s + 1]) < depth:
                    queues[s + 1].append(serving[s])  # type: ignore[arg-type]
                    serving[s], blocked[s], moved = None, False, True
                if serving[s] is None and queues[s]:
                    serving[s], moved = queues[s].popleft(), True
                    heapq.heappush(calendar, (clock + times[serving[s], s], s))
        if not calendar:
            return done
        clock, s = heapq.heappop(calendar)
        if s + 1 < stages:
            blocked[s] = True
        else:
            done[serving[s]] = clock  # type: ignore[index]
            serving[s], inside = None, inside - 1


@pytest.mark.parametrize("seed", range(6))
def test_an_independent_simulation_agrees(document: Manifest, seed: int) -> None:
    """Random times, depths and limits: every completion."""
    random = np.random.default_rng(seed)
    times = random.exponential(0.01, (60, 4))
    depth, limit = int(random.integers(1, 4)), int(random.integers(1, 12))
    found = op.simulate(document, 60, depth, max_in_flight=limit, stage_seconds=times)
    done = [line.done / 1e9 for line in found.timelines]
    np.testing.assert_allclose(done, events(times, depth, limit), atol=1e-8)


def test_costs_of_the_manifest_by_default(document: Manifest, tmp_path: Path) -> None:
    """The period is the certified bottleneck; a directory will do."""
    found = op.simulate(streaming.loops(tmp_path), 100)
    bottleneck = document.certificate["bottleneck_seconds"]
    assert found.period_seconds == pytest.approx(bottleneck)
    assert found.to_json()["requests"] == 100


@pytest.mark.parametrize(
    "options",
    [
        {"requests": 0},
        {"queue_depth": 0},
        {"max_in_flight": 0},
        {"stage_seconds": [1, 2]},
        {"stage_seconds": [-1] * 4},
        {"stage_seconds": [float("nan")] * 4},
        {"stage_seconds": [[1, 2], [3]]},
        {"stage_seconds": [1e30] * 4},
        {"stage_seconds": "soon"},
        {"arrival_seconds": [1, 2, 3]},
        {"arrival_seconds": np.array([1, 2, 3])},
        {"arrival_seconds": [float("nan")] * 100},
        {"arrival_seconds": float("nan")},
        {"arrival_seconds": float("inf")},
        {"arrival_seconds": [-1.0] * 100},
        {"arrival_seconds": list(range(100, 0, -1))},
        {"handover_seconds": float("nan")},
        {"handover_seconds": -1.0},
        {"handover_seconds": [1.0, 2.0]},
    ],
)
def test_nothing_to_simulate(document: Manifest, options: dict) -> None:
    """One line."""
    with pytest.raises(UsageError):
        op.simulate(document, **options)


def shared(devices: Sequence[int]) -> Layout:
    """One worker per device."""
    stages = range(len(devices))
    return Layout(
        tuple(tuple(s for s in stages if devices[s] == d) for d in dict.fromkeys(devices)), len(devices)
    )


@pytest.mark.parametrize("replicas", [[2], [1, 2, 3, 1], [2, 2], [4, 1, 3]])
def test_replicas_divide_the_time_of_their_stage(replicas: list[int]) -> None:
    """Period: the largest cost / replicas, exactly; every device is as busy as its load."""
    random = np.random.default_rng(len(replicas))
    workers = tuple((stage,) for stage, count in enumerate(replicas) for _ in range(count))
    layout = Layout(workers, len(replicas))
    for _ in range(5):
        seconds = (random.random(len(replicas)) * replicas).tolist()
        found = simulate_stages(seconds, 600, layout=layout)
        period = max(layout.load(seconds))
        assert found.period_seconds == pytest.approx(period, rel=1e-6)
        assert np.argmax(found.devices) == np.argmax(layout.load(seconds))
        np.testing.assert_allclose(found.devices, np.array(layout.load(seconds)) / period, rtol=0.05)
        np.testing.assert_allclose(found.utilisation, np.array(seconds) / replicas / period, rtol=0.05)


def test_stages_that_share_a_device_add_up() -> None:
    """Period: the largest load of a device, whatever shares what; a device does one thing at a time."""
    random = np.random.default_rng(7)
    for _ in range(20):
        devices = random.integers(0, 3, 9).tolist()
        layout, seconds = shared(devices), random.random(9).tolist()
        found = simulate_stages(seconds, 800, layout=layout)
        loads = layout.load(seconds)
        assert found.period_seconds == pytest.approx(max(loads), rel=0.03)
        assert found.period_seconds > 0.995 * max(loads)
        assert np.argmax(found.devices) == np.argmax(loads)
        for own in layout.workers:
            spans = [s for line in found.timelines for s in line.spans if s.stage in own]
            spans.sort(key=lambda span: span.start)
            assert all(a.end <= b.start + 1 for a, b in itertools.pairwise(spans))


def test_a_device_serves_the_latest_stage_first() -> None:
    """By hand: stages 0 and 2 of 1 s on one device, stage 1 of 1 s on another; two requests at once."""
    found = simulate_stages([1.0, 1.0, 1.0], 2, layout=shared([0, 1, 0]))
    starts = [[span.start / 1e9 for span in line.spans] for line in found.timelines]
    assert starts == [[0.0, 1.0, 2.0], [1.0, 2.0, 3.0]]
    three = simulate_stages([1.0, 1.0, 1.0], 3, layout=shared([0, 1, 0]))
    starts = [[span.start / 1e9 for span in line.spans] for line in three.timelines]
    assert starts == [[0.0, 1.0, 2.0], [1.0, 2.0, 3.0], [4.0, 5.0, 6.0]]


def test_replicas_and_devices_of_the_manifest(tmp_path: Path) -> None:
    """Who serves what is read there, and so is what may be inside."""
    plain = streaming.loops(tmp_path)
    replicated = streaming.deploy(shutil.copytree(plain, tmp_path / "r"), {1: 2})
    found = op.simulate(replicated, 200, stage_seconds=[0.1, 1.0, 0.1, 0.1])
    assert found.period_seconds == pytest.approx(0.5)
    assert len(found.devices) == 5
    assert {span.replica for line in found.timelines for span in line.spans if span.stage == 1} == {0, 1}
    assert found.to_json()["device_utilisation"] == list(found.devices)
    together = streaming.deploy(plain, devices=[0, 1, 0, 1])
    found = op.simulate(together, 200, stage_seconds=[0.1, 1.0, 0.1, 0.1], handover_seconds=1e-3)
    assert found.period_seconds == pytest.approx(1.1, rel=0.01)
    assert len(found.devices) == 2
    last = found.timelines[-1].spans
    assert last[1].start - last[0].sent >= 10**6
