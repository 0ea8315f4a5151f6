"""Check a certificate with code that did not make it.

What can be recomputed from the graph is recomputed: the partition's validity and cost, the simple, min-cut,
windows and crossings bounds. A solver's bound can only be compared with the partition here.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from onnx_pipeline.graph.costgraph import IntArray
from onnx_pipeline.graph.objective import bottleneck, check_partition, countable, useful_stages
from onnx_pipeline.partition.bounds.crossings import SHARES_LIMIT, Crossings, paid_once_bound
from onnx_pipeline.partition.bounds.mincut import mincut
from onnx_pipeline.partition.bounds.simple import simple
from onnx_pipeline.partition.bounds.windows import reach_by_cuts, reach_by_sets, window_bound
from onnx_pipeline.partition.ideals.exhaustive import exhaust
from onnx_pipeline.partition.ideals.question import IdealSearch
from onnx_pipeline.partition.instance.build import build
from onnx_pipeline.partition.instance.contract import contract
from onnx_pipeline.partition.instance.instance import Instance
from onnx_pipeline.partition.result import Certificate, Partition
from onnx_pipeline.stop import Deadline

#: Rounds to reproduce a crossings bound, more than finding one takes: other windows, another way there.
CHECK_ROUNDS = 120


def recheck(partition: Partition, certificate: Certificate, seconds: float) -> list[str]:
    """Prove the lower bound again, by exhaustive search from both ends of the graph.

    Parameters
    ----------
    partition : Partition
    certificate : Certificate
        Passed by :func:`check`.
    seconds : float
        Time for each direction.

    Returns
    -------
    list of str
        Empty when one direction proves that no partition is below the bound.
    """
    partition, certificate = _countable(partition, certificate)
    bound = certificate.ticks
    if bound == 0:
        return []
    full, k = build(partition.graph, partition.target), useful_stages(partition.graph, partition.stages)
    exactly = partition.exactly
    best = None
    if exactly or full.need.any():
        stop = Deadline(seconds)
        best = exhaust(partition.graph, partition.target, k, full, exactly=exactly, stop=stop)
    if best is not None:
        return [_below(partition, bound)] if best.ticks < bound else []
    inst = contract(full)
    for reverse in (False, True):
        search = IdealSearch(inst, k, reverse=reverse)
        answer = search.ask(bound - 1, 1 << 60, Deadline(seconds))
        if answer.proved_none:
            return []
        stage_of = None if answer.stage_of is None else inst.expand(answer.stage_of)
        # Where memory binds or stages must be filled, a search that counts less may find too much.
        if stage_of is not None and _counts(partition, stage_of, bound, exactly=exactly):
            return [_below(partition, bound)]
    claim = f"the bound of {partition.graph.seconds(bound)} s"
    return [f"{claim} could not be proved again in {seconds:g} s from each end"]


def _below(partition: Partition, bound: int) -> str:
    return f"a partition below the bound of {partition.graph.seconds(bound)} s exists"


def _counts(partition: Partition, stage_of: IntArray, bound: int, *, exactly: bool) -> bool:
    """Whether a partition is one that the bound speaks of, and below it."""
    if exactly and len(np.unique(stage_of)) < partition.stages:
        return False
    return bottleneck(partition.graph, partition.target, stage_of, partition.stages) < bound


def _countable(partition: Partition, certificate: Certificate) -> tuple[Partition, Certificate]:
    """Return both in ticks so long that nothing that is added up here can overflow."""
    graph = countable(partition.graph, partition.target, partition.stages)
    if graph is partition.graph:
        return partition, certificate
    bounds = (
        replace(
            bound,
            ticks=bound.ticks * graph.ticks_per_second // bound.ticks_per_second,
            ticks_per_second=graph.ticks_per_second,
        )
        for bound in certificate.bounds
    )
    return replace(partition, graph=graph), Certificate(tuple(bounds))


def _crossed(inst: Instance, k: int, limit: int) -> bool:
    """Whether crossings refute a limit; borders only where the bound needs them."""
    if limit < paid_once_bound(inst, k):
        return True
    if inst.m * k > SHARES_LIMIT:
        return False
    return Crossings(inst, k, reach_by_cuts(inst, reach_by_sets(inst))).refutes(limit, CHECK_ROUNDS)


def check(partition: Partition, certificate: Certificate) -> list[str]:
    """Return every contradiction found; an empty list means that the certificate holds.

    Parameters
    ----------
    partition : Partition
    certificate : Certificate

    Returns
    -------
    list of str
        One line per problem.
    """
    partition, certificate = _countable(partition, certificate)
    graph = partition.graph
    problems = check_partition(graph, partition.stage_of, partition.stages)
    if partition.exactly and partition.used < partition.stages:
        problems.append(f"{partition.used} of {partition.stages} stages have nodes, where all had to")
    if problems:
        return problems
    value = partition.ticks
    full = build(graph, partition.target)
    for bound in certificate.bounds:
        # A bound for more stages is recomputed for those.
        k = useful_stages(graph, bound.stages or partition.stages)
        if bound.ticks > value:
            problems.append(
                f"bound {bound.method!r} is {bound.seconds} s, above the partition: {graph.seconds(value)} s"
            )
        elif bound.method == "exactly" and not partition.exactly:
            problems.append("the bound 'exactly' holds where no stage may be empty, which was not demanded")
        elif bound.stages is not None and bound.stages < partition.stages:
            problems.append(f"bound {bound.method!r} is for {bound.stages} stages only")
        elif bound.method == "simple" and bound.ticks > simple(full, k):
            problems.append("the simple bound cannot be reproduced")
        elif bound.method == "windows" and bound.ticks > window_bound(contract(full), k, value):
            problems.append("the windows bound cannot be reproduced")
        elif bound.method == "crossings" and not _crossed(contract(full), k, bound.ticks - 1):
            problems.append("the crossings bound cannot be reproduced")
        elif bound.method == "min-cut" and bound.ticks > mincut(contract(full)):
            problems.append("the min-cut bound cannot be reproduced")
    return problems
