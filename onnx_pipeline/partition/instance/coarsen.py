"""Coarsening for graphs far above a thousand nodes: merge runs of one order, cut where little is live.

Slicing costs about n^2 / k per pass. On a large graph the order is first divided into runs of about equal
work whose borders lie where the fewest bytes cross; the runs become the nodes of a coarse instance, whose
slices are slices of the original order. Annealing then moves single nodes of the full instance.
"""

from __future__ import annotations

import numpy as np

from onnx_pipeline.graph.costgraph import IntArray
from onnx_pipeline.partition.instance.instance import Instance
from onnx_pipeline.partition.instance.quotient import quotient
from onnx_pipeline.partition.jit import kernel

#: Instances above this size are coarsened to about this many runs.
RUNS = 2_500


@kernel
def live_after(g, order):  # type: ignore[no-untyped-def]
    """Sum of c over tensors that cross a cut right after each position; int64[n]."""
    n = order.shape[0]
    pos = np.empty(n, np.int64)
    for j in range(n):
        pos[order[j]] = j
    change = np.zeros(n + 1, np.int64)
    for t in range(g.net_cost.shape[0]):
        if g.net_prod[t] < 0:
            continue
        last = pos[g.net_prod[t]]
        change[last] += g.net_cost[t]
        for c in range(g.net_ptr[t], g.net_ptr[t + 1]):
            last = max(last, pos[g.net_cons[c]])
        change[last] -= g.net_cost[t]
    live = np.empty(n, np.int64)
    total = np.int64(0)
    for j in range(n):
        total += change[j]
        live[j] = total
    return live


def coarsen(inst: Instance, order: IntArray, runs: int = RUNS) -> Instance:
    """Merge the order into about ``runs`` runs; node i of the result is the i-th run.

    Parameters
    ----------
    inst : Instance
    order : int64[n]
        Topological order of the instance's nodes.
    runs : int

    Returns
    -------
    Instance
        Its own order is 0, 1, 2, ...
    """
    return quotient(inst, run_labels(inst, order, runs))


def run_labels(inst: Instance, order: IntArray, runs: int = RUNS, breaks: IntArray | None = None) -> IntArray:
    """Return the number of its run for every node.

    Parameters
    ----------
    inst : Instance
    order : int64[n]
        Topological order of the instance's nodes.
    runs : int
    breaks : int64, optional
        Positions at which runs must begin, too.
    """
    live = live_after(inst, order)
    block = np.cumsum(inst.work[order] + 1) * runs // (int(inst.total_work) + inst.n + 1)
    starts = np.flatnonzero(np.diff(block, prepend=-1))
    # The best border of each block: after the position where the least is live.
    ends = np.append(starts[1:], inst.n)
    cuts = np.array([a + int(live[a:b].argmin()) for a, b in zip(starts, ends, strict=True)])
    run = np.zeros(inst.n, dtype=np.int64)
    run[cuts[cuts + 1 < inst.n] + 1] = 1
    # A pinned node stays alone, so that no run holds two pins.
    pinned = np.flatnonzero(inst.pin[order] >= 0)
    run[pinned] = 1
    run[pinned[pinned + 1 < inst.n] + 1] = 1
    if breaks is not None:
        run[breaks] = 1
    label = np.empty(inst.n, dtype=np.int64)
    label[order] = np.cumsum(run)
    return label
