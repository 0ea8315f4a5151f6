"""Every recorded optimum of the MSR workloads, reached and proved.

    python -m benchmarks.proofs

Reads ../shared/data/msr (or $ONNX_PIPELINE_DATA/msr), both with and without colocation, one thread.
"""

from __future__ import annotations

import json
import time

from benchmarks.models import ZOO
from onnx_pipeline.graph.costs_json import read_graph
from onnx_pipeline.graph.target import Target
from onnx_pipeline.partition.certificate import check
from onnx_pipeline.partition.kernels import ensure_compiled
from onnx_pipeline.partition.portfolio import partition
from onnx_pipeline.progress import silent

MSR = ZOO.parent / "msr"


def main() -> None:
    ensure_compiled(silent)
    optima = json.loads((MSR / "optima.json").read_text())
    rows, failures = [], 0
    print("| workload | mode | k | proved | slowest | all |\n|---|---|---|---|---|---|")
    for name, entry in optima.items():
        for mode in ("colocated", "free"):
            if mode not in entry:
                continue
            graph = read_graph(MSR / f"{name}.json", ignore_colocation=mode == "free")
            known = {int(k): value for k, value in entry[mode]["optimum_ms"].items()}
            times = []
            for k in known or (2, 4, 8, 16, 32, 64):
                start = time.perf_counter()
                result = partition(graph, k, Target(host_io=False), time_limit=10, threads=1)
                times.append(time.perf_counter() - start)
                right = k not in known or abs(result.bottleneck * 1e3 / known[k] - 1) < 1e-9
                failures += (
                    result.status != "optimal"
                    or not right
                    or check(result.partition, result.certificate) != []
                )
            rows += times
            ks = f"{min(known)}..{max(known)}" if known else "2..64"
            print(f"| {name} | {mode} | {ks} | {len(times)} | {max(times):.3f} s | {sum(times):.2f} s |")
    print(f"\n{len(rows)} instances, {failures} not proved; slowest {max(rows):.3f} s, all {sum(rows):.1f} s")


if __name__ == "__main__":
    main()
