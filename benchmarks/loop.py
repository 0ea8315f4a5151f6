"""The default ``split``, closed loop included, on every model of ``benchmarks.models``.

    python -m benchmarks.loop [-k 4] [--load] [--output results.csv] [NAME ...]

Runs the real command line without the cache, each in a process of its own, and prints: seconds in all, for
the profile and for measuring; the gap proved in the profiled costs; what the closed loop came to, after how
many partitions; the gap in the corrected costs; how the stages scattered and how far other work held them up.

``--load`` keeps two processes busy meanwhile. Then they end, and what was written is measured against the
profiled optimum in the same rounds: the last column is its bottleneck over that one's, transfers included.
Where both are the same partition it is 1.
"""

from __future__ import annotations

import argparse
import csv
import json
import multiprocessing
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.models import DIMS, models
from onnx_pipeline import manifest
from onnx_pipeline.costmodel import load_device
from onnx_pipeline.costmodel.profiling.sessions import Runner
from onnx_pipeline.emission.emit import emit
from onnx_pipeline.graph.costs_json import read_graph
from onnx_pipeline.measurement import chain
from onnx_pipeline.measurement.conditioning import execution_ticks
from onnx_pipeline.model.dimensions import bound_dims
from onnx_pipeline.model.inputs import make_feeds
from onnx_pipeline.model.shapes import value_infos
from onnx_pipeline.model.source import load
from onnx_pipeline.partition.portfolio import partition
from onnx_pipeline.partition.result import PartitionResult

COLUMNS: tuple[str, ...] = ("model", "seconds", "profile", "measure", "gap %", "outcome", "partitions")
COLUMNS += ("corrected gap %", "scatter %", "stalled %", "written / profiled")


def spin() -> None:
    """Keep a processor and its caches busy."""
    data = np.ones((600, 600), np.float32)
    while True:
        data = np.tanh(data * data.T)


@contextmanager
def busy(processes: int) -> Iterator[None]:
    """Keep so many processes busy."""
    others = [multiprocessing.Process(target=spin, daemon=True) for _ in range(processes)]
    for each in others:
        each.start()
    try:
        yield
    finally:
        for each in others:
            each.terminate()


def split(path: Path, k: int, out: Path, dims: dict[str, int]) -> tuple[float, dict[str, Any]]:
    """Run ``split`` as a user would; return its seconds and the manifest."""
    sizes = [x for item in dims.items() for x in ("--dim", "=".join(map(str, item)))]
    command = [sys.executable, "-m", "onnx_pipeline", "split", str(path), "-k", str(k), "-o", str(out)]
    began = time.perf_counter()
    done = subprocess.run(
        [*command, "--no-cache", "--json", "-q", *sizes], capture_output=True, text=True, check=False
    )
    seconds = time.perf_counter() - began
    if done.returncode:
        raise SystemExit(f"{path.name}: exit {done.returncode}: {done.stderr.strip()}")
    return seconds, json.loads(done.stdout)


def against_profiled(path: Path, k: int, out: Path, sizes: dict[str, int]) -> float:
    """Measure what was written against the optimum in the profiled costs; return the ratio of bottlenecks."""
    document = manifest.read(out)
    graph, target = read_graph(out / "costs.json"), load_device("cpu").target()
    optimum = partition(graph, k, target, time_limit=10.0)
    home = {name: stage.index for stage in document.stages for name in stage.node_names}
    written = np.array([home[name] for name in graph.node_names])
    if np.array_equal(written, optimum.stage_of):
        return 1.0
    source = load(path)
    dims = bound_dims(source, sizes)
    feeds = make_feeds(source, dims, 0)
    best = out.with_name("profiled")
    emit(source, value_infos(source, dims), optimum, {}, best, weights="reference")
    found = chain.measure(Runner(source, feeds, dims), [out, best], seconds=20.0)
    ours = replace(optimum, partition=replace(optimum.partition, stage_of=written))
    return bottleneck(found[0], ours) / bottleneck(found[1], optimum)


def bottleneck(measured: chain.Measurement, result: PartitionResult) -> float:
    """Largest measured execution together with what the device charges the stage."""
    execution = execution_ticks(result.graph, result.stage_of, result.stages)
    return max(
        seconds + result.graph.seconds(cost.total - own)
        for seconds, cost, own in zip(measured.stage_seconds, result.costs, execution, strict=False)
    )


def row(name: str, path: Path, k: int, load: bool) -> dict[str, object]:
    dims = DIMS.get(name, {})
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "out"
        with busy(2 * load):
            seconds, document = split(path, k, out, dims)
        found = document.get("measurement") or {}
        corrected = found.get("corrected")
        phases = document["phases"]
        return {
            "model": name,
            "seconds": round(seconds, 1),
            "profile": round(phases["profile"], 1),
            "measure": round(phases.get("measure", 0.0), 1),
            "gap %": round(100 * document["certificate"]["gap"], 2),
            "outcome": found.get("outcome", "not measured"),
            "partitions": found.get("candidates", 0),
            "corrected gap %": round(100 * corrected["gap"], 2) if corrected else "-",
            "scatter %": round(100 * found.get("scatter", 0.0), 1),
            "stalled %": round(100 * found.get("stalled", 0.0), 1),
            "written / profiled": round(against_profiled(path, k, out, dims), 3) if load else "-",
        }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("names", nargs="*")
    parser.add_argument("-k", type=int, default=4)
    parser.add_argument("--load", action="store_true")
    parser.add_argument("--output", type=Path)
    options = parser.parse_args()
    print(f"k = {options.k}, {os.cpu_count()} cores, load average {os.getloadavg()[0]:.1f} before")
    print("| " + " | ".join(COLUMNS) + " |\n|" + "---|" * len(COLUMNS))
    rows = []
    for name, path in models().items():
        if options.names and name not in options.names:
            continue
        rows.append(row(name, path, options.k, options.load))
        print("| " + " | ".join(str(rows[-1][column]) for column in COLUMNS) + " |", flush=True)
    if options.output and rows:
        with options.output.open("w", newline="") as file:
            writer = csv.DictWriter(file, COLUMNS)
            writer.writeheader()
            writer.writerows(rows)


if __name__ == "__main__":
    main()
