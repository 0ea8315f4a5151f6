"""Shares of stages in the loads of their devices."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from onnx_pipeline.graph.builder import GraphBuilder
from onnx_pipeline.graph.costgraph import HOST
from onnx_pipeline.graph.fleet import FleetTarget, Kind, price_devices
from onnx_pipeline.graph.shares import stage_shares
from onnx_pipeline.graph.target import Target
from tests.fleet_oracle import random_fleet


@pytest.mark.parametrize("seed", range(40))
def test_shares_add_up_to_loads(seed: int) -> None:
    """On random fleets, whatever the devices of the stages: part by part, rounded either way."""
    rng = np.random.default_rng(seed)
    graph, fleet = random_fleet(rng, 7)
    fleet = replace(fleet, stages_per_device=None)
    count = int(rng.integers(1, graph.num_nodes + 1))
    homes = np.zeros(graph.num_nodes, dtype=np.int64)
    cuts = np.sort(rng.choice(graph.num_nodes, count - 1, replace=False)) if count > 1 else []
    for cut in cuts:
        homes[list(graph.order)[int(cut) :]] += 1
    _, homes = np.unique(homes, return_inverse=True)
    device_of = rng.integers(0, len(fleet.devices), int(homes.max()) + 1).tolist()
    for up in (False, True):
        loads = price_devices(graph, fleet, homes, device_of, up=up)
        shares = stage_shares(graph, fleet, homes, device_of, up=up)
        for device, load in enumerate(loads):
            own = [share for share, d in zip(shares, device_of, strict=True) if d == device]
            for part in ("nodes", "work", "input", "output", "overflow", "overhead", "activation_bytes"):
                assert sum(getattr(share, part) for share in own) == getattr(load, part), part
            if len(own) == 1:
                assert own == [load]


def test_two_stages_of_one_device_share_a_tensor() -> None:
    """It enters the device once, for the stage that reads it first; what stays there costs nothing."""
    builder = GraphBuilder("g", ticks_per_second=10**9)
    a, b, c = (builder.add_node(name, 100) for name in "abc")
    builder.add_net("x", HOST, [a, c], nbytes=10)
    builder.add_net("ab", a, [b], nbytes=20)
    builder.add_net("bc", b, [c], nbytes=40)
    builder.add_net("ac", a, [c], nbytes=80)
    graph = builder.build()
    fleet = FleetTarget((Kind("k", Target(bandwidth=1e9)),), (0, 0), stages_per_device=None)
    first, middle, last = stage_shares(graph, fleet, [0, 1, 2], [0, 1, 0])
    assert (first.input, first.output) == (10, 20)
    assert (middle.input, middle.output) == (20, 40)
    assert (last.input, last.output) == (40, 0)
