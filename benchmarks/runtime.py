"""What the runtime costs and what it delivers: every figure of the README's section on running.

    python -m benchmarks.runtime overhead          per request and stage, and per byte
    python -m benchmarks.runtime models [NAME...]  two stages of real models against the unsplit model
    python -m benchmarks.runtime picture           docs/timeline.png: BERT in two stages

Models come from ``../shared/data/zoo`` (ONNX_PIPELINE_DATA overrides) and from ``models``; absent ones are
named and left out. Times that are compared are measured in the same round, medians of ratios are printed.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper

import onnx_pipeline as op
from models import builders
from onnx_pipeline.measurement.bench import bench
from onnx_pipeline.measurement.timeline import write_plot
from onnx_pipeline.runtime import PipelineSession

ROOT = Path(__file__).resolve().parent.parent
ZOO = Path(os.environ.get("ONNX_PIPELINE_DATA", ROOT.parent / "shared" / "data")) / "zoo"
ZOO_MODELS = ("resnet50_dynbatch", "bert_base_mlm_static", "vit_base_static", "unet_plain")
BACKENDS = ("threads", "processes")


def identities(folder: Path, stages: int, count: int) -> Path:
    """Split a chain of Identity nodes, one per stage, on ``count`` floats."""
    names = [f"t{i}" for i in range(stages + 1)]
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [count]) for name in (names[0], names[-1])]
    nodes = [helper.make_node("Identity", [a], [b], a) for a, b in pairwise(names)]
    graph = helper.make_graph(nodes, "identities", ends[:1], ends[1:])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, folder / "identities.onnx")
    lines = "".join(f"{node.name},100000\n" for node in nodes)
    (folder / "costs.csv").write_text(f"node,work_us\n{lines}")
    costs = str(folder / "costs.csv")
    op.split(folder / "identities.onnx", stages=stages, output=folder / "out", cost_model=costs)
    return folder / "out"


def overhead(seconds: float) -> None:
    """Print the time per request and stage that is not the model's, one at a time and when full."""
    for stages, backend in ((k, b) for k in (2, 4) for b in BACKENDS):
        with tempfile.TemporaryDirectory() as folder:
            directory = identities(Path(folder), stages, 256)
            with PipelineSession(directory, backend=backend) as session:
                alone, rate, latency = _stream(session, {"t0": np.ones(256, np.float32)}, seconds)
        print(
            f"{backend:9} {stages} stages, 1 kB: one at a time {alone / stages * 1e6:5.0f} us per stage; "
            f"full {1e6 / rate / stages:5.0f} us per stage, {rate:6.0f} requests/s, "
            f"p50 {latency * 1e6:5.0f} us",
            flush=True,
        )
    for megabytes in (1, 16):
        _copies(megabytes << 20, seconds)


def _stream(session: PipelineSession, feeds: dict[str, Any], seconds: float) -> tuple[float, float, float]:
    """Return the median of single requests, the rate of a full pipeline, and its median latency."""
    session.warm_up(50, feeds)
    single = []
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        begin = time.perf_counter()
        session.run(None, feeds)
        single.append(time.perf_counter() - begin)
    session.warm_up(1, feeds)
    count = max(100, int(2 * seconds / statistics.median(single)))
    for _ in session.map(feeds for _ in range(count)):
        pass
    found = session.stats()
    return statistics.median(single), found.throughput_per_second, found.latency_seconds["p50"] or 0.0


