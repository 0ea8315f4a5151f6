"""Node-anchored min-cut for fleets: whatever device holds v pays for the cheapest set that holds v there.

On a device of kind k that holds the nodes S, with one stage or several, load >= alpha_k + f_k(S), where
f_k(S) is work_k(S) + c_k(tensors that S pays for); see :mod:`onnx_pipeline.partition.bounds.mincut`. So

    T >= max over v of min over kinds k that can run v of (alpha_k + min { f_k(S) : v in S })

where no S holds a node that k cannot run, or one that is pinned to a device of another kind. It counts where
devices are many, and says nothing about balance.
"""

from __future__ import annotations

import numpy as np

from onnx_pipeline.graph.costgraph import BoolArray, IntArray
from onnx_pipeline.graph.target import INFEASIBLE
from onnx_pipeline.partition.bounds.mincut import cost_alone, network
from onnx_pipeline.partition.fleets.instance import FleetInstance
from onnx_pipeline.partition.instance.instance import Instance
from onnx_pipeline.stop import Stop, never


class _Cuts:
    """Cheapest sets around nodes on devices of one kind."""

    def __init__(self, inst: Instance, lacking: BoolArray) -> None:
        from ortools.graph.python import max_flow

        dear = int(inst.work[~lacking].sum()) + int(inst.net_cost.sum()) + 1
        inst = inst._replace(work=np.where(lacking, dear, inst.work))
        self.n, self.alpha = inst.n, inst.alpha
        #: What a node costs alone: no less than the cheapest set.
        self.alone = np.where(lacking, INFEASIBLE, inst.alpha + cost_alone(inst))
        self._sink, *arcs = network(inst)
        self._flow = max_flow.SimpleMaxFlow()
        self._flow.add_arcs_with_capacity(*arcs)

    def around(self, v: int) -> tuple[int, IntArray]:
        """Return what the cheapest set with a node costs, 0 where that is not known, and its nodes."""
        if self._flow.solve(v, self._sink) != self._flow.OPTIMAL:
            return 0, np.zeros(0, dtype=np.int64)
        side = np.asarray(self._flow.get_source_side_min_cut(), dtype=np.int64)
        return self.alpha + self._flow.optimal_flow(), side[side < self.n]


def mincut_fleet(inst: FleetInstance, stop: Stop = never, enough: int = INFEASIBLE) -> int:
    """Return the best bound over the anchors tried, in ticks; stopping early keeps it valid.

    Parameters
    ----------
    inst : FleetInstance
        Contracted only if devices hold one stage each.
    stop : Stop
        Checked between anchors.
    enough : int
        Stop once the bound reaches this value (a known placement).
    """
    if not inst.n:
        return 0
    pin, line = inst.kinds[0].pin, np.array(inst.fleet.devices)
    lacking = [~inst.runs[kind] | ((pin >= 0) & (line[pin] != kind)) for kind in inst.used]
    kinds = [_Cuts(inst.kinds[kind], each) for kind, each in zip(inst.used, lacking, strict=True)]
    alone = np.min([cuts.alone for cuts in kinds], axis=0)
    best = 0
    settled = np.zeros(inst.n, dtype=np.bool_)
    # A node whose own cost, or whose cheapest set, is no better than the best cannot raise the bound.
    for v in np.argsort(-alone, kind="stable").tolist():
        if alone[v] <= best or stop() or best >= enough:
            break
        if settled[v]:
            continue
        least = INFEASIBLE
        for cuts in sorted(kinds, key=lambda cuts: int(cuts.alone[v])):
            if cuts.alone[v] < INFEASIBLE:
                cost, side = cuts.around(v)
                least = min(least, cost)
                if least <= best:
                    settled[side] = True
                    break
        best = max(best, least)
    return best
