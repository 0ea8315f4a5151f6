"""Safe contraction: merge nodes that share a stage in some optimal partition.

Let N(u, v) be the nets of u read by v alone and not by the host ("unpinned"). cost() of a stage never
counts a net twice, so moving one node changes only its own terms.

**R1** (u into its only consumer v). Every net of u has no consumer but v. If

    w(u) + sum c(pinned nets of u without consumer) + sum c(p, p read by u and not by v) + r * new bytes
        <= sum c(N(u, v))

merge. *Proof.* Let stage(u) = a < b = stage(v); move u to b. Stage b gains w(u), the inputs of u it did
not receive, the host side of u's nets that v does not read and the overflow of u's parameters, and loses
c(N(u, v)); a pinned net that v reads was paid incoming and is now paid outgoing. Stage a loses w(u) and
c(N(u, v)) and gains at most the inputs of u produced in a that did not leave a before; those are not read
by v (v is outside a), so they are covered by the same inequality. Inputs produced before a already cross.
No other stage changes, u's producers are in stages <= a, and every cost in a and b is no larger.

**R2** (v into u when every input of v is from u or from the host). If

    w(v) + sum c(nets of v) + sum c(host inputs of v not read by u) + r * new bytes <= sum c(N(u, v))

merge. *Proof.* Move v from b to a. Stage a gains the left side at most and loses c(N(u, v)); nets of u that
others or the host also read keep leaving a. Stage b loses at least c(N(u, v)) and w(v) and gains at most
c(nets of v). Later consumers of v's nets receive them as before.

R2 with w(v) = 0 and no outputs is the rule that a free sink follows its producer, R1 with w(u) = 0 and no
inputs the rule that a free source follows its consumer. Neither merge closes a cycle: a path from u to v
that avoids the edge would need another consumer of u (R1) or another producer for v (R2).

Neither rule moves a pinned node. Memory: moving a node adds the parameter groups its new stage lacks and what
its activations need beyond those of the node it joins (where peak(S) is relaxed to the largest need of a
node), at most r = 1 / B per byte (rounded up) in the overflow form of the objective; with a hard limit it
must add none.
Several disjoint merges in one round are safe, because each condition mentions only its own pair and nets, and
merging other nodes leaves those as they are.
"""

from __future__ import annotations

import numpy as np

from onnx_pipeline.graph.target import INFEASIBLE
from onnx_pipeline.partition.instance.instance import Instance
from onnx_pipeline.partition.instance.quotient import quotient
from onnx_pipeline.partition.jit import inner, kernel
from onnx_pipeline.stop import Stop, never


def contract(inst: Instance, stop: Stop = never) -> Instance:
    """Apply R1 and R2 until nothing changes; the optimum stays what it was.

    Parameters
    ----------
    inst : Instance
    stop : Stop
        Checked before every round; a round merges disjoint pairs, so chains of length L need about log2(L).
    """
    while not stop():
        label = _find_merges(inst)
        if (label == np.arange(inst.n)).all():
            break
        inst = quotient(inst, label)
    return inst


@inner
def _new_overflow(g, u, v):  # type: ignore[no-untyped-def]
    """Upper bound on the overflow that v's stage gains when u joins it."""
    use_ptr, use_group = g.use_ptr, g.use_group
    extra = max(0, g.need[u] - g.need[v])
    for a in range(use_ptr[u], use_ptr[u + 1]):
        shared = False
        for b in range(use_ptr[v], use_ptr[v + 1]):
            if use_group[a] == use_group[b]:
                shared = True
        if not shared:
            extra += g.group_bytes[use_group[a]]
    if extra == 0:
        return np.int64(0)
    return np.int64(np.ceil(extra * g.ns_per_byte)) if g.ns_per_byte >= 0 else np.int64(INFEASIBLE)


@kernel
def _find_merges(g):  # type: ignore[no-untyped-def]
    """Label of each node after one round of disjoint merges."""
    work, cost, prod, pin, ptr, cons = g.work, g.net_cost, g.net_prod, g.net_pin, g.net_ptr, g.net_cons
    in_ptr, in_net, out_ptr, out_net = g.in_ptr, g.in_net, g.out_ptr, g.out_net
    n = work.shape[0]
    label = np.arange(n)
    touched = np.zeros(n, np.bool_)
    for x in range(n):
        # Only x moves, so only x must be free to move.
        if touched[x] or g.pin[x] >= 0:
            continue
        # R1: x is the producer u.
        v = np.int64(-1)
        for o in range(out_ptr[x], out_ptr[x + 1]):
            t = out_net[o]
            for c in range(ptr[t], ptr[t + 1]):
                if v == -1:
                    v = cons[c]
                elif cons[c] != v:
                    v = np.int64(-2)
                if v == -2:
                    break
            if v == -2:
                break
        if v >= 0 and not touched[v]:
            saved = np.int64(0)
            paid = work[x] + _new_overflow(g, x, v)
            for o in range(out_ptr[x], out_ptr[x + 1]):
                t = out_net[o]
                if not pin[t]:
                    saved += cost[t]
                elif ptr[t + 1] == ptr[t]:
                    paid += cost[t]
            for e in range(in_ptr[x], in_ptr[x + 1]):
                t = in_net[e]
                shared = False
                for c in range(ptr[t], ptr[t + 1]):
                    shared = shared or cons[c] == v
                if not shared:
                    paid += cost[t]
            if paid <= saved:
                label[x] = v
                touched[x] = touched[v] = True
                continue
        # R2: x is the consumer v.
        u = np.int64(-1)
        for e in range(in_ptr[x], in_ptr[x + 1]):
            p = prod[in_net[e]]
            if p >= 0:
                if u == -1:
                    u = p
                elif u != p:
                    u = np.int64(-2)
                    break
        if u >= 0 and not touched[u]:
            saved = np.int64(0)
            paid = work[x] + _new_overflow(g, x, u)
            for o in range(out_ptr[x], out_ptr[x + 1]):
                paid += cost[out_net[o]]
            for e in range(in_ptr[x], in_ptr[x + 1]):
                t = in_net[e]
                if prod[t] == u:
                    if ptr[t + 1] - ptr[t] == 1 and not pin[t]:
                        saved += cost[t]
                else:
                    shared = False
                    for c in range(ptr[t], ptr[t + 1]):
                        shared = shared or cons[c] == u
                    if not shared:
                        paid += cost[t]
            if paid <= saved:
                label[x] = u
                touched[x] = touched[u] = True
    return label
