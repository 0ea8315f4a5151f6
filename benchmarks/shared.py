"""Devices that hold several stages: against brute force, and on models whose accelerators lack an operator.

    python -m benchmarks.shared --count 20000 [--seed 0]
    python -m benchmarks.shared [--time-limit 10] [--stages 4,16] [--seeds 1] [MODEL.onnx=Operator ...]

With ``--count``: random small nets with host tensors, colocation, memory of both kinds, activations in every
fourth, nodes that kinds lack, and devices of up to three kinds with two, three or any number of stages. No
bound may exceed the optimum over all maps of nodes to devices, no placement may be better, "optimal" and
"infeasible" have to be true. Stops at the first contradiction.

Without: one CPU and three accelerators which lack an operator that recurs. Costs are analytic; an accelerator
is the built-in CPU with 5 times its arithmetic and 2.5 times its memory bandwidth. Printed are the bottleneck
with one stage per device and with several, the fluid bound, their ratio, the best bound, stages and seconds,
without overheads and with 10 us per stage and 2 us per tensor; links have 16 GB/s.
"""

from __future__ import annotations

import argparse
import math
import os
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np

import onnx_pipeline as op
from onnx_pipeline.costmodel.devices import load_device
from onnx_pipeline.errors import InfeasibleError
from onnx_pipeline.graph.costgraph import CostGraph
from onnx_pipeline.graph.fleet import FleetTarget, Kind, device_loads
from onnx_pipeline.graph.target import INFEASIBLE, Target
from onnx_pipeline.graph.ticks import NS
from onnx_pipeline.partition.fleets import shared
from onnx_pipeline.partition.fleets.kernels import ensure_compiled
from onnx_pipeline.progress import silent
from tests.fleet_oracle import best_placement
from tests.shared_oracle import best_shared, random_shared

ZOO = Path(os.environ.get("ONNX_PIPELINE_DATA", "../shared/data")) / "zoo"
#: Models, and the operator that accelerators lack.
CASES = {
    "vit_base_static": "LayerNormalization",
    "bert_base_mlm_static": "LayerNormalization",
    "convnext_tiny": "LayerNormalization",
    "mobilenetv3_large": "ReduceMean",
    "unet_plain": "Concat",
}
ARITHMETIC, BANDWIDTH = 5, 2.5
LINKS = {
    "no overheads": Target(bandwidth=16e9),
    "10 us per stage": Target(bandwidth=16e9, transfer_latency=2e-6, stage_overhead=10e-6),
}


def examine(graph: CostGraph, fleet: FleetTarget, limit: float) -> str:
    """Check one net; return the verdict."""
    optimum = best_shared(graph, fleet)
    try:
        found = op.place(graph, fleet, time_limit=limit)
    except InfeasibleError as error:
        if optimum is not None and "was found" not in str(error):
            raise AssertionError(f"feasible, yet: {error}") from None
        return "infeasible, said so" if optimum is None else "feasible, not found"
    assert optimum is not None, "infeasible, yet there is a placement"
    loads = device_loads(graph, fleet, found.stage_of, found.device_of)
    assert found.lower <= optimum <= found.upper, (found.lower, optimum, found.upper)
    assert max(load.total for load in loads) == found.upper
    one = best_placement(graph, replace(fleet, stages_per_device=1))
    assert one is None or optimum <= one
    worse = " WORSE than one stage per device" if one is not None and found.upper > one else ""
    if found.status == "optimal":
        return "optimal, proved"
    return ("optimal, not proved" if found.upper == optimum else "feasible") + worse


def campaign(count: int, seed: int, limit: float) -> None:
    """Check many nets and count the verdicts."""
    rng = np.random.default_rng(seed)
    verdicts: Counter[str] = Counter()
    start = time.perf_counter()
    for number in range(count):
        graph, fleet = random_shared(rng, 7)
        if number % 4 == 3:
            kinds = (Kind(k.name, replace(k.target, activations=True)) for k in fleet.kinds)
            fleet = replace(fleet, kinds=tuple(kinds))
        verdicts[examine(graph, fleet, limit)] += 1
    print(f"{count} nets, no contradiction, {time.perf_counter() - start:.0f} s")
    for verdict, number in verdicts.most_common():
        print(f"  {number:6d} {verdict}")


def priced(path: Path, lacking: str) -> CostGraph:
    """Price a model on a CPU and on an accelerator which lacks an operator."""
    import onnx

    cpu = load_device("cpu")
    peaks = {name: ARITHMETIC * rate for name, rate in cpu.peak_flops.items()}
    fast = replace(
        cpu, name="accelerator", peak_flops=peaks, memory_bandwidth=BANDWIDTH * cpu.memory_bandwidth
    )
    slow, quick = (
        op.profile(path, cost_model="analytic", device=device).counted(NS) for device in (cpu, fast)
    )
    types = {n.name: n.op_type for n in onnx.load(path, load_external_data=False).graph.node}
    lacks = np.array([any(types.get(name) == lacking for name in names) for names in slow.onnx_nodes])
    works = {"cpu": slow.work, "accelerator": np.where(lacks, INFEASIBLE, quick.work)}
    return replace(slow, name=path.stem, work_on=works)


def fleet_of(target: Target, stages: int | None) -> FleetTarget:
    """One CPU and three accelerators, in any order."""
    kinds = Kind("cpu", target), Kind("accelerator", target)
    return FleetTarget(kinds, (0, 1, 1, 1), free=True, stages_per_device=stages)


def measure(graph: CostGraph, target: Target, stages: int | None, limit: float, seed: int) -> None:
    """Print one row."""
    one = op.place(graph, fleet_of(target, 1), time_limit=limit)
    begin = time.perf_counter()
    found = op.place(graph, fleet_of(target, stages), time_limit=limit, seed=seed)
    seconds = time.perf_counter() - begin
    fluid = next(bound.seconds for bound in found.bounds if bound.method == "fluid")
    print(
        f"| {graph.name} | {stages or 'any'} | {1e3 * one.bottleneck:.4g} | {1e3 * found.bottleneck:.4g} | "
        f"{1e3 * fluid:.4g} | {found.bottleneck / fluid:.3f} | {1e3 * found.lower_bound:.4g} | "
        f"{found.gap:.2%} | {found.stages} | {seconds:.1f} |",
        flush=True,
    )


def main() -> None:
    """Run what the options ask for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("cases", nargs="*", help="MODEL.onnx=Operator")
    parser.add_argument("--count", type=int)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--stages", default="")
    parser.add_argument("--time-limit", type=float, default=math.nan)
    options = parser.parse_args()
    limit = options.time_limit
    ensure_compiled(silent)
    shared.ensure_compiled(silent)
    if options.count:
        campaign(options.count, options.seed, 0.05 if math.isnan(limit) else limit)
        return
    chosen = dict(case.rsplit("=", 1) for case in options.cases)
    chosen = chosen or {str(ZOO / f"{stem}.onnx"): lacking for stem, lacking in CASES.items()}
    graphs = [priced(Path(path), lacking) for path, lacking in chosen.items()]
    limits = [None, *map(int, filter(None, options.stages.split(",")))]
    for name, target in LINKS.items():
        print(f"\n{name}; milliseconds\n")
        print(
            "| model | stages per device | one | several | fluid | ratio | bound | gap | stages | seconds |"
        )
        print("|---|---|---|---|---|---|---|---|---|---|")
        for graph in graphs:
            for stages in limits:
                for seed in range(options.seed, options.seed + options.seeds):
                    measure(graph, target, stages, 10.0 if math.isnan(limit) else limit, seed)


if __name__ == "__main__":
    main()
