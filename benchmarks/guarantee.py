"""Certified gaps on real models, profiled costs, two bandwidths, k = 2 .. 64.

    python -m benchmarks.guarantee [--costs DIR] [--time-limit 10] [--k 2 4 8 16 32 64] [--mips] [NAME ...]

Profiles every light and zoo model once into DIR (kept for the next run), then partitions at 16 and 200 GB/s
on one thread. Prints per k the geometric mean of bound / best partition and the share proved optimal, next to
the simple bound alone; with --mips also the bound of the paper's bottleneck and bottleneck-guess MIPs under
the same limit.
"""

from __future__ import annotations

import argparse
import csv
import subprocess
import sys
from pathlib import Path

import numpy as np

from benchmarks.models import DIMS, models
from onnx_pipeline.graph.costs_json import read_graph
from onnx_pipeline.graph.target import Target
from onnx_pipeline.partition.bounds.models.bottleneck import bottleneck
from onnx_pipeline.partition.bounds.models.guess import bottleneck_guess
from onnx_pipeline.partition.bounds.models.linear import SolveParams
from onnx_pipeline.partition.certificate import check
from onnx_pipeline.partition.instance.build import build
from onnx_pipeline.partition.instance.contract import contract
from onnx_pipeline.partition.kernels import ensure_compiled
from onnx_pipeline.partition.portfolio import partition
from onnx_pipeline.progress import silent


def profile(name: str, path: Path, folder: Path) -> Path:
    costs = folder / f"{name}.json"
    if not costs.exists():
        dims = [x for item in DIMS.get(name, {}).items() for x in ("--dim", "=".join(map(str, item)))]
        command = [sys.executable, "-m", "onnx_pipeline", "profile", str(path), "-o", str(costs), "-q", *dims]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return costs


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("names", nargs="*")
    parser.add_argument("--costs", type=Path, default=Path("build/costs"))
    parser.add_argument("--k", type=int, nargs="+", default=[2, 4, 8, 16, 32, 64])
    parser.add_argument("--time-limit", type=float, default=10)
    parser.add_argument("--mips", action="store_true")
    parser.add_argument("--output", type=Path, default=Path("build/guarantee.csv"))
    options = parser.parse_args()
    options.costs.mkdir(parents=True, exist_ok=True)
    options.output.parent.mkdir(parents=True, exist_ok=True)
    ensure_compiled(silent)
    rows: list[dict[str, object]] = []
    for name, path in models().items():
        if options.names and name not in options.names:
            continue
        graph = read_graph(profile(name, path, options.costs))
        for bandwidth in (16e9, 200e9):
            for k in options.k:
                target = Target(bandwidth=bandwidth)
                result = partition(graph, k, target, time_limit=options.time_limit, threads=1)
                assert check(result.partition, result.certificate) == []
                row = {
                    "model": name,
                    "bandwidth": bandwidth,
                    "k": k,
                    "ratio": result.ratio,
                    "status": result.status,
                    "seconds": round(result.search.wall_seconds, 3),
                    "simple": next(b for b in result.bounds if b.method == "simple").ticks / result.upper,
                }
                if options.mips:
                    inst = contract(build(graph, target))
                    half = SolveParams(options.time_limit / 2)
                    mips = (model(inst, k, result.upper, half) for model in (bottleneck, bottleneck_guess))
                    row["mips"] = max(mips) / result.upper
                rows.append(row)
                if result.status != "optimal":
                    print(
                        f"open: {name} {bandwidth / 1e9:.0f} GB/s k={k} gap {100 * result.gap:.2f} %",
                        flush=True,
                    )
                with options.output.open("w", newline="") as file:
                    writer = csv.DictWriter(file, fieldnames=list(rows[0]))
                    writer.writeheader()
                    writer.writerows(rows)
    summary(rows, options.k)


def summary(rows: list[dict[str, object]], ks: list[int]) -> None:
    columns = [c for c in ("ratio", "simple", "mips") if c in rows[0]]
    print("\n| k | pairs | proved optimal | median s | " + " | ".join(f"geomean {c}" for c in columns) + " |")
    print("|" + "---|" * (4 + len(columns)))
    for k in ks:
        chosen = [row for row in rows if row["k"] == k]
        proved = sum(row["status"] == "optimal" for row in chosen)
        means = [np.exp(np.mean(np.log([float(str(row[c])) for row in chosen]))) for c in columns]
        median = np.median([float(str(row["seconds"])) for row in chosen])
        print(
            f"| {k} | {len(chosen)} | {proved} | {median:.2f} | "
            + " | ".join(f"{m:.4f}" for m in means)
            + " |"
        )


if __name__ == "__main__":
    main()
