"""The min-cut bound of fleets against brute force."""

from __future__ import annotations

from contextlib import suppress

import numpy as np

from onnx_pipeline.errors import InfeasibleError
from onnx_pipeline.graph.fleet import FleetTarget, Kind
from onnx_pipeline.graph.target import INFEASIBLE
from onnx_pipeline.partition.bounds.mincut import mincut
from onnx_pipeline.partition.fleets.certificate import recheck
from onnx_pipeline.partition.fleets.instance import build_fleet, contract_fleet
from onnx_pipeline.partition.fleets.mincut import mincut_fleet
from onnx_pipeline.partition.result import Bound
from tests.fleet_oracle import best_placement, random_fleet
from tests.random_graphs import contracted


def test_it_never_exceeds_the_optimum() -> None:
    """Order fixed or free, contracted or not; often it is the optimum, and it is reproduced."""
    rng = np.random.default_rng(40)
    met = impossible = 0
    for i in range(500):
        graph, fleet = random_fleet(rng, 6, free=i % 2 == 0)
        with suppress(InfeasibleError):
            optimum = best_placement(graph, fleet)
            inst = contract_fleet(build_fleet(graph, fleet))
            bound = mincut_fleet(inst)
            assert mincut_fleet(inst, enough=0) <= bound <= (INFEASIBLE if optimum is None else optimum)
            impossible += bound == INFEASIBLE
            met += bound == optimum
            stated = Bound("min-cut", bound, ticks_per_second=graph.ticks_per_second)
            assert recheck(graph, fleet, stated) == bound
    assert met > 100
    assert impossible > 20


def test_equal_devices_have_the_plain_bound() -> None:
    """One kind: the bound of stages. A single device holds everything, which fleets know beforehand."""
    for graph, target, k, inst in contracted(100, 41):
        if k > 1 and (graph.pinned < 0).all():
            fleet = FleetTarget((Kind("all", target),), (0,) * k)
            assert mincut_fleet(contract_fleet(build_fleet(graph, fleet))) == mincut(inst)
