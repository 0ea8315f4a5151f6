"""Requests streaming through a PipelineSession: order, equality, laziness, statistics, on both backends."""

from __future__ import annotations

import asyncio
import gc
import itertools
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from onnx_pipeline.errors import InputError, StageError, UsageError
from onnx_pipeline.runtime import PipelineSession
from tests import streaming
from tests.splitting import save, split
from tests.streaming import BACKENDS, answer, request


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The loop model in four stages."""
    return streaming.loops(tmp_path_factory.mktemp("loops"))


@pytest.fixture(scope="module", params=BACKENDS)
def session(request: pytest.FixtureRequest, directory: Path) -> Iterator[PipelineSession]:
    """A session per backend, used by many tests."""
    with PipelineSession(directory, backend=request.param) as session:
        yield session


def same(actual: list[Any], expected: list[Any]) -> None:
    """Bitwise."""
    for a, e in zip(actual, expected, strict=True):
        np.testing.assert_array_equal(a, e)


def test_mixed_shapes_stay_in_order_and_equal(session: PipelineSession) -> None:
    """Requests of 13 shapes in flight together, each result at its place."""
    results = list(session.map(streaming.numbers(500)))
    assert len(results) == 500
    for feeds, result in zip(streaming.numbers(500), results, strict=True):
        same(result, answer(feeds))


def test_unordered_gives_every_result_once(session: PipelineSession) -> None:
    """The same results, in whatever order."""
    sizes = sorted(len(y) for y, _ in session.map(streaming.numbers(60), ordered=False))
    assert sizes == sorted(len(feeds["x"]) for feeds in streaming.numbers(60))


def test_map_is_lazy_on_both_ends(session: PipelineSession) -> None:
    """An endless stream; who stops reading stops it, and never more is taken than fits inside."""
    taken = 0

    def endless() -> Iterator[dict[str, Any]]:
        nonlocal taken
        while True:
            taken += 1
            yield request(taken)

    stream = session.map(endless())
    assert taken == 0
    for seen in range(1, 30):
        next(stream)
        assert taken <= seen + session.max_in_flight
    stream.close()
    streaming.wait_for(lambda: session.stats().in_flight == 0)
    same(session.run(None, request(5)), answer(request(5)))


def test_a_producer_that_raises_loses_nothing(session: PipelineSession) -> None:
    """What came before is yielded, then its own exception is raised."""

    def broken() -> Iterator[dict[str, Any]]:
        yield from streaming.numbers(7)
        raise KeyError("no more")

    stream = session.map(broken())
    for feeds in streaming.numbers(7):
        same(next(stream), answer(feeds))
    with pytest.raises(KeyError, match="no more"):
        next(stream)
    same(session.run(None, request(1)), answer(request(1)))


def test_bad_feeds_fail_alone(session: PipelineSession) -> None:
    """They never enter; their neighbours do not notice."""
    good, bad = request(3), {**request(3), "x": np.zeros((2, 2), np.float64)}
    before = session.submit(good)
    with pytest.raises(InputError, match=r"input 'x' must be float32\[N\], got float64\[2, 2\]"):
        session.submit(bad)
    same(before.result(), answer(good))
    results = list(session.map([good, bad, good], return_exceptions=True))
    assert isinstance(results[1], InputError)
    same(results[2], answer(good))
    stream = session.map([good, bad, good])
    same(next(stream), answer(good))
    with pytest.raises(InputError, match="'x'"):
        next(stream)


def test_a_stage_that_raises_fails_that_request(session: PipelineSession) -> None:
    """Shapes that do not add up fail in stage 2, whose file is named; the others are fine."""
    wrong = {**request(4, size=4), "late": np.ones(3, np.float32)}
    failed = session.stats().failed
    results = list(session.map([request(1), wrong, request(2)], return_exceptions=True))
    same(results[0], answer(request(1)))
    same(results[2], answer(request(2)))
    error = results[1]
    assert isinstance(error, StageError)
    assert error.stage == 2
    assert Path(error.file).name == "stage_2.onnx"
    assert "stage 2 failed" in str(error)
    assert session.stats().failed == failed + 1


def test_only_the_outputs_asked_for(session: PipelineSession) -> None:
    """An output of the first stage, by name."""
    (early,) = session.run(["early"], request(6))
    np.testing.assert_array_equal(early, np.abs(request(6)["x"]))
    (early,) = session.submit(request(6), ["early"]).result()
    np.testing.assert_array_equal(early, np.abs(request(6)["x"]))


def test_many_threads_may_call(session: PipelineSession) -> None:
    """Each gets its own answer."""
    problems: list[BaseException] = []

    def call(seed: int) -> None:
        try:
            for i in range(20):
                same(session.run(None, request(seed + i)), answer(request(seed + i)))
        except BaseException as error:
            problems.append(error)

    threads = [threading.Thread(target=call, args=(100 * i,)) for i in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not problems


def test_arun(session: PipelineSession) -> None:
    """Far more coroutines than fit inside, none of which blocks the loop; one that is cancelled leaves."""

    async def main() -> None:
        calls = [asyncio.ensure_future(session.arun(None, request(i))) for i in range(50)]
        cancelled = asyncio.ensure_future(session.arun(None, request(0)))
        await asyncio.sleep(0)
        cancelled.cancel()
        for i, result in enumerate(await asyncio.gather(*calls)):
            same(result, answer(request(i)))
        with pytest.raises(asyncio.CancelledError):
            await cancelled

    asyncio.run(main())
    streaming.wait_for(lambda: session.stats().in_flight == 0)


def test_fed_arrays_are_not_modified(session: PipelineSession) -> None:
    """Nor may results share memory with them or with each other."""
    feeds = request(7, n=0)
    copies = {name: array.copy() for name, array in feeds.items()}
    first, second = session.run(None, feeds), session.run(None, feeds)
    for array in first:
        array += 1
    same(second, answer(feeds))
    for name, array in feeds.items():
        np.testing.assert_array_equal(array, copies[name])


def test_statistics(directory: Path) -> None:
    """Requests, failures, percentiles, and per stage counts and bytes; warming up does not count."""
    with PipelineSession(directory) as session:
        session.warm_up(2)
        assert session.stats().requests == 0
        list(session.map(request(i, size=4) for i in range(10)))
        found = session.stats()
    assert (found.requests, found.failed, found.in_flight, found.backend) == (10, 0, 0, "threads")
    assert [stage.requests for stage in found.stages] == [10] * 4
    assert found.stages[0].transfer_bytes == 10 * 4 * 4
    latency = found.latency_seconds
    assert 0 < latency["p50"] <= latency["p95"] <= latency["p99"] <= found.seconds
    assert found.to_json()["stages"][1]["file"] == "stage_1.onnx"


def test_timelines_are_causal(session: PipelineSession) -> None:
    """A stage starts a request after the stage before has ended it, and one request at a time."""
    list(session.map(streaming.numbers(30)))
    lines = session.timelines()[-30:]
    for line in lines:
        assert [span.stage for span in line.spans] == [0, 1, 2, 3]
        for span in line.spans:
            assert span.start <= span.end <= span.sent
        for a, b in zip(line.spans, line.spans[1:], strict=False):
            assert a.end <= b.start
        assert line.submitted <= line.spans[0].start
        assert line.spans[-1].end <= line.done
    for a, b in itertools.pairwise(lines):
        for first, second in zip(a.spans, b.spans, strict=True):
            assert first.end <= second.start


@pytest.mark.parametrize("backend", BACKENDS)
def test_strings_scalars_and_fixed_shapes(backend: str, tmp_path: Path) -> None:
    """Strings cross borders, a scalar too; outputs of fixed shape are written in place."""
    text = """m (string[N] s, float k, float[2, 3] f) => (string[N] t, float l, float[2, 3] g) {
        a = Identity(s)  b = Neg(k)  c = Relu(f)
        t = Identity(a)  l = Neg(b)  g = Add(c, b)
    }"""
    split(save(tmp_path, text), tmp_path / "out", 4)
    with PipelineSession(tmp_path / "out", backend=backend) as session:
        for i in range(12):
            s = np.array(["", "ü" * i, "x\0y"][: i % 3 + 1], object)
            f = np.arange(6, dtype=np.float32).reshape(2, 3) - i
            t, out, g = session.run(None, {"s": s, "k": np.float32(i), "f": f})
            assert t.tolist() == s.tolist()
            assert out == np.float32(i)
            assert out.shape == ()
            np.testing.assert_array_equal(g, np.maximum(f, 0) - np.float32(i))


@pytest.mark.parametrize("backend", BACKENDS)
def test_foreign_types_sequences_and_detours(backend: str, tmp_path: Path) -> None:
    """bfloat16, a sequence, an output that is an input, a stage with nothing from the one before."""
    import ml_dtypes

    text = """m (bfloat16[N] x, float[M] w) => (bfloat16[N] y, float[M] w, seq(float[M]) q, float[M] v) {
        a = Identity(x)  u = Neg(w)  q = SequenceConstruct(u, w)  y = Identity(a)  v = Abs(w)
    }"""
    split(save(tmp_path, text), tmp_path / "out", 5)
    x, w = np.array([1, 2.5, -3], ml_dtypes.bfloat16), np.array([-1, 2], np.float32)
    with PipelineSession(tmp_path / "out", backend=backend) as session:
        for _ in range(20):
            y, same_w, q, v = session.run(None, {"x": x, "w": w})
    assert y.dtype == x.dtype
    np.testing.assert_array_equal(y.astype(np.float32), [1, 2.5, -3])
    np.testing.assert_array_equal(same_w, w)
    assert not np.shares_memory(same_w, w)
    np.testing.assert_array_equal(q[0], -w)
    np.testing.assert_array_equal(v, np.abs(w))


def test_big_tensors_grow_their_slots(directory: Path) -> None:
    """Small, large, small: a slot's memory grows while older views stay valid."""
    with PipelineSession(directory, backend="processes") as session:
        sizes = [3, 100_000, 5, 1_000_000, 2, 300_000] * 4
        results = session.map(request(i, size=size) for i, size in enumerate(sizes))
        for i, (size, result) in enumerate(zip(sizes, results, strict=True)):
            same(result, answer(request(i, size=size)))


