"""The closed loop. Times are made up: what is tested is what is concluded from them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
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
from onnx_pipeline.measurement.candidate import BUSY, NOISY
from onnx_pipeline.measurement.chain import Rows
from onnx_pipeline.measurement.closed_loop import CAUTION, PROMISE, ClosedLoop, Measured
from onnx_pipeline.model.inputs import make_feeds
from onnx_pipeline.model.source import load
from onnx_pipeline.ort import session
from onnx_pipeline.partition.portfolio import partition
from onnx_pipeline.partition.result import PartitionResult
from onnx_pipeline.runtime.placement import place, usable_cores
from onnx_pipeline.stop import Asked, Deadline, Stop, never
from onnx_pipeline.verification.checks import verify

QUICK: dict[str, Any] = {"profile_runs": 2, "time_limit": 2.0, "threads": 1, "cache": False}
MS = NS // 1000


def chained(works: Sequence[int]) -> CostGraph:
    """Nodes in a row that take milliseconds."""
    b = GraphBuilder("chain", ticks_per_second=NS)
    for i, work in enumerate(works):
        b.add_node(f"n{i}", work * MS)
    for i in range(len(works) - 1):
        b.add_net(f"t{i}", i, [i + 1], nbytes=8)
    return b.build()


def search(graph: CostGraph) -> PartitionResult:
    """Partition into two stages, exactly."""
    return partition(graph, 2, Target(stage_overhead=1e-6), time_limit=5, threads=1)


class World:
    """True node times in milliseconds behind the costs, measured with noise."""

    def __init__(self, truth: Sequence[float], noise: float = 0.01) -> None:
        self.truth, self.noise = np.array(truth, dtype=np.float64) / 1000, noise
        self.random = np.random.default_rng(0)
        self.emitted: dict[Path, PartitionResult] = {}
        self.together: list[int] = []
        self.penalty: dict[bytes, float] = {}
        self.stalled = 0.0

    def emit(self, result: PartitionResult, place: Path) -> None:
        """Remember which partition is where."""
        self.emitted[place] = result

    def take(self, places: Sequence[Path], whole: bool) -> list[Rows]:
        """Add up the true times in six rounds; every round drifts as a whole."""
        self.together.append(len(places))
        drift = self.random.uniform(1.0, 1.3, 6)
        stages = [self._stages(self.emitted[place]) * drift[:, None] for place in places]
        model = self.truth.sum() * drift * self._scatter(6) if whole else stages[0].sum(axis=1)
        return [Rows(model, each, self.stalled) for each in stages]

    def _stages(self, result: PartitionResult) -> Any:
        sums = np.bincount(result.stage_of, weights=self.truth, minlength=result.used)
        slower = 1 + self.penalty.get(result.stage_of.tobytes(), 0.0)
        return sums * slower * self._scatter(6, result.used)

    def _scatter(self, *shape: int) -> Any:
        return 1 + self.noise * np.abs(self.random.standard_normal(shape))

    def close(
        self,
        costs: Sequence[int],
        search: Callable[[CostGraph], PartitionResult] = search,
        rounds: int = 3,
        stop: Stop = never,
        said: list[str] | None = None,
    ) -> Measured:
        """Run the closed loop from these costs in milliseconds."""

        def tell(phase: str, _: float | None, text: str) -> None:
            if said is not None:
                said.append(f"{phase}: {text}")

        graph = chained(costs)
        kinds = np.arange(len(costs))
        loop = ClosedLoop(
            self.emit,
            search,
            self.take,
            Path("."),
            kinds,
            rounds=rounds,
            reference_seconds=graph.seconds(int(graph.work.sum())),
            stop=stop,
            progress=tell,
        )
        found = loop.run(search(graph))
        assert found is not None
        return found


def test_profiled_costs_that_hold_are_confirmed_at_once() -> None:
    """One set of rounds is enough, and nothing is corrected."""
    world = World([10, 10, 10, 10])
    found = world.close([10, 10, 10, 10])
    assert world.together == [1]
    assert (found.outcome, found.corrected, found.candidates) == ("confirmed", None, 1)
    assert found.predicted_seconds == (0.02, 0.02)
    assert found.result.status == "optimal"


def test_loop_finds_the_faster_partition() -> None:
    """The costs say 2 + 2, the truth 1 + 3: the cut moves, and both certificates say what they are about."""
    world = World([30, 30, 10, 10])
    found = world.close([20, 20, 20, 20])
    assert found.outcome == "improved"
    assert found.result.stage_of.tolist() == [0, 1, 1, 1]
    assert found.faster == pytest.approx(1 - 5 / 6, abs=0.02)
    assert set(world.together[1:]) == {2}  # the first one runs again beside its rival
    assert found.measurement.stage_seconds == pytest.approx((0.03, 0.05), rel=0.02)
    # In the profiled costs it is worse than their optimum, by the bound that was proved for them.
    assert found.result.graph.work.tolist() == chained([20] * 4).work.tolist()
    assert found.result.gap == pytest.approx(1 / 3, abs=1e-4)
    corrected = found.corrected
    assert corrected is not None
    assert corrected.stage_of is found.result.stage_of
    assert corrected.upper == bottleneck(corrected.graph, corrected.target, corrected.stage_of, 2)
    assert corrected.lower <= corrected.upper
    assert corrected.gap <= PROMISE
    assert corrected.graph.meta["corrections"] == 2


def test_a_chain_that_takes_longer_than_the_whole_does_so_in_every_set() -> None:
    """Where two partitions run without the whole model, its time follows from the first one's."""
    world = World([30, 30, 10, 10])
    for cut in (1, 2, 3):
        world.penalty[np.repeat([0, 1], [cut, 4 - cut]).tobytes()] = 0.3
    found = world.close([20, 20, 20, 20])
    assert found.outcome == "improved"
    assert found.measurement.stage_seconds == pytest.approx((0.039, 0.065), rel=0.03)
    assert found.measurement.sets >= 2


