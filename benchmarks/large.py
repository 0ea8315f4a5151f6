"""Models far larger than memory: ``python -m benchmarks.large --gigabytes 20 --sparse``.

A chain of matrix products with its weights in one external file is split in a process of its own, whose peak
resident memory and time are printed. ``--sparse`` makes the file with holes, so that 20 GB need no disk; the
stages' files get holes, too. Costs are computed (``analytic``): measuring needs the weights in memory.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from onnx import TensorProto, helper


def build(folder: Path, size: float, width: int = 8192, *, sparse: bool = False) -> Path:
    """Write a model with about ``size`` bytes of weights; return its path."""
    each = width * width * 4
    layers = max(2, round(size / each))
    nodes, weights = [], []
    with (folder / "weights.bin").open("wb") as file:
        block = np.random.default_rng(0).standard_normal(1 << 20, dtype=np.float32).tobytes()
        for layer in range(layers):
            weight = TensorProto(name=f"w{layer}", data_type=TensorProto.FLOAT, dims=[width, width])
            weight.data_location = TensorProto.EXTERNAL
            for key, value in (("location", "weights.bin"), ("offset", layer * each), ("length", each)):
                weight.external_data.add(key=key, value=str(value))
            weights.append(weight)
            source, target = ("x" if layer == 0 else f"h{layer - 1}"), f"m{layer}"
            nodes.append(helper.make_node("MatMul", [source, f"w{layer}"], [target]))
            end = "y" if layer == layers - 1 else f"h{layer}"
            nodes.append(helper.make_node("Relu", [target], [end]))
            if not sparse:
                for _ in range(each // len(block)):
                    file.write(block)
        file.truncate(layers * each)
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, width]) for name in "xy")
    graph = helper.make_graph(nodes, "large", [x], [y], weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    (folder / "model.onnx").write_bytes(model.SerializeToString())
    return folder / "model.onnx"


def measure(arguments: list[str]) -> dict[str, float]:
    """Run the command line in a process of its own; return its exit code, seconds and peak memory."""
    begin = time.monotonic()
    process = subprocess.Popen([sys.executable, "-m", "onnx_pipeline", *arguments], stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    return {
        "exit_code": os.waitstatus_to_exitcode(status),
        "seconds": round(time.monotonic() - begin, 1),
        "peak_mib": round(usage.ru_maxrss / 1024),
    }


def main() -> int:
    """Split one large model in each way and print what it took."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--gigabytes", type=float, default=2.6)
    parser.add_argument("--sparse", action="store_true")
    parser.add_argument("--stages", type=int, default=4)
    parser.add_argument("--weights", action="append", choices=["copy", "link", "reference"])
    parser.add_argument("--folder", type=Path, help="where to work; a temporary folder by default")
    options = parser.parse_args()
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    failed = False
    with tempfile.TemporaryDirectory(prefix="large-", dir=options.folder) as name:
        path = build(Path(name), options.gigabytes * 1e9, sparse=options.sparse)
        for weights in options.weights or ["copy", "link", "reference"]:
            output = path.parent / f"out-{weights}"
            arguments = ["split", str(path), "-k", str(options.stages), "-o", str(output), "-q"]
            found = measure([*arguments, "--cost-model", "analytic", "--weights", weights])
            disk = sum(f.stat().st_blocks * 512 for f in output.iterdir()) if output.is_dir() else 0
            checked = measure(["verify", str(output), "-q"])
            failed |= bool(found["exit_code"] or checked["exit_code"])
            row = {"gigabytes": options.gigabytes, "sparse": options.sparse, "weights": weights, **found}
            print(json.dumps({**row, "disk_mib": disk >> 20, "verify": checked}), flush=True)
    return int(failed)


if __name__ == "__main__":
    raise SystemExit(main())
