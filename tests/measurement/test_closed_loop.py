"""The closed loop. Times are made up: what is tested is what is concluded from them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

import onnx_pipeline as op
from models import builders
from onnx_pipeline import manifest
from onnx_pipeline.costmodel.profiling.sessions import Runner
from onnx_pipeline.errors import InfeasibleError, InputError
from onnx_pipeline.graph.builder import GraphBuilder
from onnx_pipeline.graph.costgraph import CostGraph
from onnx_pipeline.graph.objective import bottleneck
from onnx_pipeline.graph.target import Target
from onnx_pipeline.graph.ticks import NS
from onnx_pipeline.measurement import chain
from onnx_pipeline.measurement.chain import Measurement
from onnx_pipeline.measurement.closed_loop import (
    LARGEST_FACTOR,
    Measured,
    closed_loop,
    correct,
    execution_ticks,
)
from onnx_pipeline.model.inputs import make_feeds
from onnx_pipeline.model.source import load
from onnx_pipeline.partition.portfolio import partition
from onnx_pipeline.partition.result import Certificate, Partition, PartitionResult, SearchRecord
from onnx_pipeline.verification.checks import verify

QUICK: dict[str, Any] = {"profile_runs": 2, "time_limit": 2.0, "threads": 1, "cache": False}


def chained(works: list[int], extra: int = 0) -> CostGraph:
    """Nodes in a row; every tensor between them costs ``extra`` when it crosses."""
    b = GraphBuilder("chain", ticks_per_second=NS)
    for i, work in enumerate(works):
        b.add_node(f"n{i}", work)
    for i in range(len(works) - 1):
        b.add_net(f"t{i}", i, [i + 1], nbytes=8, extra=extra)
    return b.build()


def result_for(graph: CostGraph, stage_of: list[int]) -> PartitionResult:
    """Wrap a partition."""
    stages, target = max(stage_of) + 1, Target(stage_overhead=1e-6)
    array = np.array(stage_of, dtype=np.int64)
    return PartitionResult(Partition(graph, target, stages, array), Certificate(), SearchRecord())


def measurement(*seconds: float) -> Measurement:
    """Measurement with these stage times."""
    return Measurement(seconds, (0.0,) * len(seconds), 1.0, 1.0, 5)


def test_execution_is_work_and_borders() -> None:
    """Changes of layout count on both sides of a cut, the device's transfers do not."""
    graph = chained([10, 20, 30], extra=4)
    assert execution_ticks(graph, [0, 0, 1], 2) == [34, 34]
    assert execution_ticks(graph, [0, 0, 0], 1) == [60]


def test_correction_reproduces_the_measurement() -> None:
    """After the correction a stage's prediction is what was measured, to the nanosecond, borders apart."""
    graph = chained([1000, 3000, 5000, 1000], extra=100)
    stages = np.array([0, 0, 1, 1])
    fixed = correct(graph, stages, measurement(5100 / NS, 4600 / NS))
    assert execution_ticks(fixed, stages, 2) == [5100, 4600]
    assert fixed.work.tolist() == [1250, 3750, 3750, 750]
    assert fixed.meta["corrections"] == 1
    assert correct(fixed, stages, measurement(1e-6, 1e-6)).meta["corrections"] == 2


def test_correction_is_bounded() -> None:
    """An absurd measurement does not make costs absurd; a stage without work stays as it is."""
    graph = chained([1000, 0])
    fixed = correct(graph, np.array([0, 1]), measurement(1.0, 1.0))
    assert fixed.work.tolist() == [int(1000 * LARGEST_FACTOR), 0]