def test_loop_keeps_the_first_when_it_is_better() -> None:
    """A partition that only looks better by corrected costs is not taken: its border costs what none knew."""
    world = World([22, 18, 18, 18, 18])
    for cut in (1, 2, 4):
        world.penalty[np.repeat([0, 1], [cut, 5 - cut]).tobytes()] = 0.6
    found = world.close([18, 18, 18, 18, 22])
    assert found.outcome == "confirmed"
    assert found.candidates > 1
    assert found.result.stage_of.tolist() == [0, 0, 0, 1, 1]
    assert found.corrected is None or found.corrected.gap <= PROMISE
    assert found.result.status == "optimal"
    assert found.faster == 0


def test_a_noisy_machine_gets_the_profiled_optimum() -> None:
    """Stages that scatter by half decide nothing; no corrected costs are stated."""
    world = World([30, 30, 10, 10], noise=0.7)
    found = world.close([20, 20, 20, 20])
    assert found.outcome == "noisy"
    assert found.measurement.scatter > NOISY
    assert found.result.stage_of.tolist() == [0, 0, 1, 1]
    assert found.result.status == "optimal"
    assert found.corrected is None
    assert world.together == [1, 1]  # something short might have passed


@pytest.mark.parametrize(
    ("stalled", "gain", "outcome"),
    [(0.0, 0.035, "improved"), (2 * BUSY, 0.035, "noisy"), (2 * BUSY, 2 * CAUTION, "improved")],
)
def test_a_busy_machine_needs_a_clear_case(stalled: float, gain: float, outcome: str) -> None:
    """Where other work takes half of the time, little advantages may be its doing; large ones are not."""
    world = World([2 * (1 + gain)] * 50 + [2 * (1 - gain)] * 50, noise=0.002)
    world.stalled = stalled
    found = world.close([2] * 100)
    assert (found.outcome, found.stalled) == (outcome, stalled)
    assert (found.result.status == "optimal") == (outcome == "noisy")
    assert (0 < found.faster < gain) == (outcome == "improved")


def test_too_few_rounds_say_nothing() -> None:
    """One does not tell how it scatters; nothing counts as measured then."""
    world = World([30, 30, 10, 10])
    sets = [[Rows(np.full(1, 0.08), np.full((1, 2), 0.04))], [Rows(np.zeros(0), np.zeros((0, 2)))]]
    loop = ClosedLoop(world.emit, search, lambda _, whole: sets.pop(0), Path("."), np.arange(4))
    assert loop.run(search(chained([20] * 4))) is None


def test_a_short_disturbance_passes() -> None:
    """The quietest set counts, and the disturbed ones are forgotten."""
    world = World([10, 10, 10, 10], noise=0.7)
    take = world.take

    def calmer(places: Sequence[Path], whole: bool) -> list[Rows]:
        found = take(places, whole)
        world.noise = 0.005
        return found

    world.take = calmer  # type: ignore[method-assign]
    found = world.close([10, 10, 10, 10])
    assert found.outcome == "confirmed"
    assert (world.together, found.measurement.rounds) == ([1, 1], 6)


@pytest.mark.parametrize("seed", range(8))
def test_what_is_written_is_never_much_slower_than_the_profiled_optimum(seed: int) -> None:
    """Whatever the noise, and however wrong the costs: never by more than 3 % of the truth."""
    random = np.random.default_rng(seed)
    costs = random.integers(5, 30, 12)
    truth = costs * random.lognormal(0, 0.15, 12)
    for noise in (0.005, 0.05, 0.3):
        world = World(truth.tolist(), noise)
        world.random = random
        found = world.close(costs.tolist())
        times = [
            np.bincount(stage_of, weights=truth).max()
            for stage_of in (found.result.stage_of, search(chained(costs.tolist())).stage_of)
        ]
        assert times[0] <= 1.03 * times[1]
        if found.corrected is not None:
            assert found.corrected.gap <= PROMISE or found.outcome == "undecided"


def test_a_promise_that_is_left_is_said() -> None:
    """No time for another partition: the corrected costs keep their gap, and the outcome says why."""
    world = World([30, 30, 10, 10])
    found = world.close([20, 20, 20, 20], stop=Asked(0))
    assert found.outcome == "undecided"
    assert found.result.stage_of.tolist() == [0, 0, 1, 1]
    assert found.result.status == "optimal"
    assert found.corrected is not None
    assert found.corrected.gap > PROMISE


