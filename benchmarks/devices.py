"""Replicas, kinds of device and shared devices, executed: what plans say against what this machine does.

    python -m benchmarks.devices replicas [NAME ...]  a stage on two replicas, and two stages, on two devices
    python -m benchmarks.devices kinds [NAME ...]     two kinds of device: CPU with one and with two threads
    python -m benchmarks.devices shared [NAME ...]    several stages on one, where the other lacks operators

``replicas`` runs with one thread each. Planned is the period on one device over that on two; measured is the
same ratio of throughputs, requests streaming through ``PipelineSession`` in order. The last columns say what
two plain sessions of onnxruntime on two threads reach, without the runtime, and the runtime over that: what
two cores of a machine do not give cannot be planned away.

``kinds`` and ``shared`` plan with profiles that were taken just before. Two cores cannot run a thread and two
threads at once, so each stage is measured alone; the pipelined rate stands beside it. Errors are those of the
measured bottleneck, as it is and with both sides divided by the unsplit model with one thread, predicted and
measured, since the machine drifts between a profile and a measurement. ``shared`` compares every output with
the unsplit model, on both backends.

All times are paired: a round measures every contender once, in turn, and medians over rounds of their ratios
are printed. Models come from ``../shared/data/zoo`` (ONNX_PIPELINE_DATA overrides) and from ``models``.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

import onnx_pipeline as op
from benchmarks.runtime import find_model
from onnx_pipeline import manifest
from onnx_pipeline.graph.costs_json import read_graph
from onnx_pipeline.measurement.bench import bench
from onnx_pipeline.measurement.feeds import request_feeds
from onnx_pipeline.ort.call import Runner
from onnx_pipeline.ort.session import SessionSettings, open_session
from onnx_pipeline.progress import silent
from onnx_pipeline.runtime import PipelineSession

Feeds = Mapping[str, Any]

REPLICATED = ("resnet50_dynbatch", "efficientnet_b0", "unet_plain")
KINDS = ("resnet50_dynbatch", "bert_base_mlm_static", "unet_plain")
#: What the faster device lacks: an operator that recurs in every layer.
LACKING = {"vit_base_static": "LayerNormalization", "mobilenetv3_large": "HardSwish"}
FLEET = """order = "any"
stages_per_device = {share}

[[device]]
name = "one"
device = "cpu"
threads = 1

