"""peak(S) against onnxruntime's arena: ``python -m benchmarks.peak``.

Every model runs once as one stage in a process of its own. The arena grows by what is asked for and never
shrinks, weights stay outside it, so its final size is the peak plus what fragmentation adds. onnxruntime says
it in its log only.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
from pathlib import Path
from tempfile import gettempdir

import numpy as np
import onnx

from models.real import REAL
from onnx_pipeline.costmodel import NodeCosts
from onnx_pipeline.feeds import make_feeds
from onnx_pipeline.lowering import executable_nodes, lower
from onnx_pipeline.model import load
from onnx_pipeline.peak import stage_peaks
from onnx_pipeline.shapes import value_infos

_TOTAL = re.compile(r"Total allocated bytes: (\d+)")


def run_once(path: Path) -> None:
    """Run a model with an arena that logs its growth."""
    import onnxruntime as ort

    ort.set_default_logger_severity(0)
    source = load(path)
    options = ort.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    options.enable_mem_pattern = False  # one block for all would hide how much is live
    options.add_session_config_entry("session.use_device_allocator_for_initializers", "1")
    options.add_session_config_entry("session.use_env_allocators", "1")
    options.add_session_config_entry("session.disable_prepacking", "1")  # packed weights would be in it
    place = ort.OrtMemoryInfo("Cpu", ort.OrtAllocatorType.ORT_ARENA_ALLOCATOR, 0, ort.OrtMemType.DEFAULT)
    arena = ort.OrtArenaCfg({"arena_extend_strategy": 1, "initial_chunk_size_bytes": 4096})
    ort.create_and_register_allocator(place, arena)
    session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("models", nargs="*", default=list(REAL))
    parser.add_argument("--work", type=Path, default=Path(gettempdir()) / "onnx-pipeline-fidelity")
    parser.add_argument("--run", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.run is not None:
        run_once(options.run)
        return
    print("| model | peak(S) | arena | ratio |\n| --- | --- | --- | --- |")
    for name in options.models:
        path = options.work / f"{name}.onnx"
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            onnx.save(REAL[name](), path)
        peak, arena = predicted_bytes(path), arena_bytes(path)
        mib = f"{peak / 2**20:.1f} MiB | {arena / 2**20:.1f} MiB"
        print(f"| {name} | {mib} | {peak / arena:.2f} |", flush=True)


if __name__ == "__main__":
    main()