class World:
    """True node times behind the costs: what an emitted partition is found to take."""

    def __init__(self, truth: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
        self.truth = np.array(truth)
        self.emitted: dict[Path, PartitionResult] = {}
        self.together: list[int] = []
        monkeypatch.setattr("onnx_pipeline.measurement.closed_loop.measure", self.measure)

    def emit(self, result: PartitionResult, place: Path) -> None:
        """Remember which partition is where."""
        self.emitted[place] = result

    def measure(self, runner: object, places: list[Path], *_: object, **__: object) -> list[Measurement]:
        """Add up the true times."""
        self.together.append(len(places))
        out = []
        for place in places:
            stage_of = self.emitted[place].stage_of
            out.append(measurement(*(np.bincount(stage_of, weights=self.truth) / NS).tolist()))
        return out

    def close(
        self, first: PartitionResult, search: Callable[[CostGraph], PartitionResult], rounds: int = 1
    ) -> Measured:
        """Run the closed loop."""
        runner: Any = None
        return closed_loop(first, runner, self.emit, search, Path("."), rounds=rounds)


def search(graph: CostGraph) -> PartitionResult:
    """Partition into two stages, exactly."""
    return partition(graph, 2, Target(stage_overhead=1e-6), time_limit=5, threads=1)


def test_loop_finds_the_better_partition(monkeypatch: pytest.MonkeyPatch) -> None:
    """The costs say 2 + 2, the truth 1 + 3: after one round the cut is where it belongs."""
    graph = chained([1000, 1000, 1000, 1000])
    world = World([3000, 3000, 1000, 1000], monkeypatch)
    found = world.close(search(graph), search)
    assert found.result.stage_of.tolist() == [0, 1, 1, 1]
    assert found.candidates == 2
    assert world.together == [1, 2]  # the first one runs again beside its rival
    assert found.measurement.stage_seconds == (3e-6, 5e-6)
    assert found.result.upper == bottleneck(found.result.graph, found.result.target, found.result.stage_of, 2)
    assert found.result.lower <= found.result.upper


def test_loop_keeps_the_first_when_it_is_better(monkeypatch: pytest.MonkeyPatch) -> None:
    """A partition that only looks better by corrected costs is not taken."""
    graph = chained([1000, 1000, 1000, 1000])
    world = World([1000, 9000, 1000, 1000], monkeypatch)
    bad = result_for(graph, [0, 0, 0, 1])

    def worse(corrected: CostGraph) -> PartitionResult:
        return replace(bad, partition=replace(bad.partition, graph=corrected))

    found = world.close(search(graph), worse)
    assert found.result.stage_of.tolist() == [0, 0, 1, 1]
    assert found.predicted_seconds == (2e-6, 2e-6)
    assert found.result.graph.meta["corrections"] == 1
    assert found.result.upper == bottleneck(found.result.graph, found.result.target, found.result.stage_of, 2)


def test_loop_ends_when_nothing_changes(monkeypatch: pytest.MonkeyPatch) -> None:
    """A partition that is found again is not measured again, however many rounds are allowed."""
    world = World([1000] * 4, monkeypatch)
    found = world.close(search(chained([1000] * 4)), search, rounds=5)
    assert world.together == [1]
    assert found.candidates == 1
    assert found.result.graph.meta["corrections"] == 1


def test_loop_keeps_what_it_has_when_nothing_else_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """A second search without an answer does not throw the first, measured partition away."""
    world = World([3000, 3000, 1000, 1000], monkeypatch)

    def nothing(_: CostGraph) -> PartitionResult:
        raise InfeasibleError("no partition was found")

    found = world.close(search(chained([1000] * 4)), nothing)
    assert found.result.stage_of.tolist() == [0, 0, 1, 1]
    assert (found.candidates, found.measurement.stage_seconds) == (1, (6e-6, 2e-6))


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A chain of twelve nodes."""
    path = tmp_path_factory.mktemp("model") / "mlp.onnx"
    onnx.save(builders.mlp(6, 64), path)
    return path


def test_split_measures_by_default(model: Path, tmp_path: Path) -> None:
    """Profiled costs: predicted and measured seconds per stage, the certificate names its costs."""
    document = op.split(model, stages=2, output=tmp_path / "out", **QUICK)
    assert document.measurement is not None
    measured = [stage.measured for stage in document.stages]
    assert all(m is not None and m["seconds"] > 0 and m["predicted_seconds"] > 0 for m in measured)
    assert "corrected by 1 measurement of the stages" in document.certificate["costs"]
    assert "measure" in document.phases
    assert manifest.read(tmp_path / "out").to_json() == document.to_json()
    assert verify(tmp_path / "out", model=model).ok
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out"]


@pytest.mark.parametrize("choices", [{"measure": 0}, {"cost_model": "analytic"}])
def test_split_without_measuring(model: Path, tmp_path: Path, choices: dict[str, Any]) -> None:
    """Asked not to, or with costs of another device, nothing is measured and the costs stay."""
    document = op.split(model, stages=2, output=tmp_path / "out", **(QUICK | choices))
    assert document.measurement is None
    assert all(stage.measured is None for stage in document.stages)
    assert document.certificate["costs"] == choices.get("cost_model", "profile")
    assert "measure" not in document.phases


def test_stages_that_do_not_run(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By default a note and the unmeasured split; an error when measuring was asked for."""

    def fail(*_: object) -> None:
        raise InputError("stage_0.onnx", "onnxruntime cannot load it")

    monkeypatch.setattr(chain.Chain, "__init__", fail)
    notes: list[str] = []
    document = op.split(
        model,
        stages=2,
        output=tmp_path / "out",
        progress=lambda phase, _, text: notes.append(text) if phase == "note" else None,
        **QUICK,
    )
    assert document.measurement is None
    assert any("not measured" in note for note in notes)
    with pytest.raises(InputError, match="cannot load it"):
        op.split(model, stages=2, output=tmp_path / "other", measure=1, **QUICK)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out"]


def test_measure_pairs_every_partition(model: Path, tmp_path: Path) -> None:
    """Stages of all partitions are measured relative to the same whole, which counts as the reference."""
    for k in (1, 3):
        op.split(model, stages=k, output=tmp_path / str(k), cost_model="analytic", time_limit=1.0)
    source = load(model)
    runner = Runner(source, make_feeds(source, {}), {})
    one, three = chain.measure(runner, [tmp_path / "1", tmp_path / "3"], 1e-9, seconds=2.0)
    assert (len(one.stage_seconds), len(three.stage_seconds)) == (1, 3)
    assert one.rounds == three.rounds >= chain.SESSIONS * chain.FEWEST
    assert one.reference_seconds == 1e-9
    assert one.whole_seconds == three.whole_seconds > 0
    assert min(three.stage_seconds) > 0


def test_a_disturbed_profile_is_corrected(model: Path, tmp_path: Path) -> None:
    """Where the whole model runs faster than it was profiled, its own time is the scale, and it is said."""
    op.split(model, stages=3, output=tmp_path / "3", cost_model="analytic", time_limit=1.0)
    source = load(model)
    notes: list[str] = []
    (found,) = chain.measure(
        Runner(source, make_feeds(source, {}), {}),
        [tmp_path / "3"],
        2.0,
        seconds=0.05,
        progress=lambda phase, _, text: notes.append(text) if phase == "note" else None,
    )
    assert found.whole_seconds <= found.reference_seconds < 1.0
    assert sum(found.stage_seconds) < 1.0
    assert "not 2e+03 ms as in the profile" in notes[0]


def test_a_slow_model_is_measured_briefly(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where one round takes longer than all of them should, three are run instead of sixteen."""
    op.split(model, stages=2, output=tmp_path / "2", cost_model="analytic", time_limit=1.0)
    clock = 1000.0
    run = Runner.run

    def slow(self: Runner, session: Any) -> None:
        nonlocal clock
        run(self, session)
        clock += 4.0

    monkeypatch.setattr(Runner, "run", slow)
    monkeypatch.setattr("onnx_pipeline.stop.time.monotonic", lambda: clock)
    source = load(model)
    (found,) = chain.measure(Runner(source, make_feeds(source, {}), {}), [tmp_path / "2"])
    assert found.rounds == chain.SLOW_ROUNDS
    assert clock <= 1000.0 + 4.0 * 2 * 3  # one more run before each: the model is quick by the other clock


@pytest.mark.parametrize("written", [None, "three", [1], {"a": 2}, 1e300])
def test_corrections_of_a_file_may_be_anything(written: Any) -> None:
    """A file's own count of corrections is a count or nothing."""
    graph = chained([10, 20])
    fixed = correct(replace(graph, meta={"corrections": written}), np.array([0, 1]), measurement(1e-8, 2e-8))
    assert fixed.meta["corrections"] == 1


def test_statistics_pair_chain_and_whole() -> None:
    """Drift cancels, disturbed rounds are ignored, and the stages add up to the chain."""
    whole = np.array([10.0, 10.0, 10.0, 40.0])
    stages = np.array([[4.0, 8.0], [4.0, 8.0], [4.0, 8.0], [4.0, 90.0]])
    drifted = chain._summarise([whole, 3 * whole], [stages, 3 * stages], 1.0)
    assert drifted.stage_seconds == pytest.approx((0.4, 0.8))
    assert drifted.whole_seconds == pytest.approx(20.0)
    assert drifted.rounds == 8
    assert drifted.spread[0] > 0
