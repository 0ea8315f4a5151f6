"""Check the certificate of a plan with replicas by code that did not make it.

The partition, its period and the simple bound are recomputed. A bound of the ideal search holds if the search
proves again that there is nothing below it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from fractions import Fraction

from onnx_pipeline.graph.objective import check_partition, price_stages
from onnx_pipeline.graph.replicas import allot, capacities, price_replicas
from onnx_pipeline.partition.instance.build import build
from onnx_pipeline.partition.instance.contract import contract
from onnx_pipeline.partition.replicas.bound import simple_period
from onnx_pipeline.partition.replicas.ideals import ReplicaSearch
from onnx_pipeline.partition.replicas.known import Known, meets_pins
from onnx_pipeline.partition.result import Partition
from onnx_pipeline.stop import Deadline

#: Methods that prove lower bounds of a period.
METHODS = ("simple", "ideals")
#: Those that are recomputed here; of others only a new proof tells.
RECOMPUTED = ("simple",)


def check(
    partition: Partition, replicas: Sequence[int], devices: int, bounds: Iterable[tuple[str, Fraction]]
) -> list[str]:
    """Return every contradiction found; an empty list means that the certificate holds.

    Parameters
    ----------
    partition : Partition
        In ticks that everything that is added up here can be counted in.
    replicas : sequence of int
        Devices of every stage.
    devices : int
    bounds : iterable of (str, Fraction)
        Methods, and periods in ticks.

    Returns
    -------
    list of str
        One line per problem.
    """
    graph, target = partition.graph, partition.target
    problems = check_partition(graph, partition.stage_of, partition.stages)
    if sum(replicas) > devices:
        problems.append(f"the stages take {sum(replicas)} devices, there are {devices}")
    if problems:
        return problems
    costs = [cost.total for cost in price_stages(graph, target, partition.stage_of, partition.stages)]
    problems += _spare(costs, replicas)
    period = price_replicas(graph, target, partition.stage_of, replicas).period
    tick = graph.ticks_per_second
    for method, lower in bounds:
        if method not in METHODS:
            problems.append(f"there is no bound {method!r} of a period")
        elif lower > period:
            problems.append(
                f"bound {method!r} is {float(lower / tick)} s, above the period: {float(period / tick)} s"
            )
        elif method == "simple" and lower > simple_period(build(graph, target), devices):
            problems.append("the simple bound cannot be reproduced")
    return problems


def _spare(costs: Sequence[int], replicas: Sequence[int]) -> list[str]:
    """Return the stages with other devices than their period takes."""
    filled = [s for s, r in enumerate(replicas) if r]
    needed = allot([costs[s] for s in filled], sum(replicas))
    return [
        f"stage {s} has {replicas[s]} devices, where the plan's period takes {least}"
        for s, least in zip(filled, needed, strict=True)
        if replicas[s] != least
    ]


def _less(period: Fraction | None, lower: Fraction) -> bool:
    return period is not None and period < lower


def recheck(partition: Partition, devices: int, lower: Fraction, seconds: float) -> list[str]:
    """Prove a lower bound again, by exhaustive search from both ends of the graph.

    Parameters
    ----------
    partition : Partition
        Passed by :func:`check`.
    devices : int
    lower : Fraction
        In ticks.
    seconds : float
        Time for each direction.

    Returns
    -------
    list of str
        Empty when one direction proves that no stages with replicas are below the bound.
    """
    if lower <= 0:
        return []
    graph, target = partition.graph, partition.target
    inst = contract(build(graph, target))
    said = f"the bound of {float(lower / graph.ticks_per_second)} s"
    for reverse in (False, True):
        search = ReplicaSearch(inst, reverse=reverse)
        answer = search.ask(capacities(lower, devices), 1 << 60, Deadline(seconds))
        if answer.proved_none:
            return []
        if answer.stage_of is not None:
            known, stages = Known(graph, target, devices), inst.expand(answer.stage_of)
            # Pins may ask for more than the search counts: the objective has the last word.
            if meets_pins(graph, stages) and known.offer(stages, "ideals") and _less(known.period, lower):
                return [f"stages with replicas below {said} exist"]
    return [f"{said} could not be proved again in {seconds:g} s from each end"]
