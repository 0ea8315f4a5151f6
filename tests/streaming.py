"""Helpers of the runtime tests: a split that works as long as it is told to, and what it must give."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from onnx_pipeline import manifest
from tests.splitting import save, split

BACKENDS = ("threads", "processes")
#: Iterations that no test waits for.
FOREVER = 10**15

#: Negates n times in a loop; `early` is an output that later stages read too, `late` enters late.
TEXT = """m (float[N] x, int64 n, float[N] late) => (float[N] y, float[N] early) {
    early = Abs(x)
    b = Loop (n, , early) <body = body (int64 i, bool c, float[K] s) => (bool d, float[K] t) {
        d = Identity(c)
        t = Neg(s)
    }>
    skip = Add(b, late)
    y = Mul(skip, early)
}"""


def loops(folder: Path, stages: int = 4) -> Path:
    """Split :data:`TEXT` into stages of one node each, or into two of two."""
    split(save(folder, TEXT), folder / "out", stages)
    return folder / "out"


def request(seed: int, n: int = 1, size: int | None = None) -> dict[str, Any]:
    """Return feeds whose shape depends on the seed."""
    random = np.random.default_rng(seed)
    shape = (seed % 13 + 1 if size is None else size,)
    x, late = (random.standard_normal(shape).astype(np.float32) for _ in range(2))
    return {"x": x, "n": np.array(n), "late": late}


def answer(feeds: dict[str, Any]) -> list[Any]:
    """Return what the model gives, computed by numpy."""
    early = np.abs(feeds["x"])
    looped = -early if int(feeds["n"]) % 2 else early
    return [(looped + feeds["late"]) * early, early]


def wait_for(condition: Callable[[], bool], seconds: float = 60.0) -> None:
    """Wait until something is true; far longer than it ever takes."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it never came true"
        time.sleep(0.005)


def alive(pid: int) -> bool:
    """Whether a process runs (a zombie does not)."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"


def shared_memory() -> set[str]:
    """Names in /dev/shm."""
    return set(os.listdir("/dev/shm"))


def numbers(count: int) -> Iterator[dict[str, Any]]:
    """Yield requests of mixed shapes."""
    for seed in range(count):
        yield request(seed, n=seed % 3)


def deploy(
    directory: Path,
    replicas: Mapping[int, int] | None = None,
    devices: Sequence[int] | None = None,
    threads: Mapping[int, int] | None = None,
) -> Path:
    """Rewrite the manifest of a split: replicas and threads by stage, or the device of every stage.

    It still passes ``manifest.read``. Returned is the directory.
    """
    file = directory / "manifest.json"
    document = json.loads(file.read_text())
    for key, values in (
        ("replicas", replicas or {}),
        ("device", dict(enumerate(devices or ()))),
        ("threads", threads or {}),
    ):
        for stage, value in values.items():
            document["stages"][stage][key] = value
    if replicas:
        document["target"]["devices"] = sum(stage.get("replicas", 1) for stage in document["stages"])
    if devices is not None:
        kind = {"name": "cpu", "bandwidth_bytes_per_second": None, "memory_bytes": None}
        fleet = {"kinds": [kind], "devices": [0] * (max(devices) + 1)}
        document["target"]["fleet"] = fleet | {"free": True, "stages_per_device": None}
    file.write_text(json.dumps(document))
    manifest.read(directory)
    return directory
