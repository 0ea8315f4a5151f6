"""Devices that hold several stages: search and bounds.

With any number of stages on a device, a placement is a map of nodes to devices: stages are runs of nodes on
one device along some topological order, which exist for every map. What a device pays for its nodes does not
depend on them, only how often it pays alpha does.

The merges of :func:`~onnx_pipeline.partition.fleets.instance.contract_fleet` are safe here, too. *Proof.*
Read "device" for "stage" in what :mod:`onnx_pipeline.partition.instance.contract` says of costs: x leaves the
device of its stage for that of y, and the inequalities mention nothing but the nodes and nets of x and y. If
both are on one device, no cost changes. In the order of stages x moves to the stage of y, as there, which
adds none: no device has more stages than before.

Bounds are :mod:`fluid` and, better as a rule, :mod:`shared_prices`. One stage per device is a placement here,
too, so the search for those comes first.
"""

from __future__ import annotations

from dataclasses import replace

from onnx_pipeline.graph.costgraph import IntArray
from onnx_pipeline.graph.fleet import FleetTarget, Kind
from onnx_pipeline.parameters import SearchParams
from onnx_pipeline.partition import kernels
from onnx_pipeline.partition.fleets.fluid import fluid_bound
from onnx_pipeline.partition.fleets.instance import FleetInstance, build_fleet, contract_fleet
from onnx_pipeline.partition.fleets.known import FleetKnown
from onnx_pipeline.partition.fleets.searching import search
from onnx_pipeline.partition.fleets.shared_annealing import SharedAnnealer
from onnx_pipeline.partition.fleets.shared_bound import price_bound
from onnx_pipeline.partition.fleets.shared_walk import anneal
from onnx_pipeline.partition.fleets.simple import simple_fleet
from onnx_pipeline.progress import Progress, silent
from onnx_pipeline.stop import AnyOf, Asked, Deadline, Stop

#: Share of the time limit for one stage per device, and for the linear program of prices.
PLAIN_SHARE, PRICE_SHARE = 0.15, 0.25
#: Nodes for each second of the time limit above which the linear program would take too much of it.
PRICED = 100


def place_shared(
    known: FleetKnown, params: SearchParams, progress: Progress = silent, stop: Stop | None = None
) -> None:
    """Improve placement and bound until it is time to stop.

    Parameters
    ----------
    known : FleetKnown
        Of a fleet whose devices may hold several stages; every node runs on one of them. Receives what is
        found.
    params : SearchParams
    progress : Progress
    stop : Stop, optional
        By default the gap and the time limit of ``params``.
    """
    if stop is None:
        stop = AnyOf(lambda: known.reached(params.gap), Deadline(params.time_limit))
    full = build_fleet(known.graph, known.fleet)
    inst = contract_fleet(full, stop)
    _one_each(known, params, stop)
    preferred = None if stop() else _bounds(known, full, inst, params)
    if not known.reached(params.gap):
        progress("partition", None, "several stages per device: annealing")
        SharedAnnealer(known, inst, preferred, params.seed).turn(stop)


def _one_each(known: FleetKnown, params: SearchParams, stop: Stop) -> None:
    """Offer the best placement with one stage per device."""
    fleet = replace(known.fleet, stages_per_device=1, free=True)
    inst = contract_fleet(build_fleet(known.graph, fleet), stop)
    plain = FleetKnown(known.graph, fleet)
    plain.bound(simple_fleet(inst), "simple")
    search(plain, inst, params, AnyOf(stop, Deadline(PLAIN_SHARE * params.time_limit), lambda: plain.settled))
    if len(plain.stage_of):
        known.offer(plain.stage_of, plain.device_of, plain.method)


def _bounds(
    known: FleetKnown, full: FleetInstance, inst: FleetInstance, params: SearchParams
) -> IntArray | None:
    """Add bounds; return the kind that every node should be on, if they tell."""
    fluid = fluid_bound(full)
    known.bound(fluid.ticks, "fluid", {"weights": list(fluid.weights), "memory": list(fluid.memory)})
    if known.reached(params.gap) or inst.n > PRICED * params.time_limit:
        return None
    bound = price_bound(inst, PRICE_SHARE * params.time_limit)
    if bound is None:
        return None
    known.bound(bound.ticks, "prices")
    return bound.kind


def ensure_compiled(progress: Progress) -> None:
    """Load the kernels for shared devices from numba's cache, or compile and cache them."""
    if anneal.signatures:
        return
    kernels.announce(anneal, "shared_walk.anneal", "kernels for shared devices", progress)
    graph, target = kernels.small_case()
    fleet = FleetTarget((Kind("small", target),), (0, 0), stages_per_device=2)
    known = FleetKnown(graph, fleet)
    SharedAnnealer(known, build_fleet(graph, fleet)).turn(Asked(3))
