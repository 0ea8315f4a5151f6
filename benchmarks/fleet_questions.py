"""Bounds and exact questions about fleets against brute force, without the search around them.

    python -m benchmarks.fleet_questions --count 20000 [--seed 0] [--free]

Random small nets as in `benchmarks.fleets`, contracted or not, asked from one end or the other. The fluid and
the min-cut bound may not exceed the optimum over all stages and devices, and the fluid bound has to be
reproduced from its weights; nothing may be found below the optimum, and a placement has to be found at the
optimum. Stops at the first contradiction.
"""

from __future__ import annotations

import argparse
import time
from collections import Counter

import numpy as np

from onnx_pipeline.errors import InfeasibleError
from onnx_pipeline.graph.costgraph import CostGraph
from onnx_pipeline.graph.fleet import FleetTarget, device_loads
from onnx_pipeline.graph.target import INFEASIBLE
from onnx_pipeline.partition.fleets import ideals
from onnx_pipeline.partition.fleets.certificate import recheck
from onnx_pipeline.partition.fleets.fluid import fluid_bound
from onnx_pipeline.partition.fleets.ideals import FleetSearch
from onnx_pipeline.partition.fleets.instance import build_fleet, contract_fleet
from onnx_pipeline.partition.fleets.mincut import mincut_fleet
from onnx_pipeline.partition.result import Bound
from onnx_pipeline.stop import never
from tests.fleet_oracle import best_placement, random_fleet


def examine(graph: CostGraph, fleet: FleetTarget, number: int) -> str:
    """Check one net, contracted or not and from one end or the other by its number; return the verdict."""
    optimum = best_placement(graph, fleet)
    try:
        full = build_fleet(graph, fleet)
    except InfeasibleError:
        assert optimum is None, "demands contradict each other, yet there is a placement"
        return "contradiction"
    inst = contract_fleet(full) if number % 2 else full
    least = INFEASIBLE if optimum is None else optimum
    fluid, cut = fluid_bound(inst), mincut_fleet(inst)
    bound = Bound("fluid", fluid.ticks, ticks_per_second=graph.ticks_per_second, detail=fluid.detail)
    again = recheck(graph, fleet, bound)
    assert again is not None
    assert fluid.ticks <= again <= least, (fluid, again, optimum)
    assert cut <= least, (cut, optimum)
    search = FleetSearch(inst, reverse=number % 4 < 2)
    assert search.ask(least - 1, 1 << 40, never).proved_none, "found what there is not"
    if optimum is not None:
        answer = search.ask(optimum, 1 << 40, never)
        assert answer.stage_of is not None, "not found what there is"
        loads = device_loads(graph, fleet, inst.expand(answer.stage_of), answer.device_of)
        assert max(load.total for load in loads) == optimum
    if optimum is None:
        return "infeasible"
    return "a bound is met" if max(fluid.ticks, cut) == optimum else "searched"


def main() -> None:
    """Check many nets and count the verdicts."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--count", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--free", action="store_true")
    options = parser.parse_args()
    ideals.CHUNK = 40  # pauses often
    rng = np.random.default_rng(options.seed)
    verdicts: Counter[str] = Counter()
    start = time.perf_counter()
    for number in range(options.count):
        verdicts[examine(*random_fleet(rng, 7, free=options.free), number)] += 1
    order = "any order" if options.free else "a fixed order"
    print(f"{options.count} nets, devices in {order}, no contradiction, {time.perf_counter() - start:.0f} s")
    for verdict, number in verdicts.most_common():
        print(f"  {number:6d} {verdict}")


if __name__ == "__main__":
    main()
