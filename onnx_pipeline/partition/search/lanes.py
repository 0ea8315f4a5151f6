"""Topological orders laid out to be cut again and again, for any number of stages."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from onnx_pipeline.graph.costgraph import IntArray
from onnx_pipeline.partition.instance.coarsen import coarsen
from onnx_pipeline.partition.instance.instance import Instance
from onnx_pipeline.partition.search import slicing, tapes

#: Instances above this size are sliced at the borders of runs.
COARSE_LIMIT = 4_000
#: From this many times the lower bound on, a first pass comes from below: passes at large limits are slow.
FAR = 4


class Lane(NamedTuple):
    """An order with its instance, coarse where that is large, and its tape."""

    name: str
    inst: Instance
    order: IntArray
    tape: tapes.Tape


def lay(inst: Instance, name: str, order: IntArray) -> Lane:
    """Lay out an order of an instance; on large ones the runs between its cheapest borders."""
    if inst.n > COARSE_LIMIT:
        inst = coarsen(inst, order)
        order = np.arange(inst.n)
    return Lane(name, inst, order, tapes.make_tape(inst, order))


def cut(lane: Lane, k: int, low: int, high: int) -> IntArray | None:
    """Return stages of the original nodes for the best cut of a lane, or None without a good one.

    Parameters
    ----------
    lane : Lane
    k : int
        Number of stages, some of which may stay empty.
    low : int
        A known lower bound in ticks; reaching it ends the search.
    high : int
        What is looked for: a bottleneck of at most so many ticks. Where that is far above ``low``, what is
        returned may be above it, too.
    """
    ends = np.zeros(k, dtype=np.int64)
    if high > FAR * low:
        found, _ = slicing.evaluate(lane.inst, lane.order, k, low, low + low // 50, 2 * low, ends)
    else:
        found, _ = slicing.slice_order(lane.tape, k, low, high, ends)
    return lane.inst.expand(slicing.stages_of(lane.order, ends, found)) if found else None
