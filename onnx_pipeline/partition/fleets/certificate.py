"""Prove bounds of fleets again, by code that did not make them."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from fractions import Fraction

from onnx_pipeline.graph.costgraph import HOST, CostGraph
from onnx_pipeline.graph.fleet import FleetTarget, graph_on, price_devices
from onnx_pipeline.graph.target import INFEASIBLE, Target
from onnx_pipeline.partition.fleets.demand import demand
from onnx_pipeline.partition.fleets.fluid import evaluate
from onnx_pipeline.partition.fleets.ideals import FleetSearch
from onnx_pipeline.partition.fleets.instance import FleetInstance, build_fleet, contract_fleet, counted
from onnx_pipeline.partition.fleets.kernels import ensure_compiled
from onnx_pipeline.partition.fleets.mincut import mincut_fleet
from onnx_pipeline.partition.fleets.shared_bound import price_bound
from onnx_pipeline.partition.fleets.simple import simple_fleet
from onnx_pipeline.partition.result import Bound
from onnx_pipeline.progress import silent
from onnx_pipeline.stop import Deadline


def recheck(graph: CostGraph, fleet: FleetTarget, bound: Bound, seconds: float = 10.0) -> int | None:
    """Return what a stated bound comes to when it is proved anew.

    Parameters
    ----------
    graph : CostGraph
    fleet : FleetTarget
    bound : Bound
        Of method ``"simple"`` or ``"min-cut"``; of method ``"fluid"``, with integers ``weights`` and
        ``memory`` of every kind in its detail; ``"prices"``, for which good prices are looked for again; or
        another, which is proved by search if devices hold one stage each.
    seconds : float
        Time for a search from each end.

    Returns
    -------
    int or None
        Ticks of ``counted(graph, fleet)``. Less than the bound says, rounded down to these, contradicts it;
        None if it could be neither proved nor refuted.
    """
    graph = counted(graph, fleet)
    ticks = bound.ticks * graph.ticks_per_second // bound.ticks_per_second
    full = build_fleet(graph, fleet)
    if bound.method == "fluid":
        detail = bound.detail or {}
        weights, memory = detail.get("weights", ()), detail.get("memory", ())
        found = _fluid(graph, full, weights, memory)
        if found is None or found >= ticks or fleet.shared:
            return found or 0
        return evaluate(demand(contract_fleet(full)), weights, memory)  # no less than before
    if bound.method == "simple":
        return simple_fleet(full)
    if bound.method == "min-cut":
        return mincut_fleet(full if fleet.shared else contract_fleet(full), Deadline(seconds), ticks)
    if bound.method == "prices":
        prices = price_bound(contract_fleet(full), seconds)
        return None if prices is None or prices.ticks < ticks else prices.ticks
    return None if fleet.shared else _search(graph, contract_fleet(full), ticks, seconds)


def _search(graph: CostGraph, inst: FleetInstance, ticks: int, seconds: float) -> int | None:
    """Search for a placement below a bound, from both ends."""
    if ticks <= 0:
        return ticks
    ensure_compiled(silent)
    for reverse in (True, False):
        search = FleetSearch(inst, reverse=reverse)
        answer = search.ask(min(ticks, INFEASIBLE) - 1, 1 << 60, Deadline(seconds))
        if answer.proved_none:
            return ticks
        if answer.stage_of is not None:
            loads = price_devices(graph, inst.fleet, inst.expand(answer.stage_of), answer.device_of)
            load = max(load.total for load in loads)
            # Where activations need memory, the search counts less than their peak and may find too much.
            if load < ticks:
                return load
    return None


def _fluid(
    graph: CostGraph, full: FleetInstance, weights: Sequence[int], memory: Sequence[int]
) -> int | None:
    """Return the least T that weights allow, in whole numbers from the graph; None if they prove nothing.

    The inequality is that of :mod:`onnx_pipeline.partition.fleets.fluid`. Nodes that must share a device
    count together, and what the host writes or reads counts with the first of them.
    """
    kinds = full.fleet.kinds
    plain = all(isinstance(number, int) and number >= 0 for number in (*weights, *memory))
    if not plain or not len(weights) == len(memory) == len(kinds):
        return None
    devices = full.fleet.counts
    needed = 0
    for prices in zip(*_prices(graph, full, weights, memory), strict=True):
        able = [price for price in prices if price is not None]
        if not able:
            return INFEASIBLE
        needed += min(able)
    for kind, priced, y, q, count in zip(kinds, full.kinds, weights, memory, devices, strict=True):
        hard = kind.target.memory_mode == "hard"
        rate = Fraction(kind.target.ticks_per_byte(graph.ticks_per_second)) * (1 - Fraction(1, 1 << 50))
        if q and (priced.memory == math.inf or (not hard and q > y * rate)):
            return None
        if q:
            needed -= count * (q * math.ceil(kind.target.memory) + (0 if hard else y))
    offers = [
        (count * y, kind.target.overhead_ticks(graph.ticks_per_second))
        for kind, y, count in zip(kinds, weights, devices, strict=True)
    ]
    low, high = 0, INFEASIBLE
    while low < high:
        middle = (low + high) // 2
        if sum(worth * max(0, middle - alpha) for worth, alpha in offers) >= needed:
            high = middle
        else:
            low = middle + 1
    return low


def _prices(
    graph: CostGraph, full: FleetInstance, weights: Sequence[int], memory: Sequence[int]
) -> list[list[int | None]]:
    """Return what every node of the instance costs on each kind with devices, None where it cannot run."""
    home = full.kinds[0].node_of.tolist()
    held = [0] * full.n
    for users, size in zip(graph.users, graph.group_bytes.tolist(), strict=True):
        if users:
            held[min(home[v] for v in users)] += size
    rows = []
    for number in full.used:
        kind = full.fleet.kinds[number]
        on = graph_on(graph, kind)
        work = _host(on, kind.target, home)
        lacking = _too_large(on, kind.target, full, number)
        for v, ticks in enumerate(on.work.tolist()):
            work[home[v]] += ticks
            pin = int(graph.pinned[v])
            if ticks >= INFEASIBLE or (pin >= 0 and full.fleet.devices[pin] != number):
                lacking.add(home[v])
        rows.append(
            [
                None if node in lacking else weights[number] * work[node] + memory[number] * held[node]
                for node in range(full.n)
            ]
        )
    return rows


def _host(graph: CostGraph, target: Target, home: Sequence[int]) -> Counter[int]:
    """Return what nodes pay for tensors of the host, each tensor at one node."""
    paid: Counter[int] = Counter()
    if not target.host_io:
        return paid
    ticks = graph.net_ticks(target).tolist()
    for t, (producer, readers) in enumerate(zip(graph.net_producer.tolist(), graph.readers, strict=True)):
        if producer != HOST and graph.net_to_host[t]:
            paid[home[producer]] += ticks[t]
        elif producer == HOST and readers:
            paid[min(home[v] for v in readers)] += ticks[t]
    return paid


def _too_large(graph: CostGraph, target: Target, full: FleetInstance, number: int) -> set[int]:
    """Return the nodes that a hard limit is too small for, alone."""
    home = full.kinds[0].node_of.tolist()
    if target.memory_mode != "hard" or target.memory == math.inf:
        return set()
    held = full.kinds[number].need.tolist()
    for users, size in zip(graph.users, graph.group_bytes.tolist(), strict=True):
        for node in {home[v] for v in users}:
            held[node] += size
    return {node for node, size in enumerate(held) if size > target.memory}
