"""`explore` over k = 1..64 against the single plan for k = 16, and every row against a plan of its own.

    python -m benchmarks.sizing [--rounds 5] [--most 64] [COSTS.json ...]

Without files: BERT from the zoo and DenseNet-121 from the onnx package, profiled on this host. Each round
measures one plan and one exploration, in this process, all figures of all rows included, after one of each to
load what is loaded once; then, once, the two commands in processes of their own. Medians are printed.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import onnx_pipeline as op
from benchmarks.models import models
from onnx_pipeline.graph.costgraph import CostGraph
from onnx_pipeline.planfile import plan_document

MODELS = ("bert_base_mlm_static", "light_densenet121")
ONE = 16


def seconds(work: Callable[[], object]) -> float:
    begin = time.perf_counter()
    work()
    return time.perf_counter() - begin


def command(*arguments: object) -> None:
    line = [sys.executable, "-m", "onnx_pipeline", *map(str, arguments)]
    subprocess.run(line, check=True, capture_output=True)


def differing(graph: CostGraph, found: op.Exploration) -> list[int]:
    """Numbers of stages whose row is worse than a plan of its own, or other where that is proved optimal."""
    wrong = []
    for row in found:
        alone = op.plan(graph, stages=row.stages)
        ours = row.result
        same = ours is not None and (ours.upper, ours.lower) == (alone.upper, alone.lower)
        if ours is None or ours.upper > alone.upper or (alone.status == "optimal" and not same):
            wrong.append(row.stages)
    return wrong


def measure(name: str, path: Path, rounds: int, most: int) -> str:
    graph = op.read_graph(path)

    def plan() -> None:
        plan_document(op.plan(graph, stages=ONE))

    def explore() -> op.Exploration:
        found = op.explore(graph, stages=range(1, most + 1))
        found.to_json()
        return found

    plan()
    found = explore()
    ones, alls, ratios = [], [], []
    for _ in range(rounds):
        ones.append(seconds(plan))
        alls.append(seconds(explore))
        ratios.append(alls[-1] / ones[-1])
    one = seconds(lambda: command("plan", path, "-k", ONE))
    every = seconds(lambda: command("explore", path, "-k", f"1-{most}"))
    proved = sum(row.status == "optimal" for row in found)
    return (
        f"| {name} | {statistics.median(ones):.3f} | {statistics.median(alls):.3f} | "
        f"{statistics.median(ratios):.1f} | {one:.2f} | {every:.2f} | {every / one:.1f} | "
        f"{proved} of {len(found)} | {differing(graph, found) or 'none'} |"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("costs", nargs="*", type=Path)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--most", type=int, default=64)
    options = parser.parse_args()
    columns = (
        "model",
        "plan s",
        "explore s",
        "ratio",
        "commands: plan s",
        "explore s",
        "ratio",
        "proved",
        "differ",
    )
    print(f"| {' | '.join(columns)} |\n{'|---' * len(columns)}|", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        costs = {path.stem: path for path in options.costs}
        if not costs:
            for name in MODELS:
                costs[name] = Path(folder) / f"{name}.json"
                op.write_graph(op.profile(models()[name]), costs[name])
        for name, path in costs.items():
            print(measure(name, path, options.rounds, options.most), flush=True)


if __name__ == "__main__":
    main()
