"""Slices of heavy nodes: what one node costs a pipeline, and what dividing it brings.

    python -m benchmarks.slices [--stages 8,16,32,64] [--measured] [--time-limit 5] [MODEL.onnx ...]

The models of the zoo and the seeded ones of their real sizes, at 16 GB/s. For every number of stages: the
best partition without slices and with ``plan_slices``, how many nodes were divided, and in how many parts at
most. A case is *dominated* where a single node limits the plan; the geometric mean of the gain is over these.
With ``--measured`` nodes and slices cost what onnxruntime takes with one thread; otherwise both are computed,
slices as the analytic model prices them.
"""

from __future__ import annotations

import argparse
import math
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import onnx_pipeline as op
from models.real import REAL
from onnx_pipeline.slices.auto import SlicePlan

DATA = Path(os.environ.get("ONNX_PIPELINE_DATA", "../shared/data"))
TARGET = op.Target(bandwidth=16e9)


class Case(NamedTuple):
    """One model and k."""

    name: str
    stages: int
    plan: SlicePlan
    seconds: float

    @property
    def dominated(self) -> bool:
        """Whether one node limits the plan without slices."""
        return bool(self.plan.limits)

    def row(self) -> str:
        """Return a line of the table."""
        plan = self.plan
        parts = f"{len(plan.parts)} in {max(plan.parts.values())}" if plan.parts else ""
        before, after = (1e3 * each.bottleneck for each in (plan.unsliced, plan.result))
        limit = plan.limits[0].node if plan.limits else ""
        return (
            f"{self.name[:24]:24} {self.stages:3d} {before:9.3f} {after:9.3f} {plan.gain:6.2f} {parts:>9} "
            f"{100 * plan.result.gap:5.1f} {self.seconds:6.1f}  {limit}"
        )


def models(files: list[Path]) -> Iterator[tuple[str, Any, dict[str, int] | None]]:
    """Yield name, model and dimensions."""
    for path in files or sorted((DATA / "zoo").glob("*.onnx")):
        yield path.stem, path, {"s12": 17, "s16": 16} if path.stem == "llama_small_past_dyn" else None
    if not files:
        for name, build in REAL.items():
            yield f"{name} (seeded)", build(), None


def measure(files: list[Path], numbers: list[int], cost_model: str, limit: float) -> Iterator[Case]:
    """Plan every model for every number of stages."""
    for name, model, dims in models(files):
        for stages in numbers:
            begin = time.perf_counter()
            plan = op.plan_slices(
                model, stages, TARGET, cost_model=cost_model, dims=dims, time_limit=limit, threads=1
            )
            yield Case(name, stages, plan, time.perf_counter() - begin)


def summary(cases: list[Case], stages: int) -> str:
    """Return a line about one number of stages."""
    here = [case for case in cases if case.stages == stages]
    gains = [case.plan.gain for case in here if case.dominated]
    mean = math.exp(sum(map(math.log, gains)) / len(gains)) if gains else 1.0
    largest = max(gains, default=1.0)
    return f"k = {stages:2d}: {len(gains)} of {len(here)} dominated, gain {mean:.2f} (largest {largest:.2f})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("files", nargs="*", type=Path)
    parser.add_argument("--stages", default="8,16,32,64")
    parser.add_argument("--measured", action="store_true")
    parser.add_argument("--time-limit", type=float, default=5.0)
    args = parser.parse_args()
    numbers = [int(each) for each in args.stages.split(",")]
    cost_model = "profile" if args.measured else "analytic"
    cases: list[Case] = []
    print(
        f"{'model':24} {'k':>3} {'whole ms':>9} {'sliced':>9} {'gain':>6} {'nodes':>9} {'gap %':>5} {'s':>6}"
    )
    for case in measure(args.files, numbers, cost_model, args.time_limit):
        cases.append(case)
        print(case.row(), flush=True)
    for stages in numbers:
        print(summary(cases, stages))


if __name__ == "__main__":
    main()