[[device]]
name = "two"
device = "cpu"
threads = 2
unsupported = {lacking}
"""


def replicas(path: Path, folder: Path, rounds: int, seconds: float) -> str:
    """Return a row: one device, two replicas, two stages."""
    op.split(path, devices=2, output=folder / "two", measure=0)
    op.split(path, stages=2, output=folder / "chain", measure=0)
    plan = manifest.read(folder / "two")
    (stage,) = plan.stages
    _without_replicas(shutil.copytree(folder / "two", folder / "one"))
    cost, chain = stage.cost["total_seconds"], manifest.read(folder / "chain")
    slowest = max(stage.cost["total_seconds"] for stage in chain.stages)
    planned = {"two": float(stage.replicas), "chain": cost / slowest}
    feeds = request_feeds(folder / "two", plan, None, None, silent)
    copies = [Runner(open_session(path, SessionSettings(threads=1))) for _ in range(2)]
    sessions = {
        name: PipelineSession(folder / name, sess_options=_SINGLE) for name in ("one", "two", "chain")
    }
    contenders: dict[str, Callable[[], float]] = {
        name: partial(_streamed, session, feeds, seconds) for name, session in sessions.items()
    }
    contenders |= {f"plain {n}": partial(_plain, copies[:n], feeds, seconds) for n in (1, 2)}
    times = paired(contenders, rounds)
    order = _keeps_order(sessions["two"], feeds)
    for session in sessions.values():
        session.close()
    two, split = ratio(times, "one", "two"), ratio(times, "one", "chain")
    plain = ratio(times, "plain 1", "plain 2")
    return (
        f"{1e3 * statistics.median(times['one']):7.2f} ms "
        f"{planned['two']:7.2f} {two:8.2f} {_error(two, planned['two'])} "
        f"{planned['chain']:8.2f} {split:8.2f} {_error(split, planned['chain'])} "
        f"{plain:6.2f} {two / plain:8.3f}  {'yes' if order else 'NO'}"
    )


_SINGLE = {"intra_op_num_threads": 1}


def _without_replicas(directory: Path | str) -> None:
    file = Path(directory) / manifest.FILE_NAME
    document = json.loads(file.read_text())
    for stage in document["stages"]:
        stage.pop("replicas", None)
    file.write_text(json.dumps(document))
    manifest.read(directory)


def paired(contenders: Mapping[str, Callable[[], float]], rounds: int) -> dict[str, list[float]]:
    """Measure everything once a round, in an order that turns; return seconds by contender and round."""
    times: dict[str, list[float]] = {name: [] for name in contenders}
    names = list(contenders)
    for index in range(rounds + 1):
        turn = index % len(names)
        for name in names[turn:] + names[:turn]:
            found = contenders[name]()
            if index:  # the first round warms up
                times[name].append(found)
    return times


def ratio(times: Mapping[str, list[float]], slower: str, faster: str) -> float:
    """Return the median over rounds of how many times as fast one is."""
    return statistics.median(a / b for a, b in zip(times[slower], times[faster], strict=True))


def _streamed(session: PipelineSession, feeds: Feeds, seconds: float) -> float:
    """Return the time between two results of a full pipeline."""
    begin, done = time.perf_counter(), 0
    marks: list[float] = []

    def source() -> Any:
        while time.perf_counter() - begin < seconds or done < 3 * session.max_in_flight:
            yield feeds

    for _ in session.map(source()):
        done += 1
        marks.append(time.perf_counter())
    # Without those that filled it and those that emptied it.
    full = marks[session.max_in_flight : -session.max_in_flight]
    return (full[-1] - full[0]) / (len(full) - 1)


def _plain(copies: list[Runner], feeds: Feeds, seconds: float) -> float:
    """Return seconds per request of sessions side by side, each on a thread."""

    def work(run: Runner) -> tuple[int, float]:
        begin, count = time.perf_counter(), 0
        while count < 3 or time.perf_counter() - begin < seconds:
            run(feeds)
            count += 1
        return count, time.perf_counter() - begin

    with ThreadPoolExecutor(len(copies)) as pool:
        return 1 / sum(count / spent for count, spent in pool.map(work, copies))


def _keeps_order(session: PipelineSession, feeds: Feeds) -> bool:
    """Whether different requests come back in their order."""
    requests = [
        {n: a * (1 + i % 7) if a.dtype.kind == "f" else a for n, a in feeds.items()} for i in range(28)
    ]
    alone = [session.run(None, request) for request in requests[:7]]
    return all(
        np.array_equal(got, expected)
        for i, outputs in enumerate(session.map(requests))
        for got, expected in zip(outputs, alone[i % 7], strict=True)
    )


def fleet(path: Path, folder: Path, share: str, lacking: str | None) -> Path:
    """Split a model for one CPU with one thread and one with two."""
    (folder / "fleet.toml").write_text(
        FLEET.format(share=share, lacking=json.dumps([lacking] if lacking else []))
    )
    op.split(path, fleet=folder / "fleet.toml", output=folder / "out", measure=0)
    return folder / "out"


def kinds(path: Path, folder: Path, rounds: int, share: str = "1", lacking: str | None = None) -> str:
    """Return a row: stages, loads and errors of a split on two kinds of device."""
    directory = fleet(path, folder, share, lacking)
    found = bench(directory, rounds=rounds, model=path)
    graph = read_graph(directory / manifest.COSTS_NAME)
    works = graph.work_on or {}
    whole = graph.seconds(int(works.get("one", graph.work).sum()))
    measured, predicted = (found["bottleneck"][f"{key}_seconds"] for key in ("measured", "predicted"))
    drift = found["baselines"]["one_thread_seconds"] / whole
    loads = ", ".join(
        f"{device['kind']} {1e3 * device['measured_seconds']:.1f} ({1e3 * device['predicted_seconds']:.1f})"
        for device in found["devices"]
    )
    return (
        f"{len(found['stages']):6} {1e3 * predicted:9.2f} {1e3 * measured:9.2f} "
        f"{_error(measured, predicted)} {_error(measured / drift, predicted)}  "
        f"{1e3 * found['period_seconds']:8.2f} "
        f"{1e3 * found['simulated']['period_seconds']:9.2f}  {loads}"
    )


def shared(path: Path, folder: Path, rounds: int, lacking: str) -> str:
    """Return the row of :func:`kinds` with any number of stages per device, and how outputs compare."""
    row = kinds(path, folder, rounds, '"any"', lacking)
    document = manifest.read(folder / "out")
    feeds = request_feeds(folder / "out", document, None, None, silent)
    whole = Runner(
        open_session(path, SessionSettings(threads=1)), [port.name for port in document.model.outputs]
    )
    expected, worst = whole(feeds), 0.0
    for backend in ("threads", "processes"):
        with PipelineSession(folder / "out", backend=backend) as session:
            for outputs in session.map(feeds for _ in range(2 * session.max_in_flight)):
                for got, right in zip(outputs, expected, strict=True):
                    worst = max(worst, float(np.max(np.abs(got - right)) / np.max(np.abs(right))))
    return f"{row}; outputs differ by {worst:.1e} of the largest"


def _error(measured: float, planned: float) -> str:
    return f"{100 * (measured / planned - 1):+6.1f} %"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("what", choices=("replicas", "kinds", "shared"))
    parser.add_argument("names", nargs="*", help="models; by default three that differ")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--seconds", type=float, default=2.0, help="of each contender in each round")
    parser.add_argument("--lacking", help="operator that the second device cannot run")
    given = parser.parse_args()
    heads = {
        "replicas": "   1 device planned  2 repl.    error  planned 2 stages    error  plain  / plain  order",
        "kinds": "stages predicted  measured    error / drift  pipelined simulated  device: ms (predicted)",
    }
    names = given.names or {"replicas": REPLICATED, "kinds": KINDS, "shared": tuple(LACKING)}[given.what]
    print(f"{'model':22} {heads.get(given.what, heads['kinds'])}")
    for name in names:
        with tempfile.TemporaryDirectory() as text:
            folder = Path(text)
            path = find_model(name, folder)
            if path is None:
                print(f"{name:22} not here")
            elif given.what == "replicas":
                print(f"{name:22} {replicas(path, folder, given.rounds, given.seconds)}", flush=True)
            elif given.what == "kinds":
                print(f"{name:22} {kinds(path, folder, given.rounds)}", flush=True)
            else:
                lacking = given.lacking or LACKING.get(name, "Add")
                print(f"{name:22} {shared(path, folder, given.rounds, lacking)}", flush=True)


if __name__ == "__main__":
    main()
