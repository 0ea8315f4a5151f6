"""peak(S) against onnxruntime's arena: ``python -m benchmarks.peak``.

Every model runs once as one stage in a process of its own. The arena grows by what is asked for and never
shrinks, weights stay outside it, so its final size is the peak plus what fragmentation adds. onnxruntime says
it in its log only.

``--fit`` asks what counting is good for: for four devices, the least memory (within 2 %) for which a split is
found that fits, and what a split for the same memory needs that counts parameters only. Computed costs.
"""

from __future__ import annotations

import argparse
import math
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from tempfile import gettempdir

import numpy as np
import onnx

import onnx_pipeline as op
from models.real import REAL
from onnx_pipeline.costmodel.request import NodeCosts
from onnx_pipeline.graph.activations import stage_peaks
from onnx_pipeline.graph.objective import bottleneck
from onnx_pipeline.model.inputs import make_feeds
from onnx_pipeline.model.lowering import lower
from onnx_pipeline.model.roles import executable_nodes
from onnx_pipeline.model.shapes import value_infos
from onnx_pipeline.model.source import load
from onnx_pipeline.ort.session import SessionSettings, open_session
from onnx_pipeline.partition.result import PartitionResult

_TOTAL = re.compile(r"Total allocated bytes: (\d+)")


def run_once(path: Path) -> None:
    """Run a model with an arena that logs its growth."""
    import onnxruntime as ort

    ort.set_default_logger_severity(0)
    source = load(path)
    options = {
        "enable_mem_pattern": False,  # one block for all would hide how much is live
        "session.use_device_allocator_for_initializers": "1",
        "session.use_env_allocators": "1",
        "session.disable_prepacking": "1",  # packed weights would be in it
    }
    place = ort.OrtMemoryInfo("Cpu", ort.OrtAllocatorType.ORT_ARENA_ALLOCATOR, 0, ort.OrtMemType.DEFAULT)
    arena = ort.OrtArenaCfg({"arena_extend_strategy": 1, "initial_chunk_size_bytes": 4096})
    ort.create_and_register_allocator(place, arena)
    session = open_session(path, SessionSettings(threads=1, options=options))
    session.run(None, make_feeds(source, {}))


def arena_bytes(path: Path) -> int:
    command = [sys.executable, "-m", "benchmarks.peak", "--run", str(path)]
    log = subprocess.run(command, capture_output=True, text=True, check=True).stderr
    return max(int(found) for found in _TOTAL.findall(log))


def predicted_bytes(path: Path) -> int:
    source = load(path)
    work = {str(node.name): 1 for node in executable_nodes(source)}
    graph = lower(source, value_infos(source, {}), NodeCosts("flat", work))
    return stage_peaks(graph, np.zeros(graph.num_nodes, dtype=np.int64), 1)[0]


def needed_bytes(result: PartitionResult) -> int:
    """Parameters and peak of the stage that needs most."""
    pairs = zip(result.costs, result.schedules, strict=True)
    return max(cost.parameter_bytes + schedule.peak for cost, schedule in pairs)


def fit(path: Path, stages: int = 4) -> tuple[int, PartitionResult, PartitionResult]:
    """Return the least memory that is enough, and the splits for it that count both and parameters only."""
    graph = op.profile(path, cost_model="analytic")
    target = op.Target(bandwidth=10e9, stage_overhead=35e-6, memory_mode="hard")

    def split(memory: float, activations: bool = True) -> PartitionResult | None:
        try:
            limited = replace(target, memory=memory, activations=activations)
            return op.partition(graph, stages, limited, time_limit=2, seed=0)
        except op.InfeasibleError:
            return None

    best = op.partition(graph, stages, target, time_limit=2)
    high = needed_bytes(best)
    low = int(graph.group_bytes.sum()) // stages
    while high - low > 0.02 * high:
        middle = (low + high) // 2
        found = split(middle)
        if found is None:
            low = middle
        else:
            best, high = found, needed_bytes(found)
    blind = split(high, activations=False)
    assert blind is not None
    return high, best, blind


def show_fit(name: str, path: Path) -> None:
    limit, counted, blind = fit(path)
    mib = " | ".join(f"{b / 2**20:.1f} MiB" for b in (limit, needed_bytes(counted), needed_bytes(blind)))
    slower = bottleneck(counted.graph, replace(counted.target, memory=math.inf), counted.stage_of, 4)
    print(f"| {name} | {mib} | {slower / blind.upper:.2f} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("models", nargs="*", default=list(REAL))
    parser.add_argument("--work", type=Path, default=Path(gettempdir()) / "onnx-pipeline-fidelity")
    parser.add_argument("--fit", action="store_true", help="what counting is good for")
    parser.add_argument("--run", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.run is not None:
        run_once(options.run)
        return
    if options.fit:
        print("| model | memory | counting both | parameters only | bottleneck, ratio |")
        print("| --- | --- | --- | --- | --- |")
    else:
        print("| model | peak(S) | arena | ratio |\n| --- | --- | --- | --- |")
    for name in options.models:
        path = options.work / f"{name}.onnx"
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            onnx.save(REAL[name](), path)
        if options.fit:
            show_fit(name, path)
            continue
        peak, arena = predicted_bytes(path), arena_bytes(path)
        mib = f"{peak / 2**20:.1f} MiB | {arena / 2**20:.1f} MiB"
        print(f"| {name} | {mib} | {peak / arena:.2f} |", flush=True)


if __name__ == "__main__":
    main()
