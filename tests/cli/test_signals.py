"""Interrupted in the middle: exit code 130 (143 for SIGTERM), and nothing left behind."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import onnx
import pytest

from models import builders
from onnx_pipeline.graph.builder import GraphBuilder
from onnx_pipeline.graph.costgraph import CostGraph
from onnx_pipeline.graph.costs_json import write_graph
from onnx_pipeline.graph.objective import bottleneck, check_partition
from onnx_pipeline.graph.ticks import NS
from onnx_pipeline.parameters import TargetParams

#: Far longer than any test may take: only a signal ends these.
FOREVER = ["--profile-runs", "100000", "--time-limit", "100000"]


def interrupt(
    folder: Path, number: signal.Signals, arguments: list[str], sign: str, times: int = 1
) -> tuple[int, str, str]:
    """Send a signal once ``sign`` was seen on stderr; return exit code, stdout and stderr."""
    temporary = folder / "tmp"
    temporary.mkdir()
    with subprocess.Popen(
        [sys.executable, "-m", "onnx_pipeline", *arguments, "-v"],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "TMPDIR": str(temporary)},
    ) as process:
        watchdog = threading.Timer(120, process.kill)
        watchdog.start()
        try:
            assert process.stderr is not None
            seen: list[str] = []
            for line in process.stderr:
                seen.append(line)
                times -= sign in line
                if times == 0:
                    process.send_signal(number)
                    break
            out, rest = process.communicate()
        finally:
            watchdog.cancel()
    return process.returncode, out, "".join(seen) + rest


def leftovers(folder: Path) -> set[str]:
    """Everything of ours below a folder; hidden files of libraries in the temporary folder are theirs."""
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.name != ".ses"} - {"tmp"}


def tangle(layers: int = 60, width: int = 6) -> CostGraph:
    """A wide random graph whose search does not end by itself soon."""
    random = np.random.default_rng(0)
    builder = GraphBuilder("tangle", ticks_per_second=NS)
    rows = [
        [builder.add_node(f"{i}.{j}", int(random.integers(1, 10**6))) for j in range(width)]
        for i in range(layers)
    ]
    for i in range(layers - 1):
        for j, node in enumerate(rows[i]):
            later = [rows[min(i + int(step), layers - 1)] for step in random.integers(1, 4, 3)]
            readers = [int(random.choice(row)) for row in later]
            builder.add_net(f"t{i}.{j}", node, readers, nbytes=int(random.integers(1, 10**6)))
    return builder.build()


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_split_interrupted_while_profiling(number: signal.Signals, code: int, tmp_path: Path) -> None:
    """No output, no temporary files, one line."""
    onnx.save(builders.cnn(batch=1), tmp_path / "model.onnx")
    arguments = ["split", "model.onnx", "-k", "2", *FOREVER]
    returncode, out, err = interrupt(tmp_path, number, arguments, "onnx-pipeline: profile:")
    assert returncode == code
    assert out == ""
    assert err.splitlines()[-1] == "onnx-pipeline: error: interrupted"
    assert "Traceback" not in err
    assert leftovers(tmp_path) == {"model.onnx"}


def test_plan_interrupted_prints_the_best_so_far(tmp_path: Path) -> None:
    """A valid partition with a valid certificate on stdout, and exit code 130 all the same."""
    graph = tangle()
    write_graph(graph, tmp_path / "costs.json")
    arguments = ["plan", "costs.json", "-k", "8", "--bandwidth", "1GB/s", "--json", *FOREVER[2:]]
    # One stage for all, the simple bound, the first order: from here on there is something to print.
    returncode, out, err = interrupt(tmp_path, signal.SIGINT, arguments, "partition:", times=3)
    assert returncode == 130, err
    assert "Traceback" not in err
    document = json.loads(out)
    assert document["search"]["interrupted"] is True
    home = {name: stage["index"] for stage in document["stages"] for name in stage["node_names"]}
    stage_of = [home[name] for name in graph.node_names]
    assert check_partition(graph, stage_of, 8) == []
    certificate = document["certificate"]
    assert certificate["lower_bound_seconds"] <= certificate["bottleneck_seconds"]
    cost = bottleneck(graph, TargetParams(bandwidth=1e9).target(), stage_of, 8)
    assert cost == round(certificate["bottleneck_seconds"] * NS)


def test_explore_interrupted_keeps_its_rows(tmp_path: Path) -> None:
    """Every row is there with a valid bound, and exit code 130."""
    write_graph(tangle(), tmp_path / "costs.json")
    arguments = ["explore", "costs.json", "-k", "4-6", "--bandwidth", "1GB/s", "--json", *FOREVER[2:]]
    returncode, out, err = interrupt(tmp_path, signal.SIGINT, arguments, "6 stages: ")
    assert returncode == 130, err
    assert "Traceback" not in err
    assert "certificates are valid" in err
    document = json.loads(out)
    assert document["interrupted"] is True
    for row in document["rows"]:
        assert row["lower_bound_seconds"] <= row["bottleneck_seconds"]


def test_killed_while_profiling_leaves_no_output(tmp_path: Path) -> None:
    """Nothing can run after SIGKILL, so nothing may lie beside the output before it is complete."""
    onnx.save(builders.cnn(batch=1), tmp_path / "model.onnx")
    arguments = ["split", "model.onnx", "-k", "2", "-o", "out", *FOREVER]
    returncode, _, _ = interrupt(tmp_path, signal.SIGKILL, arguments, "onnx-pipeline: profile:")
    assert returncode == -signal.SIGKILL
    assert {path.name for path in tmp_path.iterdir()} == {"model.onnx", "tmp"}
