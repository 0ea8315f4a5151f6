"""One thread, the same seed: the same steps, however long they take."""

from __future__ import annotations

import time
from types import SimpleNamespace

import numpy as np
import pytest

from onnx_pipeline.graph.builder import GraphBuilder
from onnx_pipeline.graph.costgraph import CostGraph
from onnx_pipeline.graph.target import Target
from onnx_pipeline.partition.ideals.ladder import Ladder
from onnx_pipeline.partition.incumbent import Incumbent
from onnx_pipeline.partition.instance.build import build
from onnx_pipeline.partition.instance.contract import contract
from onnx_pipeline.partition.proving import Proving
from onnx_pipeline.partition.searching import Searching
from onnx_pipeline.partition.task import Task
from onnx_pipeline.stop import Deadline, never


def tangle(seed: int, n: int) -> CostGraph:
    """Nodes with two readers each among the next twelve: nothing proves such a graph optimal in seconds."""
    rng = np.random.default_rng(seed)
    b = GraphBuilder("tangle")
    for v in range(n):
        b.add_node(f"v{v}", float(rng.integers(1, 1000)))
    for u in range(n - 1):
        readers = rng.integers(u + 1, min(n, u + 12), 2)
        b.add_net(f"t{u}", u, readers.tolist(), nbytes=int(rng.integers(1, 300)))
    return b.build()


@pytest.mark.parametrize("speed", [0.2, 5.0])
def test_turns_end_by_counted_work(speed: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """A slow or a fast clock changes nothing about what turns of the search do."""

    def turns() -> tuple[int, list[int], list[str]]:
        task = small_task()
        searching = Searching(task, 0, never)
        searching.start()
        steps = searching.turns(Ladder(task, never))
        for _ in range(4):
            next(steps)
        return task.known.evaluations, task.known.stage_of.tolist(), task.known.methods

    expected = turns()
    set_clock(speed, monkeypatch)
    assert turns() == expected


@pytest.mark.parametrize("speed", [0.2, 5.0])
def test_proofs_end_by_counted_work(speed: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor about what proofs do."""

    def bounds() -> list[tuple[str, int]]:
        task = small_task()
        proving = Proving(task, {"windows", "crossings", "bottleneck"}, 0, Deadline(1000.0), never)
        proving.by_windows()
        proving.by_crossings()
        next(proving.turns())
        return [(bound.method, bound.ticks) for bound in task.known.bounds]

    bounds()
    expected = bounds()
    set_clock(speed, monkeypatch)
    assert bounds() == expected


def small_task() -> Task:
    """An instance with a first partition."""
    graph, target = tangle(0, 60), Target(bandwidth=1e9)
    task = Task(contract(build(graph, target)), Incumbent(graph, target, 6))
    task.offer(np.zeros(task.inst.n, dtype=np.int64), "one stage")
    return task


def set_clock(speed: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let deadlines see a clock of another speed."""
    clock = SimpleNamespace(monotonic=lambda: speed * time.monotonic())
    monkeypatch.setattr("onnx_pipeline.stop.time", clock)