def test_no_time_for_a_round() -> None:
    """Then nothing was measured."""
    world = World([10, 10])
    nothing = [Rows(np.zeros(0), np.zeros((0, 2)))]
    loop = ClosedLoop(world.emit, search, lambda _, whole: nothing, Path("."), np.arange(2))
    assert loop.run(search(chained([10, 10]))) is None


def test_loop_keeps_what_it_has_when_nothing_else_is_found() -> None:
    """A second search without an answer does not throw the first, measured partition away."""
    world = World([30, 30, 10, 10])
    searches = iter((search,))

    def once(graph: CostGraph) -> PartitionResult:
        for each in searches:
            return each(graph)
        raise InfeasibleError("no partition was found")

    said: list[str] = []
    found = world.close([20, 20, 20, 20], once, said=said)
    assert found.result.stage_of.tolist() == [0, 0, 1, 1]
    assert found.candidates == 1
    assert said[-1] == "note: the measured partition stays: no partition was found"
    assert found.corrected is not None
    assert found.corrected.lower == 0


def test_a_disturbed_profile_is_scaled_down() -> None:
    """Where the whole model runs faster than it was profiled, its own time is the scale, and it is said."""
    said: list[str] = []
    found = World([10, 10, 10, 10]).close([20, 20, 20, 20], said=said)
    assert "not 80.0 ms as in the profile" in said[0]
    assert found.measurement.stage_seconds == pytest.approx((0.02, 0.02), rel=0.3)
    assert found.outcome == "confirmed"


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
    assert document.certificate["costs"] == "profile"
    assert document.measurement["outcome"] in ("confirmed", "improved", "noisy", "undecided")
    assert "measure" in document.phases
    assert manifest.read(tmp_path / "out").to_json() == document.to_json()
    assert verify(tmp_path / "out", model=model).ok
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out"]


def test_threads_of_profile_and_stages(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The profile, its place in the cache, the measured stages and those that run later have them."""
    used: list[int] = []
    open_session = session.open_session

    def opened(source: Any, settings: Any, **rest: Any) -> Any:
        used.append(settings.threads)
        return open_session(source, settings, **rest)

    for module in ("onnx_pipeline.model.running", "onnx_pipeline.runtime.placement"):
        monkeypatch.setattr(f"{module}.open_session", opened, raising=False)
    monkeypatch.setattr(session, "open_session", opened)
    document = op.split(model, stages=2, output=tmp_path / "out", intra_op_threads=2, **QUICK)
    assert set(used) == {2}
    assert document.cost_model["threads"] == 2
    assert [spec.settings.threads for spec in place(tmp_path / "out", document)] == [2, 2]
    one = replace(document, cost_model={**document.cost_model, "threads": 1})
    share = max(1, len(usable_cores()) // 2)
    assert [spec.settings.threads for spec in place(tmp_path / "out", one)] == [share, share]


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
    assert one.rounds == three.rounds >= chain.SESSIONS * chain.LONG.fewest
    assert one.reference_seconds == 1e-9
    assert one.whole_seconds == three.whole_seconds > 0
    assert min(three.stage_seconds) > 0


def test_a_slow_model_is_measured_briefly(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No round begins that would not end in time, and one run warms up instead of two."""
    op.split(model, stages=2, output=tmp_path / "2", cost_model="analytic", time_limit=1.0)
    clock = 1000.0
    run = chain.Chain.run

    def slow(self: chain.Chain, *given: Any) -> list[float]:
        nonlocal clock
        clock += 4.0
        return run(self, *given)

    monkeypatch.setattr(chain.Chain, "run", slow)
    monkeypatch.setattr(chain, "QUICK_SECONDS", 0.0)
    monkeypatch.setattr("onnx_pipeline.stop.time.monotonic", lambda: clock)
    source = load(model)
    runner = Runner(source, make_feeds(source, {}), {})
    (found,) = chain.take(runner, [tmp_path / "2"], Deadline(14.0), chain.Effort())
    assert len(found.whole) == 2
    assert clock == 1012.0
    (none,) = chain.take(runner, [tmp_path / "2"], Deadline(3.0), chain.Effort())
    assert len(none.whole) == 0


def test_statistics_pair_chain_and_whole() -> None:
    """Drift cancels, disturbed rounds are ignored, and the stages add up to the chain."""
    whole = np.array([10.0, 10.0, 10.0, 40.0])
    stages = np.array([[4.0, 8.0], [4.0, 8.0], [4.0, 8.0], [4.0, 90.0]])
    drifted = chain.summarise([Rows(whole, stages), Rows(3 * whole, 3 * stages)], 1.0)
    assert drifted.stage_seconds == pytest.approx((0.4, 0.8))
    assert drifted.whole_seconds == pytest.approx(20.0)
    assert (drifted.rounds, drifted.sets) == (8, 2)
    assert drifted.spread[0] > 0
    assert (drifted.noise > chain.SESSION_NOISE / 2).all()
