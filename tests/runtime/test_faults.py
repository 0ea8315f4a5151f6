"""What goes wrong, with real processes: nothing hangs, nobody is left behind, /dev/shm stays clean."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import pytest

from onnx_pipeline.errors import InputError, PipelineError, StageError, UsageError
from onnx_pipeline.runtime import PipelineSession
from tests import streaming
from tests.streaming import BACKENDS, FOREVER, alive, answer, request, wait_for

ROOT = Path(__file__).resolve().parents[2]
LIMIT = 60.0


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The loop model in two stages; the loop is in the first."""
    return streaming.loops(tmp_path_factory.mktemp("loops"), 2)


def workers(session: PipelineSession) -> list[int]:
    """Process ids of the stages."""
    return list(session._flow.backend.workers)  # type: ignore[attr-defined]


def busy(session: PipelineSession) -> list[Future[list[Any]]]:
    """Fill a session with requests that never end."""
    return [session.submit(request(i, n=FOREVER)) for i in range(session.max_in_flight)]


@pytest.mark.parametrize("victim", [0, 1])
def test_a_dead_worker_fails_what_is_in_flight(victim: int, directory: Path) -> None:
    """At once, naming the stage and how it ended; later requests are refused with the same words."""
    before = streaming.shared_memory()
    with PipelineSession(directory, backend="processes") as session:
        pids = workers(session)
        futures = busy(session)
        os.kill(pids[victim], signal.SIGKILL)
        for future in futures:
            error = future.exception(timeout=LIMIT)
            assert isinstance(error, StageError)
            assert error.stage == victim
            assert f"stage_{victim}.onnx" in str(error)
            assert "SIGKILL" in str(error)
        with pytest.raises(StageError, match="was killed"):
            session.run(None, request(1))
    wait_for(lambda: not any(map(alive, pids)))
    assert streaming.shared_memory() <= before


def test_a_dead_worker_is_replaced(directory: Path) -> None:
    """With restart=True the next request succeeds, on new processes, twice over."""
    with PipelineSession(directory, backend="processes", restart=True) as session:
        for round_ in range(2):
            pids = workers(session)
            futures = busy(session)
            os.kill(pids[round_], signal.SIGTERM)
            for future in futures:
                assert "SIGTERM" in str(future.exception(timeout=LIMIT))
            feeds = request(5)
            assert (session.run(None, feeds)[0] == answer(feeds)[0]).all()
            assert not any(map(alive, pids))
            assert not set(pids) & set(workers(session))
        assert session.stats().failed == 2 * session.max_in_flight
    assert workers(session) == [] or not any(map(alive, workers(session)))


@pytest.mark.parametrize("backend", ["threads", "processes"])
def test_errors_of_loading_arrive_whole(directory: Path, backend: str) -> None:
    """Whichever backend loads the stages: the same kind of error, with its hint."""
    with pytest.raises(UsageError, match="have no 'intra_op_thread_num'") as caught:
        PipelineSession(directory, backend=backend, sess_options={"intra_op_thread_num": 1})
    assert "did you mean 'intra_op_num_threads'" in str(caught.value.hint)


def test_a_stage_that_cannot_be_loaded(directory: Path, tmp_path: Path) -> None:
    """The other workers do not stay behind; the message is that of threads."""
    import shutil

    broken = tmp_path / "broken"
    shutil.copytree(directory, broken)
    (broken / "stage_1.onnx").write_bytes(b"nothing")
    threads = threading.active_count()
    for backend in BACKENDS:
        with pytest.raises(InputError, match=r"stage_1\.onnx: onnxruntime cannot load this stage"):
            PipelineSession(broken, backend=backend)
    assert threading.active_count() == threads


@pytest.mark.parametrize("backend", BACKENDS)
def test_close_while_busy(backend: str, directory: Path) -> None:
    """Without draining, what is in flight and who waits to get in is told; nothing runs on."""
    session = PipelineSession(directory, backend=backend)
    futures = busy(session)
    outside: list[BaseException] = []

    def late() -> None:
        try:
            session.submit(request(1))
        except PipelineError as error:
            outside.append(error)

    waiting = threading.Thread(target=late)
    waiting.start()
    wait_for(lambda: len(session._flow.gate._waiters) == 1)
    session.close(drain=False)
    waiting.join(LIMIT)
    assert len(outside) == 1
    for future in futures:
        assert isinstance(future.exception(timeout=LIMIT), PipelineError)
    with pytest.raises(PipelineError, match="closed"):
        session.run(None, request(1))
    session.close()