def _copies(nbytes: int, seconds: float) -> None:
    """Print how fast tensors move through two processes, next to a plain copy."""
    source = np.ones(nbytes, np.uint8)
    target = np.empty_like(source)
    np.copyto(target, source)
    plain = _rate(lambda: np.copyto(target, source), nbytes, seconds)
    fresh = _rate(lambda: source.copy(), nbytes, seconds)
    for backend in BACKENDS:
        with tempfile.TemporaryDirectory() as folder:
            directory = identities(Path(folder), 2, nbytes // 4)
            with PipelineSession(directory, backend=backend) as session:
                feeds = {"t0": np.ones(nbytes // 4, np.float32)}
                _, rate, _ = _stream(session, feeds, seconds)
        # Processes copy an input in and an output out; each Identity is a copy, too.
        print(
            f"{backend:9} 2 stages, {nbytes >> 20} MiB: {rate:6.1f} requests/s, "
            f"{rate * nbytes / 1e9:.1f} GB/s through each stage; "
            f"memcpy {plain:.1f} GB/s, into fresh memory {fresh:.1f} GB/s",
            flush=True,
        )


def _rate(copy: Any, nbytes: int, seconds: float) -> float:
    times = []
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        begin = time.perf_counter()
        copy()
        times.append(time.perf_counter() - begin)
    return nbytes / statistics.median(times) / 1e9


def models(names: list[str], rounds: int, backend: str) -> None:
    """Print efficiency, comparison and prediction for two stages of each model."""
    print(
        f"{'model':22} {'stage 0':>8} {'stage 1':>8} {'period':>8} {'effic.':>7} "
        f"{'/1 thr.':>8} {'/replicas':>9} {'/2 thr.':>8} {'predicted':>9} {'simulated':>17}"
    )
    for name in names:
        with tempfile.TemporaryDirectory() as folder:
            path = find_model(name, Path(folder))
            if path is None:
                print(f"{name:22} not here")
                continue
            op.split(path, stages=2, output=Path(folder) / "out")
            found = bench(Path(folder) / "out", rounds=rounds, backend=backend)
        ms = [1e3 * stage["measured_seconds"] for stage in found["stages"]]
        speed, model = found["speedup"], found["simulated"]
        period_error = model["period_seconds"] / found["period_seconds"] - 1
        latency_error = model["latency_seconds"]["p50"] / found["latency_seconds"]["p50"] - 1
        bottleneck = found["bottleneck"]
        error = bottleneck["predicted_seconds"] / bottleneck["measured_seconds"] - 1
        print(
            f"{name:22} {ms[0]:5.1f} ms {ms[1]:5.1f} ms {1e3 * found['period_seconds']:5.1f} ms "
            f"{found['efficiency']:7.3f} {speed['one_thread']:8.2f} {speed['replicas']:9.2f} "
            f"{speed['all_threads']:8.2f} {100 * error:+7.1f} % "
            f"{100 * period_error:+6.1f} %, {100 * latency_error:+6.1f} %",
            flush=True,
        )


def find_model(name: str, folder: Path) -> Path | None:
    """Return the file of a model of the zoo or of a seeded one; None if there is neither."""
    if hasattr(builders, name):
        onnx.save(getattr(builders, name)(), folder / "model.onnx")
        return folder / "model.onnx"
    path = ZOO / f"{name}.onnx"
    return path if path.is_file() else None


def picture() -> None:
    """Draw BERT in two stages."""
    path = ZOO / "bert_base_mlm_static.onnx"
    with tempfile.TemporaryDirectory() as folder:
        op.split(path, stages=2, output=Path(folder) / "out")
        bench(
            Path(folder) / "out",
            rounds=1,
            requests=12,
            baselines=False,
            observe=lambda lines, files: write_plot(ROOT / "docs" / "timeline.png", lines, files),
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("what", choices=("overhead", "models", "picture"))
    parser.add_argument("names", nargs="*", help="models; by default those of the README")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--backend", choices=BACKENDS, default="threads")
    parser.add_argument("--seconds", type=float, default=2.0, help="per measurement of overheads")
    arguments = parser.parse_args()
    if arguments.what == "overhead":
        overhead(arguments.seconds)
    elif arguments.what == "models":
        models(arguments.names or [*ZOO_MODELS, "resnet50"], arguments.rounds, arguments.backend)
    else:
        picture()


if __name__ == "__main__":
    main()
