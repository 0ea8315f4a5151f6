"""Wide and large synthetic graphs: certified gap within a time limit, and time to within 1 % of the best.

    python -m benchmarks.wide [--time-limit 60] [--threads 2] [--large]

--large adds 20,000 and 100,000 nodes, with peak memory.
"""

from __future__ import annotations

import argparse
import resource

from benchmarks.generators import layered, nasnet, transformer
from onnx_pipeline.graph.costgraph import CostGraph
from onnx_pipeline.graph.target import Target
from onnx_pipeline.partition.certificate import check
from onnx_pipeline.partition.kernels import ensure_compiled
from onnx_pipeline.partition.portfolio import partition
from onnx_pipeline.progress import silent


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--time-limit", type=float, default=60)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--large", action="store_true")
    options = parser.parse_args()
    ensure_compiled(silent)
    cases: list[tuple[CostGraph, int]] = [
        (nasnet(21), 16),
        (nasnet(21), 64),
        (layered(1000, 10), 16),
        (layered(500, 20), 16),
        (transformer(1000), 16),
    ]
    if options.large:
        cases += [(layered(20_000, 10), 16), (transformer(20_000), 16), (transformer(100_000), 16)]
    print("| graph | nodes | k | gap | simple gap | within 1 % of its best after | seconds | MiB |")
    print("|---|---|---|---|---|---|---|---|")
    for graph, k in cases:
        result = partition(
            graph, k, Target(bandwidth=1e9), time_limit=options.time_limit, threads=options.threads
        )
        assert check(result.partition, result.certificate) == []
        near = next(point.seconds for point in result.history if point.bottleneck <= 1.01 * result.bottleneck)
        simple = 1 - next(b for b in result.bounds if b.method == "simple").ticks / result.upper
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
        print(
            f"| {graph.name} | {graph.num_nodes} | {k} | {100 * result.gap:.2f} % | {100 * simple:.2f} % "
            f"| {near:.2f} s | {result.search.wall_seconds:.1f} | {peak} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
