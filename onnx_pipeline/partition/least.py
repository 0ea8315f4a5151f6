"""The smallest memory per device with which a graph fits into k stages.

From above: orders are cut so that the fullest segment holds as little as possible; what a cut needs is then
taken from the objective. From below: the exact question of :mod:`onnx_pipeline.partition.ideals`, with every
cost allowed and the memory bisected, proves that less does not do.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from onnx_pipeline.graph.costgraph import CostGraph, IntArray
from onnx_pipeline.graph.objective import price_stages
from onnx_pipeline.graph.target import INFEASIBLE, Target
from onnx_pipeline.partition.ideals.question import both_ways
from onnx_pipeline.partition.instance.instance import Instance
from onnx_pipeline.partition.proving import EXACT_LIMIT
from onnx_pipeline.partition.search import slicing
from onnx_pipeline.partition.search.lanes import Lane, lay
from onnx_pipeline.partition.search.orders import starting_orders
from onnx_pipeline.stop import Deadline, Stop

#: Decisions for a question, and seconds for cutting orders, whatever else is left.
DECISIONS, SECONDS = 100_000, 0.2


@dataclass(frozen=True, eq=False)
class Least:
    """What is known of the smallest memory.

    Attributes
    ----------
    works : int
        Bytes that a known partition needs.
    refuted : int
        Every memory below so many bytes is proved too small.
    stage_of : int64[n] or None
        That partition; None where ``works`` is simply everything.
    """

    works: int
    refuted: int
    stage_of: IntArray | None = None

    @property
    def exact(self) -> bool:
        """Whether nothing below ``works`` does."""
        return self.refuted >= self.works


def least_memory(graph: CostGraph, target: Target, k: int, inst: Instance, stop: Stop) -> Least:
    """Bound the smallest hard memory limit that some partition keeps.

    Parameters
    ----------
    graph : CostGraph
    target : Target
        With a hard limit that binds.
    k : int
        Number of stages; some may stay empty.
    inst : Instance
        The graph priced for the target, contracted or not: contraction under a hard limit does not depend on
        how large it is.
    stop : Stop
        Ends the proofs.
    """
    quick = Deadline(SECONDS)
    known = Least(int(graph.group_bytes.sum()) + int(graph.net_bytes.sum()), _floor(inst, k))
    for name, order in starting_orders(inst, np.random.default_rng(0)):
        stage_of = _cut(lay(inst, name, order), k, known.refuted, known.works)
        if stage_of is not None:
            known = _better(known, graph, target, stage_of, k)
        if quick():
            break
    return _bisect(graph, target, k, inst, known, stop)


def _better(known: Least, graph: CostGraph, target: Target, stage_of: IntArray, k: int) -> Least:
    """Return what is known once this partition is, too."""
    needs = _needs(graph, target, stage_of, k)
    return replace(known, works=needs, stage_of=stage_of) if needs < known.works else known


def _bisect(graph: CostGraph, target: Target, k: int, inst: Instance, known: Least, stop: Stop) -> Least:
    """Ask exact questions until the two sides meet or they are too hard."""
    if not 0 < inst.n <= EXACT_LIMIT:
        return known
    searches = both_ways(inst, k)
    low, high = known.refuted, known.works
    while low < high and not stop():
        middle = low + (high - low - 1) // 2
        for search in searches:
            search.hyper = search.hyper._replace(memory=float(middle))
            answer = search.ask(INFEASIBLE - 1, DECISIONS, stop)
            if answer.proved_none or answer.stage_of is not None:
                break
        if answer.proved_none:
            low = middle + 1
            continue
        high = middle
        if answer.stage_of is not None:
            known = _better(known, graph, target, inst.expand(answer.stage_of), k)
    return replace(known, refuted=low)


def _floor(inst: Instance, k: int) -> int:
    """Bytes that some stage needs at least: its share of all parameters, or one node with what it reads."""
    alone = inst.need.copy()
    np.add.at(alone, np.repeat(np.arange(inst.n), np.diff(inst.use_ptr)), inst.group_bytes[inst.use_group])
    used = np.unique(inst.use_group)
    return max(int(alone.max(initial=0)), -(-int(inst.group_bytes[used].sum()) // k))


def _needs(graph: CostGraph, target: Target, stage_of: IntArray, k: int) -> int:
    """Bytes of the fullest stage by the objective, whose stages run in the most frugal of their orders."""
    tight = replace(target, memory=1.0, memory_mode="hard")
    costs = price_stages(graph, tight, stage_of, k)
    return max((cost.parameter_bytes + cost.activation_bytes for cost in costs), default=0)


def _cut(lane: Lane, k: int, low: int, high: int) -> IntArray | None:
    """Return stages of the original nodes for the cut of a lane that needs the least, bisected in bytes."""
    best = None
    ends = np.zeros(k, dtype=np.int64)
    while low < high:
        middle = low + (high - low) // 2
        tape = lane.tape._replace(memory=float(middle))
        found, _ = slicing.feasible(tape, k, INFEASIBLE - 1, ends)
        if found:
            high = middle
            best = lane.inst.expand(slicing.stages_of(lane.order, ends, found))
        else:
            low = middle + 1
    return best