def test_a_big_tensor_behind_a_small_one(tmp_path: Path) -> None:
    """Both are of fixed shape and lie in one slot, which grows once the second one is looked for."""
    text = """m (float[8] x, float[300000] z) => (float[300000] y) {
        a = Neg(x)  b = Abs(z)  s = ReduceSum <keepdims = 1> (a)  y = Mul(b, s)
    }"""
    split(save(tmp_path, text), tmp_path / "out", 2)
    with PipelineSession(tmp_path / "out", backend="processes") as session:
        for i in range(30):
            x, z = np.full(8, i, np.float32), np.arange(300000, dtype=np.float32) - 10**5
            np.testing.assert_array_equal(session.run(None, {"x": x, "z": z})[0], np.abs(z) * -8 * i)


@pytest.mark.parametrize(
    ("backend", "depth", "limit"),
    [("threads", 1, 1), ("threads", 1, None), ("threads", 2, 40), ("processes", 1, 1), ("processes", 2, 40)],
)
def test_any_depth_and_limit(backend: str, depth: int, limit: int | None, directory: Path) -> None:
    """The smallest buffers there are, and far more in flight than there is room between the stages."""
    with PipelineSession(directory, backend=backend, queue_depth=depth, max_in_flight=limit) as session:
        for feeds, result in zip(streaming.numbers(60), session.map(streaming.numbers(60)), strict=True):
            same(result, answer(feeds))


