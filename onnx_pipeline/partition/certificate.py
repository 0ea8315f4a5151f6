"""Check a certificate with code that did not make it.

What can be recomputed from the graph is recomputed: the partition's validity and cost, the simple, min-cut,
windows and crossings bounds. A solver's bound can only be compared with the partition here.
"""

from __future__ import annotations

from onnx_pipeline.graph.objective import check_partition
from onnx_pipeline.partition.bounds.crossings import Crossings, paid_once_bound
from onnx_pipeline.partition.bounds.mincut import mincut
from onnx_pipeline.partition.bounds.simple import simple
from onnx_pipeline.partition.bounds.windows import reach_by_cuts, reach_by_sets, window_bound
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
    bound = certificate.ticks
    if bound == 0:
        return []
    inst = contract(build(partition.graph, partition.target))
    for reverse in (False, True):
        search = IdealSearch(inst, partition.stages, reverse=reverse)
        answer = search.ask(bound - 1, 1 << 60, Deadline(seconds))
        if answer.proved_none:
            return []
        if answer.stage_of is not None:
            return [f"a partition below the bound of {partition.graph.seconds(bound)} s exists"]
    claim = f"the bound of {partition.graph.seconds(bound)} s"
    return [f"{claim} could not be proved again in {seconds:g} s from each end"]


def _crossed(inst: Instance, k: int, limit: int) -> bool:
    """Whether crossings refute a limit; borders only where the bound needs them."""
    if limit < paid_once_bound(inst, k):
        return True
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
    graph, k = partition.graph, partition.stages
    problems = check_partition(graph, partition.stage_of, k)
    if problems:
        return problems
    value = partition.ticks
    full = build(graph, partition.target)
    for bound in certificate.bounds:
        if bound.ticks > value:
            problems.append(
                f"bound {bound.method!r} is {bound.seconds} s, above the partition: {graph.seconds(value)} s"
            )
        elif bound.method == "simple" and bound.ticks > simple(full, k):
            problems.append("the simple bound cannot be reproduced")
        elif bound.method == "windows" and bound.ticks > window_bound(contract(full), k, value):
            problems.append("the windows bound cannot be reproduced")
        elif bound.method == "crossings" and not _crossed(contract(full), k, bound.ticks - 1):
            problems.append("the crossings bound cannot be reproduced")
        elif bound.method == "min-cut" and bound.ticks > mincut(contract(full)):
            problems.append("the min-cut bound cannot be reproduced")
    return problems
