"""What every stage adds to the load of its device, where devices differ and may hold several stages."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from onnx_pipeline.graph.costgraph import HOST, CostGraph, IntArray
from onnx_pipeline.graph.fleet import FleetTarget, graph_on, price_devices
from onnx_pipeline.graph.objective import StageCost


def stage_shares(
    graph: CostGraph,
    fleet: FleetTarget,
    stage_of: Sequence[int] | IntArray,
    device_of: Sequence[int],
    *,
    up: bool = False,
) -> list[StageCost]:
    """Divide the load of every device among its stages; alone on a device, a stage has all of it.

    A tensor that enters a device is paid for by the first stage that reads it there, one that leaves by the
    stage that makes it. What exceeds the memory is that of the whole device: its first stage pays for it and
    has its activations.

    Parameters
    ----------
    graph, fleet, stage_of, device_of, up
        As for :func:`onnx_pipeline.graph.fleet.price_devices`.

    Returns
    -------
    list of StageCost, one per stage
        Those of a device add up to its load; parameters are those of each stage.
    """
    loads = price_devices(graph, fleet, stage_of, device_of, up=up)
    homes = np.asarray(stage_of, dtype=np.int64).tolist()
    count = len(device_of)
    incoming, outgoing = _transfers(graph, fleet, homes, device_of, up=up)
    works = [graph_on(graph, kind).work.tolist() for kind in fleet.kinds]
    nodes, work, parameters = [0] * count, [0] * count, [0] * count
    for v, s in enumerate(homes):
        nodes[s] += 1
        work[s] += works[fleet.devices[device_of[s]]][v]
    for users, size in zip(graph.users, graph.group_bytes.tolist(), strict=True):
        for s in {homes[v] for v in users}:
            parameters[s] += size
    shares = []
    seen: set[int] = set()
    for s, device in enumerate(device_of):
        load = loads[device]
        first = bool(nodes[s]) and device not in seen
        alpha = fleet.kind_of(device).target.overhead_ticks(graph.ticks_per_second, up=up)
        share = StageCost(
            nodes[s], work[s], incoming[s], outgoing[s], 0, alpha if nodes[s] else 0, parameters[s]
        )
        if first:
            share = replace(share, overflow=load.overflow, activation_bytes=load.activation_bytes)
            seen.add(device)
        shares.append(share)
    return shares


def _transfers(
    graph: CostGraph, fleet: FleetTarget, homes: Sequence[int], device_of: Sequence[int], *, up: bool
) -> tuple[list[int], list[int]]:
    """Return what every stage pays for tensors that enter and leave its device."""
    incoming, outgoing = [0] * len(device_of), [0] * len(device_of)
    times = [graph.net_ticks(kind.target, up=up).tolist() for kind in fleet.kinds]
    host_io = fleet.kinds[0].target.host_io
    to_host = graph.net_to_host.tolist()
    for t, producer in enumerate(graph.net_producer.tolist()):
        maker = None if producer == HOST else homes[producer]
        home = None if maker is None else device_of[maker]
        first: dict[int, int] = {}
        for s in sorted({homes[v] for v in graph.readers[t]}):
            if device_of[s] != home:
                first.setdefault(device_of[s], s)
        if maker is not None or host_io:
            for device, s in first.items():
                incoming[s] += times[fleet.devices[device]][t]
        if maker is not None and home is not None and (first or (host_io and to_host[t])):
            outgoing[maker] += times[fleet.devices[home]][t]
    return incoming, outgoing