def test_a_forgotten_session_ends_its_workers(directory: Path) -> None:
    """Nobody called close."""
    session = PipelineSession(directory, backend="processes")
    workers = session._flow.backend.workers  # type: ignore[attr-defined]
    assert all(streaming.alive(pid) for pid in workers)
    del session
    gc.collect()
    streaming.wait_for(lambda: not any(streaming.alive(pid) for pid in workers))


def test_descriptions(session: PipelineSession) -> None:
    """As onnxruntime gives them."""
    assert [(a.name, a.type, a.shape) for a in session.get_inputs()][1] == ("n", "tensor(int64)", ())
    assert session.get_providers() == ["CPUExecutionProvider"]
    assert session.get_stage_providers() == [["CPUExecutionProvider"]] * 4
    assert isinstance(session.get_modelmeta().custom_metadata_map, dict)


@pytest.mark.parametrize("backend", BACKENDS)
def test_options_reach_the_stages(backend: str, directory: Path, tmp_path: Path) -> None:
    """Attributes and entries of a mapping, per stage and for all; a saved model proves that they arrived."""
    saved = tmp_path / "optimised.onnx"
    options = {2: {"optimized_model_filepath": str(saved), "session.intra_op.allow_spinning": "0"}}
    with PipelineSession(
        directory,
        providers={None: ["CPUExecutionProvider"], 1: [("CPUExecutionProvider", {})]},
        provider_options={1: [{}]},
        sess_options=options,
        backend=backend,
        pin=True,
    ) as session:
        same(session.run(None, request(1)), answer(request(1)))
    assert saved.is_file()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"backend": "magic"}, "one of auto, threads, processes"),
        ({"queue_depth": 0}, "at least 1"),
        ({"max_in_flight": 0}, "at least 1"),
        ({"providers": ["WarpDriveExecutionProvider"]}, "unknown provider 'WarpDriveExecutionProvider'"),
        ({"providers": {9: ["CPUExecutionProvider"]}}, "no stage 9; stages are 0 to 3"),
        ({"providers": ["CPUExecutionProvider"], "provider_options": [{}, {}]}, "1 provider but 2"),
        ({"sess_options": {"no_such_option": 1}}, "no 'no_such_option'"),
    ],
)
def test_options_that_make_no_sense(options: dict[str, Any], message: str, directory: Path) -> None:
    """One line each, before anything is loaded."""
    with pytest.raises(UsageError, match=message):
        PipelineSession(directory, **options)


def test_a_session_options_object_stays_here(directory: Path) -> None:
    """Threads take it; it cannot be sent to a process."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    with PipelineSession(directory, sess_options=options) as session:
        assert session.backend == "threads"
    with pytest.raises(UsageError, match="cannot be sent to another process"):
        PipelineSession(directory, sess_options=options, backend="processes")
