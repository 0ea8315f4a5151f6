"""Forks of a process with a session, and what a start that fails or takes long leaves to others."""

from __future__ import annotations

import asyncio
import os
import signal
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from onnx_pipeline.errors import InputError, PipelineError
from onnx_pipeline.runtime import PipelineSession
from onnx_pipeline.runtime.processes import backend as processes
from onnx_pipeline.runtime.processes.crew import Crew
from tests import streaming
from tests.streaming import BACKENDS, answer, request, wait_for

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The loop model in two stages."""
    return streaming.loops(tmp_path_factory.mktemp("loops"), 2)


def fork(action: Callable[[], Any]) -> int:
    """Do something in a fork, whose exit code says whether it ended without an exception."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # newer versions of Python warn of threads
        child = os.fork()
    if child:
        return child
    try:
        action()
    except BaseException:
        os._exit(1)
    os._exit(0)


def ended(child: int, seconds: float = 20.0) -> int:
    """Return the exit code of a fork, -1 if it had to be ended."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        found, status = os.waitpid(child, os.WNOHANG)
        if found:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.01)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return -1


def same(actual: list[Any], expected: list[Any]) -> None:
    """Bit for bit."""
    for a, e in zip(actual, expected, strict=True):
        np.testing.assert_array_equal(a, e)


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_fork_cannot_use_the_session(backend: str, directory: Path) -> None:
    """It is told so; neither that nor its end, with its own close(), is felt by the parent."""
    with PipelineSession(directory, backend=backend) as session:
        same(session.run(None, request(1)), answer(request(1)))

        def misuse() -> None:
            with pytest.raises(PipelineError, match="belongs to the process that forked"):
                session.run(None, request(2))
            session.close()
            session._flow._finalizer()

        assert ended(fork(misuse)) == 0
        same(session.run(None, request(3)), answer(request(3)))


@pytest.mark.parametrize("backend", BACKENDS)
def test_closing_does_not_wait_for_a_fork(backend: str, directory: Path) -> None:
    """A fork that lives on holds the ends of all pipes open."""
    session = PipelineSession(directory, backend=backend)
    session.run(None, request(1))
    child = fork(lambda: time.sleep(60))
    try:
        begin = time.monotonic()
        session.close()
        assert time.monotonic() - begin < 2.5
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="needs /proc")
@pytest.mark.parametrize("backend", BACKENDS)
def test_a_failed_start_leaks_no_descriptors(backend: str, tmp_path: Path) -> None:
    """The second stage cannot be loaded."""
    directory = streaming.loops(tmp_path, 2)
    (directory / "stage_1.onnx").write_bytes(b"not a model")

    def count() -> int:
        return len(os.listdir("/proc/self/fd"))

    def fail() -> None:
        with pytest.raises(InputError, match="stage_1"):
            PipelineSession(directory, backend=backend)

    fail()
    before = count()
    for _ in range(3):
        fail()
    assert count() <= before


def test_a_restart_does_not_block_an_event_loop(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Requests that come in meanwhile are answered by the new workers."""

    def slow(*plan: Any) -> Crew:
        time.sleep(1.0)
        return Crew(*plan)

    async def ask() -> tuple[list[Any], float]:
        task = asyncio.ensure_future(session.arun(None, request(2)))
        longest, last = 0.0, time.monotonic()
        while not task.done():
            await asyncio.sleep(0.01)
            longest, last = max(longest, time.monotonic() - last), time.monotonic()
        return await task, longest

    with PipelineSession(directory, backend="processes", restart=True) as session:
        monkeypatch.setattr(processes, "Crew", slow)
        pids = session._flow.backend.workers  # type: ignore[attr-defined]
        os.kill(pids[0], signal.SIGKILL)
        wait_for(lambda: not session._flow.backend.workers)  # type: ignore[attr-defined]
        result, longest = asyncio.run(ask())
        same(result, answer(request(2)))
        assert longest < 0.7
