"""Long runs: every result equal and in order, memory flat.

    python -m benchmarks.endurance [--requests 100000] [--compared 10000] [--backend threads|processes]

A small dynamic model with an output of its first stage, a tensor that skips a stage and an input that enters
late is fed requests of 40 shapes. The first ``--compared`` results are compared bit for bit with the stages
run one after another; then the resident memory of this process and its workers is watched. Exit code 1 if a
result differs or memory grows by 5 % or more after the first tenth.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx

import onnx_pipeline as op
from models.net import Net
from onnx_pipeline import manifest
from onnx_pipeline.ort.session import SessionSettings, open_session
from onnx_pipeline.runtime import PipelineSession

SHAPES = 40
GROWTH = 0.05


def build(folder: Path) -> Path:
    """Split a chain with a skip, an early output and a late input into three stages."""
    net = Net("endurance")
    x, late = net.input("x", ["n", 16]), net.input("late", ["n", 16])
    early = net.op("Relu", x)
    a = net.op("Add", net.op("MatMul", early, net.weight(16, 16)), early)
    b = net.op("Tanh", net.op("MatMul", a, net.weight(16, 16)))
    y = net.op("Add", net.op("Mul", b, late), early)
    for name in (early, y):
        net.output(name, ["n", 16])
    onnx.save(net.model(), folder / "model.onnx")
    costs = "".join(f"{node.name},100\n" for node in net.graph().node)
    (folder / "costs.csv").write_text(f"node,work_us\n{costs}")
    op.split(folder / "model.onnx", stages=3, output=folder / "out", cost_model=str(folder / "costs.csv"))
    return folder / "out"


def feeds(count: int) -> Iterator[dict[str, Any]]:
    """Yield requests whose shapes change every time and whose values never repeat."""
    base = np.random.default_rng(0).standard_normal((2, SHAPES, 16)).astype(np.float32)
    for i in range(count):
        rows = 1 + (7 * i) % SHAPES
        yield {"x": base[0, :rows] + np.float32(i % 997), "late": base[1, :rows]}


class Chain:
    """The stages one after another on plain onnxruntime sessions."""

    def __init__(self, directory: Path) -> None:
        document = manifest.read(directory)
        self.outputs = [port.name for port in document.model.outputs]
        settings = SessionSettings(threads=1)
        self.sessions = [open_session(directory / stage.file, settings) for stage in document.stages]

    def run(self, given: dict[str, Any]) -> list[Any]:
        values = dict(given)
        for session in self.sessions:
            names = [value.name for value in session.get_outputs()]
            inputs = {value.name: values[value.name] for value in session.get_inputs()}
            values.update(zip(names, session.run(names, inputs), strict=True))
        return [values[name] for name in self.outputs]


def resident(pids: list[int]) -> int:
    """Return the resident bytes of this process and others."""
    total = 0
    for pid in ("self", *pids):
        text = Path(f"/proc/{pid}/status").read_text()
        total += int(text.partition("VmRSS:")[2].split()[0]) * 1024
    return total


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--requests", type=int, default=100_000)
    parser.add_argument("--compared", type=int, default=10_000)
    parser.add_argument("--backend", choices=("threads", "processes"), default="threads")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        directory = build(Path(folder))
        with PipelineSession(directory, backend=arguments.backend) as session:
            chain = Chain(directory)
            for i, (given, result) in enumerate(
                zip(feeds(arguments.compared), session.map(feeds(arguments.compared)), strict=True)
            ):
                if not all(np.array_equal(a, b) for a, b in zip(result, chain.run(given), strict=True)):
                    print(f"request {i} differs")
                    return 1
            print(
                f"{arguments.compared} requests of {SHAPES} shapes: equal bit for bit and in order",
                flush=True,
            )
            return _watch(session, arguments.requests)


def _watch(session: PipelineSession, requests: int) -> int:
    pids = list(getattr(session._flow.backend, "workers", []))
    settled = last = 0
    begin = time.perf_counter()
    for i, _ in enumerate(session.map(feeds(requests)), 1):
        if i % max(1, requests // 10) == 0:
            last = resident(pids)
            settled = settled or last
            print(f"{i:8} requests: {last / 2**20:.1f} MiB resident", flush=True)
    rate = requests / (time.perf_counter() - begin)
    growth = last / settled - 1
    print(f"{rate:.0f} requests/s; memory grew by {100 * growth:+.2f} % after the first tenth")
    return int(growth >= GROWTH)


if __name__ == "__main__":
    sys.exit(main())
