"""Placing a graph on a fleet: bounds, good orders cut for its devices, and what improves them."""

from __future__ import annotations

import numpy as np

from onnx_pipeline.graph.costgraph import CostGraph
from onnx_pipeline.graph.fleet import FleetTarget
from onnx_pipeline.graph.target import INFEASIBLE
from onnx_pipeline.parameters import SearchParams
from onnx_pipeline.partition.fleets import shared
from onnx_pipeline.partition.fleets.instance import build_fleet, contract_fleet, counted
from onnx_pipeline.partition.fleets.kernels import ensure_compiled
from onnx_pipeline.partition.fleets.known import FleetKnown
from onnx_pipeline.partition.fleets.reasons import check_between, check_pins, check_support, infeasible
from onnx_pipeline.partition.fleets.searching import search
from onnx_pipeline.partition.fleets.simple import simple_fleet
from onnx_pipeline.progress import Progress, silent
from onnx_pipeline.stop import AnyOf, Deadline, is_interrupt


def plan_fleet(
    graph: CostGraph, fleet: FleetTarget, params: SearchParams, progress: Progress = silent
) -> FleetKnown:
    """Find stages and their devices, and prove how much better others could be.

    Parameters
    ----------
    graph : CostGraph
        Its pins name devices.
    fleet : FleetTarget
    params : SearchParams
    progress : Progress

    Returns
    -------
    FleetKnown
        After a KeyboardInterrupt, the best so far with ``interrupted`` set.

    Raises
    ------
    UsageError
        If a pin names no device, or devices have no order.
    InfeasibleError
        If no placement is found that runs: a node that no device runs, pins or a hard memory limit.
    """
    check_pins(graph, fleet)
    check_support(graph, fleet)
    known = FleetKnown(counted(graph, fleet), fleet, progress)
    full = build_fleet(known.graph, fleet)
    check_between(known.graph, fleet, full)
    known.bound(simple_fleet(full), "simple")
    if not full.n:
        known.offer(np.zeros(0, dtype=np.int64), (), "whole")
        return known
    ensure_compiled(progress)
    if fleet.shared:
        shared.ensure_compiled(progress)
    deadline = Deadline(params.time_limit, min(known.seconds, params.time_limit / 2))
    stop = AnyOf(lambda: known.reached(params.gap), deadline)
    try:
        if fleet.shared:
            shared.place_shared(known, params, progress, stop)
        else:
            search(known, contract_fleet(full, deadline), params, stop)
    except (KeyboardInterrupt, SystemError) as error:
        if not is_interrupt(error):
            raise
        known.interrupted = True
    if known.upper >= INFEASIBLE:
        raise infeasible(known)
    return known
