"""Node-anchored min-cut: the stage that holds v costs at least the cheapest set that holds v.

For a set S let f(S) = work(S) + c(tensors that S pays for), without overflow. f is a hypergraph cut plus a
modular term, so min { f(S) : v in S } is one minimum cut; alpha + the maximum over v is a lower bound on the
bottleneck, whatever k is. It is often exactly tight when k is large and useless when load balance is the
limit.

Network: the source is v itself; u -> sink carries work(u). An unpinned tensor costs c when its members
(producer and consumers) are on both sides; a tensor of the host, or one that the host reads, costs c as
soon as one member is in S.

References
----------
Lawler, *Cutsets and partitions of hypergraphs*, Networks 1973 (hyperedges as pairs of auxiliary nodes).
"""

from __future__ import annotations

import numpy as np

from onnx_pipeline.graph.costgraph import HOST, IntArray
from onnx_pipeline.partition.instance.instance import Instance
from onnx_pipeline.stop import Stop, never


def mincut(inst: Instance, stop: Stop = never, enough: int | None = None) -> int:
    """Return the best bound over the anchors tried, in nanoseconds; stopping early keeps it valid.

    Parameters
    ----------
    inst : Instance
    stop : Stop
        Checked between anchors.
    enough : int, optional
        Stop once the bound reaches this value (a known bottleneck).
    """
    from ortools.graph.python import max_flow

    if not inst.n:
        return 0
    sink, tails, heads, capacity = network(inst)
    flow = max_flow.SimpleMaxFlow()
    flow.add_arcs_with_capacity(tails, heads, capacity)
    alone = cost_alone(inst)
    best = 0
    settled = np.zeros(inst.n, dtype=np.bool_)
    # A node whose own cost, or whose cheapest set, is no better than the best cannot raise the bound.
    for v in np.argsort(-alone, kind="stable"):
        if alone[v] <= best or stop() or (enough is not None and inst.alpha + best >= enough):
            break
        if settled[v]:
            continue
        if flow.solve(int(v), sink) != flow.OPTIMAL:
            continue
        best = max(best, flow.optimal_flow())
        side = np.asarray(flow.get_source_side_min_cut(), dtype=np.int64)
        settled[side[side < inst.n]] = True
    return inst.alpha + best


def cost_alone(inst: Instance) -> IntArray:
    """f({v}) of every node."""
    cost = inst.work.copy()
    np.add.at(cost, np.repeat(np.arange(inst.n), np.diff(inst.in_ptr)), inst.net_cost[inst.in_net])
    np.add.at(cost, np.repeat(np.arange(inst.n), np.diff(inst.out_ptr)), inst.net_cost[inst.out_net])
    return cost


def network(inst: Instance) -> tuple[int, IntArray, IntArray, IntArray]:
    """Sink, and the arcs' tails, heads and capacities; nodes 0..n-1 are the instance's."""
    infinite = inst.total_work + int(inst.net_cost.sum()) + 1
    sink = inst.n
    fresh = sink + 1
    arcs: list[tuple[int, int, int]] = [(v, sink, int(inst.work[v])) for v in range(inst.n)]
    for t in range(inst.m):
        cost, producer = int(inst.net_cost[t]), int(inst.net_prod[t])
        members = [int(v) for v in inst.net_cons[inst.net_ptr[t] : inst.net_ptr[t + 1]]]
        if producer != HOST:
            members.append(producer)
        if not cost:
            continue
        if producer == HOST or inst.net_pin[t]:
            arcs += [(v, fresh, infinite) for v in members]
            arcs.append((fresh, sink, cost))
            fresh += 1
        elif len(members) == 2:
            arcs += [(members[0], members[1], cost), (members[1], members[0], cost)]
        else:
            arcs += [(v, fresh, infinite) for v in members]
            arcs.append((fresh, fresh + 1, cost))
            arcs += [(fresh + 1, v, infinite) for v in members]
            fresh += 2
    table = np.array(arcs, dtype=np.int64).reshape(-1, 3)
    return sink, table[:, 0].copy(), table[:, 1].copy(), table[:, 2].copy()