@pytest.mark.parametrize("backend", BACKENDS)
def test_close_drains(backend: str, directory: Path) -> None:
    """By default everything that was accepted is finished."""
    session = PipelineSession(directory, backend=backend)
    futures = [session.submit(request(i, n=2000)) for i in range(session.max_in_flight)]
    session.close()
    for i, future in enumerate(futures):
        assert future.done()
        assert (future.result()[0] == answer(request(i, n=2000))[0]).all()


@pytest.mark.parametrize("backend", BACKENDS)
def test_close_waits_no_longer_than_it_is_told(backend: str, directory: Path) -> None:
    """Draining what never ends, with a limit."""
    session = PipelineSession(directory, backend=backend)
    futures = busy(session)
    session.close(timeout=0.05)
    assert all(isinstance(future.exception(timeout=LIMIT), PipelineError) for future in futures)


@pytest.mark.parametrize("backend", BACKENDS)
def test_an_exception_in_the_block_does_not_drain(backend: str, directory: Path) -> None:
    """Ctrl-C in a with statement ends it although a request would go on for ever."""
    futures: list[Future[list[Any]]] = []

    def interrupted() -> None:
        with PipelineSession(directory, backend=backend) as session:
            futures.append(session.submit(request(1, n=FOREVER)))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert isinstance(futures[0].exception(timeout=LIMIT), PipelineError)


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_consumer_that_stops_reading(backend: str, directory: Path) -> None:
    """An abandoned stream does not keep close from ending, nor does it hold what nobody reads."""
    with PipelineSession(directory, backend=backend) as session:
        stream = session.map(streaming.numbers(10**9))
        next(stream)
        wait_for(lambda: session.stats().in_flight == 0)
    with pytest.raises(PipelineError):
        for _ in stream:
            pass


SCRIPT = """
import numpy as np
from onnx_pipeline.runtime import PipelineSession
session = PipelineSession({directory!r}, backend={backend!r})
x = np.ones(3, np.float32)
futures = [session.submit({{"x": x, "n": np.array({forever}), "late": x}}) for i in range(3)]
print(*getattr(session._flow.backend, "workers", []), flush=True)
futures[0].result()
"""


def start(directory: Path, backend: str) -> tuple[subprocess.Popen[str], list[int]]:
    """Start a process with a busy session; return it and its workers."""
    code = SCRIPT.format(directory=str(directory), backend=backend, forever=FOREVER)
    process = subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT
    )
    assert process.stdout is not None
    return process, [int(pid) for pid in process.stdout.readline().split()]


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_killed_parent_leaves_nothing(number: signal.Signals, directory: Path) -> None:
    """No orphan, although every worker was in the middle of something; no shared memory."""
    before = streaming.shared_memory()
    process, pids = start(directory, "processes")
    assert len(pids) == 2
    process.send_signal(number)
    process.communicate(timeout=LIMIT)
    wait_for(lambda: not any(map(alive, pids)))
    assert streaming.shared_memory() <= before


@pytest.mark.parametrize("backend", BACKENDS)
def test_ctrl_c_ends_a_script(backend: str, directory: Path) -> None:
    """One KeyboardInterrupt in the caller, nothing said by workers, nobody left; not even closed by hand."""
    process, pids = start(directory, backend)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=LIMIT)
    assert process.returncode == -signal.SIGINT
    assert err.count("Traceback") == 1
    assert err.splitlines()[-1] == "KeyboardInterrupt"
    wait_for(lambda: not any(map(alive, pids)))


def test_a_worker_that_stops_does_not_block_the_end(directory: Path) -> None:
    """SIGSTOP: neither dead nor alive; closing kills it."""
    session = PipelineSession(directory, backend="processes")
    pids = workers(session)
    os.kill(pids[1], signal.SIGSTOP)
    future = session.submit(request(1))
    session.close(timeout=0.05)
    assert isinstance(future.exception(timeout=LIMIT), PipelineError)
    assert not any(map(alive, pids))
