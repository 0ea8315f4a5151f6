"""Orders that keep together what some kind of device cannot run.

With one stage per device, a device that alone runs some nodes has to take everything between them, too. So
these orders bring such nodes next to each other, as early or as late as the graph allows.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from onnx_pipeline.graph.costgraph import BoolArray, IntArray
from onnx_pipeline.partition.fleets.instance import FleetInstance
from onnx_pipeline.partition.instance.instance import Instance
from onnx_pipeline.partition.search.orders import in_degrees, kahn


def grouping_orders(inst: FleetInstance, base: IntArray) -> Iterator[tuple[str, IntArray]]:
    """Yield (name, order) for every kind that lacks something.

    Parameters
    ----------
    inst : FleetInstance
    base : int64[n]
        A topological order that decides where nothing else does.
    """
    common = inst.common
    degrees = in_degrees(common)
    rank = np.empty(inst.n)
    rank[base] = np.arange(inst.n)
    for kind in inst.used:
        lacking = ~inst.runs[kind]
        if not lacking.any():
            continue
        before = _reaching(common, base, lacking)
        after = _reached(common, base, lacking)
        name = inst.fleet.kinds[kind].name
        yield f"{name} lacks early", kahn(common, degrees, np.where(before, 0, inst.n) + rank)
        late = np.where(after, np.where(before, 1, 2), 0)
        yield f"{name} lacks late", kahn(common, degrees, late * float(inst.n) + rank)


def _reached(inst: Instance, order: IntArray, start: BoolArray) -> BoolArray:
    """Whether each node is one of some nodes or after one."""
    found = start.copy()
    for v in order.tolist():
        if not found[v]:
            producers = inst.net_prod[inst.in_net[inst.in_ptr[v] : inst.in_ptr[v + 1]]]
            found[v] = found[producers[producers >= 0]].any()
    return found


def _reaching(inst: Instance, order: IntArray, start: BoolArray) -> BoolArray:
    """Whether each node is one of some nodes or before one."""
    found = start.copy()
    for v in order[::-1].tolist():
        if found[v]:
            producers = inst.net_prod[inst.in_net[inst.in_ptr[v] : inst.in_ptr[v + 1]]]
            found[producers[producers >= 0]] = True
    return found
