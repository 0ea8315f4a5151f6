"""Replicas of stages and stages that share a device, on both backends."""

from __future__ import annotations

import itertools
import os
import shutil
import signal
import tempfile
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from onnx_pipeline import manifest
from onnx_pipeline.errors import PipelineError, StageError, UsageError
from onnx_pipeline.runtime import PipelineSession
from onnx_pipeline.runtime.layout import Layout
from onnx_pipeline.runtime.placement import place
from onnx_pipeline.runtime.processes.units import make_lanes, make_units
from onnx_pipeline.runtime.wiring import Wiring
from tests import streaming
from tests.splitting import save, split
from tests.streaming import BACKENDS, FOREVER, alive, answer, deploy, request, wait_for

LIMIT = 60.0
#: Every tensor is read by the next stage and a later one; `c` is an output, too.
SKIPS = """m (float[N] x) => (float[N] y, float[N] c) {
    a = Abs(x)  b = Neg(a)  c = Add(b, x)  d = Mul(c, a)  e = Sub(d, b)  y = Add(e, c)
}"""


@pytest.fixture(scope="module")
def loops(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The loop model in four stages; the loop is in stage 1."""
    return streaming.loops(tmp_path_factory.mktemp("loops"))


@pytest.fixture(scope="module")
def skips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six stages."""
    folder = tmp_path_factory.mktemp("skips")
    split(save(folder, SKIPS), folder / "out", 6)
    return folder / "out"


@pytest.fixture(params=BACKENDS)
def replicated(request: pytest.FixtureRequest, loops: Path, tmp_path: Path) -> Iterator[PipelineSession]:
    """The loop on two replicas, the stage after it on three."""
    directory = deploy(shutil.copytree(loops, tmp_path / "out"), {1: 2, 2: 3})
    with PipelineSession(directory, backend=request.param) as session:
        yield session


def same(actual: list[Any], expected: list[Any]) -> None:
    """Bitwise."""
    for a, e in zip(actual, expected, strict=True):
        np.testing.assert_array_equal(a, e)


def pids(session: PipelineSession) -> list[int]:
    """Process ids, by stage and replica."""
    return list(session._flow.backend.workers)  # type: ignore[attr-defined]


def visited(session: PipelineSession, stage: int) -> list[int]:
    """Replicas of a stage that requests visited, in the order of the requests."""
    lines = sorted(session.timelines(), key=lambda line: line.number)
    return [span.replica for line in lines for span in line.spans if span.stage == stage]


def test_replicas_serve_a_stream_in_order(replicated: PipelineSession) -> None:
    """Of mixed shapes and durations; every result at its place, every replica at work."""
    assert replicated.max_in_flight == (1 + 2 + 3 + 1) + 2 * (1 + 2 + 3) + 1
    results = list(replicated.map(streaming.numbers(300)))
    for feeds, result in zip(streaming.numbers(300), results, strict=True):
        same(result, answer(feeds))
    unordered = replicated.map(streaming.numbers(60), ordered=False)
    assert sorted(len(y) for y, _ in unordered) == sorted(len(f["x"]) for f in streaming.numbers(60))
    stats = replicated.stats()
    assert [len(stage.replicas) for stage in stats.stages] == [1, 2, 3, 1]
    for stage in stats.stages:
        assert stage.requests == sum(each.requests for each in stage.replicas) == 360
        assert stage.busy_seconds == pytest.approx(sum(each.busy_seconds for each in stage.replicas))
        assert all(each.requests > 0 and each.alive and not each.note for each in stage.replicas)
    assert stats.to_json()["stages"][1]["replicas"][1]["index"] == 1


def test_replicas_take_requests_in_turn(replicated: PipelineSession) -> None:
    """One request at a time finds all of them free."""
    for i in range(6):
        same(replicated.run(None, request(i)), answer(request(i)))
    assert visited(replicated, 1) == [0, 1] * 3
    assert visited(replicated, 2) == [0, 1, 2] * 2


def test_replicas_work_at_the_same_time(replicated: PipelineSession) -> None:
    """While one is in a request that does not end, the other serves the rest of the stream."""
    slow = replicated.submit(request(1, n=FOREVER))
    for i in range(20):
        same(replicated.run(None, request(i)), answer(request(i)))
    assert len({*visited(replicated, 1)}) == 1
    replicated.close(drain=False)
    assert isinstance(slow.exception(timeout=LIMIT), PipelineError)


def test_a_sequence_visits_the_same_replicas(replicated: PipelineSession) -> None:
    """Several at once, some in flight together, in their own order; an ended one may begin again."""
    keys = ["a", "b", ("c", 1), None]
    futures = [replicated.submit(request(i), sequence=keys[i % 4]) for i in range(80)]
    for i, future in enumerate(futures):
        same(future.result(), answer(request(i)))
    lines = {line.number: line for line in replicated.timelines()}
    for stage in (1, 2):
        for which in range(3):
            mine = [lines[i].spans[stage] for i in range(which, 80, 4)]
            assert len({span.replica for span in mine}) == 1
            assert all(a.end <= b.start for a, b in itertools.pairwise(mine))
    replicated.end_sequence("a")
    same(replicated.run(None, request(2), sequence="a"), answer(request(2)))


def test_a_sequence_needs_a_key(replicated: PipelineSession) -> None:
    """A list is none."""
    with pytest.raises(UsageError, match="sequence must be hashable, got list"):
        replicated.submit(request(1), sequence=[])


def test_a_request_that_fails_in_a_replica_fails_alone(replicated: PipelineSession) -> None:
    """As without replicas."""
    wrong = {**request(4, size=4), "late": np.ones(3, np.float32)}
    results = list(replicated.map([request(1), wrong, request(2)] * 5, return_exceptions=True))
    for i, result in enumerate(results):
        if i % 3 == 1:
            assert isinstance(result, StageError)
            assert result.stage == 2
        else:
            same(result, answer(request(1 + i % 3 // 2)))
    assert replicated.stats().failed == 5


@pytest.mark.parametrize("backend", BACKENDS)
def test_replicas_of_one_stage(backend: str, skips: Path, tmp_path: Path) -> None:
    """Every stage and only one: copies of the whole model."""
    split(skips.parent / "model.onnx", tmp_path / "out", 1)
    directory = deploy(tmp_path / "out", {0: 2})
    with PipelineSession(directory, backend=backend, queue_depth=1) as session:
        assert session.max_in_flight == 4
        for size, (y, c) in enumerate(session.map({"x": np.arange(n, dtype=np.float32)} for n in range(40))):
            assert y.shape == c.shape == (size,)
        assert Counter(visited(session, 0)).keys() == {0, 1}


@pytest.fixture
def doubled(loops: Path, tmp_path: Path) -> Path:
    """The loop on two replicas."""
    return deploy(shutil.copytree(loops, tmp_path / "out"), {1: 2})


@pytest.mark.parametrize("victim", [0, 1])
def test_a_replica_that_dies_takes_only_its_requests(victim: int, doubled: Path) -> None:
    """Not those of the other one, until that dies, too; errors and notes name stage and replica."""
    before = streaming.shared_memory()
    with PipelineSession(doubled, backend="processes") as session:
        futures = [session.submit(request(i, n=FOREVER)) for i in range(2)]
        everyone = pids(session)
        os.kill(everyone[1 + victim], signal.SIGKILL)
        error = futures[victim].exception(timeout=LIMIT)
        assert isinstance(error, StageError)
        assert (error.stage, error.replica) == (1, victim)
        assert f"stage_1.onnx: stage 1, replica {victim} failed: its worker process was killed" in str(error)
        notes = session.stats().stages[1].replicas
        assert [each.alive for each in notes] == [each.index != victim for each in notes]
        assert "was killed (SIGKILL" in notes[victim].note
        assert not futures[1 - victim].done()
        os.kill(everyone[2 - victim], signal.SIGKILL)
        last = futures[1 - victim].exception(timeout=LIMIT)
        assert isinstance(last, StageError)
        assert last.replica == 1 - victim
    assert streaming.shared_memory() <= before


def test_a_stream_survives_a_replica(doubled: Path) -> None:
    """Killed in the middle of 200 requests: some fail, the others and all later ones are right."""
    with PipelineSession(doubled, backend="processes") as session:
        everyone = pids(session)
        stream = session.map((request(i, n=3000) for i in range(200)), return_exceptions=True)
        results = list(itertools.islice(stream, 50))
        os.kill(everyone[2], signal.SIGKILL)
        results += stream
        failed = [result for result in results if isinstance(result, Exception)]
        assert len(results) == 200
        assert len(failed) <= 2
        assert all(isinstance(error, StageError) and error.replica == 1 for error in failed)
        for i, result in enumerate(results):
            if not isinstance(result, Exception):
                same(result, answer(request(i, n=3000)))
        stats = session.stats()
        assert [each.alive for each in stats.stages[1].replicas] == [True, False]
        assert all(alive(pid) for i, pid in enumerate(everyone) if i != 2)
        assert pids(session) == [pid for i, pid in enumerate(everyone) if i != 2]
        os.kill(everyone[1], signal.SIGKILL)
        wait_for(lambda: not pids(session))
        with pytest.raises(StageError, match="stage 1, replica 0 failed: its worker process was killed"):
            session.run(None, request(1))
    wait_for(lambda: not any(map(alive, everyone)))


def test_a_replica_is_started_again(doubled: Path) -> None:
    """The others are not; it works as before; the note stays."""
    with PipelineSession(doubled, backend="processes", restart=True) as session:
        everyone = pids(session)
        for round_ in range(2):
            stuck = session.submit(request(1, n=FOREVER), sequence=round_)
            other = session.submit(request(2, n=FOREVER), sequence=-1 - round_)
            for pid in (pids(session)[1], pids(session)[2]):
                os.kill(pid, signal.SIGKILL)
            assert isinstance(stuck.exception(timeout=LIMIT), StageError)
            assert isinstance(other.exception(timeout=LIMIT), StageError)
            wait_for(lambda: len(pids(session)) == len(everyone))
            for i in range(4):
                same(session.run(None, request(i)), answer(request(i)))
            now = pids(session)
            assert [now[0], *now[3:]] == [everyone[0], *everyone[3:]]
            assert not {now[1], now[2]} & {everyone[1], everyone[2]}
        notes = session.stats().stages[1].replicas
        assert all(each.alive and "was killed" in each.note for each in notes)
        assert len(set(visited(session, 1)[-4:])) == 2


def test_a_sequence_whose_replica_died_is_told_once(doubled: Path) -> None:
    """What it left there is gone; then it begins anew."""
    with PipelineSession(doubled, backend="processes") as session:
        session.run(None, request(1), sequence="s")
        home = visited(session, 1)[-1]
        os.kill(pids(session)[1 + home], signal.SIGKILL)
        wait_for(lambda: not session.stats().stages[1].replicas[home].alive)
        with pytest.raises(PipelineError, match="begun the sequence 's' is gone"):
            session.run(None, request(1), sequence="s")
        same(session.run(None, request(2), sequence="s"), answer(request(2)))
        assert visited(session, 1)[-1] == 1 - home


@pytest.mark.parametrize("backend", BACKENDS)
def test_sessions_with_replicas_and_devices_leave_nothing(backend: str, loops: Path, tmp_path: Path) -> None:
    """Closed while busy, and forgotten."""
    for name, change in (("r", {"replicas": {1: 2}}), ("d", {"devices": [0, 1, 0, 1]})):
        directory = deploy(shutil.copytree(loops, tmp_path / name), **change)  # type: ignore[arg-type]
        threads = threading.active_count()
        session = PipelineSession(directory, backend=backend, queue_depth=1)
        workers = pids(session) if backend == "processes" else []
        assert len(workers) in (0, 5 if name == "r" else 2)
        futures = [session.submit(request(i, n=FOREVER)) for i in range(session.max_in_flight)]
        session.close(drain=False)
        assert all(isinstance(future.exception(timeout=LIMIT), PipelineError) for future in futures)
        assert not any(map(alive, workers))
        forgotten = PipelineSession(directory, backend=backend)
        workers = pids(forgotten) if backend == "processes" else []
        del forgotten
        wait_for(lambda: not any(map(alive, workers)))  # noqa: B023 (called at once)
        wait_for(lambda: threading.active_count() <= threads)  # noqa: B023 (called at once)


def on_devices(skips: Path, devices: list[int], backend: str, depth: int, limit: int | None) -> None:
    """Run a stream with these devices; check outputs, order on the devices, and who ran what."""
    feeds = [{"x": np.random.default_rng(i).standard_normal(i % 7 + 1).astype(np.float32)} for i in range(24)]
    with tempfile.TemporaryDirectory() as folder:
        directory = deploy(shutil.copytree(skips, Path(folder) / "out"), devices=devices)
        with PipelineSession(directory, backend=backend, queue_depth=depth, max_in_flight=limit) as session:
            futures = [session.submit(each) for each in feeds]
            for each, future in zip(feeds, futures, strict=True):
                y, c = future.result(LIMIT)
                x, a = each["x"], np.abs(each["x"])
                same([y, c], [((x - a) * a + a) + (x - a), x - a])
            lines = session.timelines()
            if backend == "processes":
                assert len(pids(session)) == len(set(devices))
    assert len(lines) == 24
    for device in set(devices):
        spans = [span for line in lines for span in line.spans if devices[span.stage] == device]
        spans.sort(key=lambda span: span.start)
        assert all(a.end <= b.start for a, b in itertools.pairwise(spans))


devices = st.lists(st.integers(0, 2), min_size=6, max_size=6)
slow = {"deadline": None, "suppress_health_check": [HealthCheck.function_scoped_fixture]}


@settings(max_examples=40, **slow)  # type: ignore[arg-type]
@given(devices, st.integers(1, 2), st.none() | st.integers(1, 30))
def test_any_devices_on_threads(skips: Path, devices: list[int], depth: int, limit: int | None) -> None:
    """No deadlock, whatever stages share; equal outputs; a device does one thing at a time."""
    on_devices(skips, devices, "threads", depth, limit)


@settings(max_examples=4, **slow)  # type: ignore[arg-type]
@given(devices, st.integers(1, 2), st.none() | st.integers(1, 30))
def test_any_devices_in_processes(skips: Path, devices: list[int], depth: int, limit: int | None) -> None:
    """The same, one process per device."""
    on_devices(skips, devices, "processes", depth, limit)


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_device_that_is_visited_again(backend: str, skips: Path) -> None:
    """Every stage on the other one of two devices: with room for one request between them they would lock."""
    on_devices(skips, [0, 1, 0, 1, 0, 1], backend, 1, 30)


def test_what_stays_on_a_device_is_not_copied(skips: Path, tmp_path: Path) -> None:
    """No shared memory for tensors that only their own worker reads; timelines count their bytes."""
    directory = deploy(shutil.copytree(skips, tmp_path / "out"), devices=[0, 0, 1, 0, 0, 1])
    document = manifest.read(directory)
    wiring, units = Wiring.of(document), make_units(Layout.of(document))
    assert [unit.parts for unit in units] == [((0, 1, 3, 4),), ((2, 5),)]
    passed = {name for lane in make_lanes(wiring, units, 1, 5) for name in lane.names}
    assert passed == {"x", "b", "c", "e", "y"}  # a and d stay
    with PipelineSession(directory, backend="processes") as session:
        session.run(None, {"x": np.ones(3, np.float32)})
        (line,) = session.timelines()
    assert [span.stage for span in line.spans] == list(range(6))
    assert [span.nbytes for span in line.spans] == [12] * 6


def test_plain_stages_between_replicas_know_each_other(loops: Path, tmp_path: Path) -> None:
    """Requests pass through the session's process only where there is a choice."""
    document = manifest.read(deploy(shutil.copytree(loops, tmp_path / "out"), {3: 2}))
    wiring, units = Wiring.of(document), make_units(Layout.of(document))
    assert [(unit.parts, unit.replica, unit.is_chain) for unit in units] == [
        (((0,), (1,), (2,)), 0, True),
        (((3,),), 0, False),
        (((3,),), 1, False),
    ]
    lanes = make_lanes(wiring, units, 2, 20)
    inner = [lane for lane in lanes if not lane.by_ticket]
    assert inner
    assert all(0 <= lane.producer < lane.last <= 2 and lane.slots < 20 for lane in inner)
    assert all(lane.slots == 20 for lane in lanes if lane.by_ticket)


def test_threads_of_a_stage(loops: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The manifest's, or an even share of the cores among workers; session options come last."""
    monkeypatch.setattr("onnx_pipeline.runtime.placement.usable_cores", lambda: list(range(12)))
    document = manifest.read(deploy(shutil.copytree(loops, tmp_path / "r"), {1: 3}, threads={2: 5}))
    specs = place(tmp_path / "r", document, pin=True)
    assert [spec.settings.threads for spec in specs] == [2, 2, 5, 2]
    assert [spec.at(2).cores for spec in specs if len(spec.seats) > 2] == [(6, 7)]
    document = manifest.read(deploy(shutil.copytree(loops, tmp_path / "d"), devices=[0, 1, 0, 1]))
    specs = place(tmp_path / "d", document, sess_options={1: {"intra_op_num_threads": 9}}, pin=True)
    assert [spec.settings.threads for spec in specs] == [6] * 4
    assert specs[0].cores == specs[2].cores == (0, 1, 2, 3, 4, 5)
    monkeypatch.undo()
    deploy(tmp_path / "d", threads={1: 2})
    with PipelineSession(tmp_path / "d", sess_options={1: {"intra_op_num_threads": 1}}) as session:
        sessions = session._flow.backend._runners  # type: ignore[attr-defined]
        options = sessions[1][1].session.get_session_options()
        assert options.intra_op_num_threads == 1
    with PipelineSession(tmp_path / "d") as session:
        sessions = session._flow.backend._runners  # type: ignore[attr-defined]
        assert sessions[1][1].session.get_session_options().intra_op_num_threads == 2


def test_room_of_a_request_that_dies_waiting_comes_back(loops: Path, tmp_path: Path) -> None:
    """It waited for its sequence's replica behind another one; who had handed it over goes on."""
    directory = deploy(shutil.copytree(loops, tmp_path / "out"), {1: 2})
    with PipelineSession(directory, backend="processes", restart=True, queue_depth=1) as session:
        for round_ in range(3):
            other = session.submit(request(1, n=FOREVER), sequence=-1 - round_)
            futures = [session.submit(request(1, n=FOREVER), sequence=round_) for _ in range(3)]
            queue = session._flow.backend._board._queues[1]  # type: ignore[attr-defined]
            wait_for(lambda: len(queue) == 1)  # noqa: B023 (called at once)
            before = pids(session)
            for pid in before[1:3]:
                os.kill(pid, signal.SIGKILL)
            for future in (*futures, other):
                assert isinstance(future.exception(timeout=LIMIT), StageError)
            wait_for(lambda: len({*pids(session)} - {*before[1:3]}) == 5)  # noqa: B023 (called at once)
        for i in range(10):
            same(session.run(None, request(i)), answer(request(i)))
