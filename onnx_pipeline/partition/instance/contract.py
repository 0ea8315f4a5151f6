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

**Devices that differ.** Stages a and b may be on devices of different kinds, with works, transfer costs and
memory of their own, and a node runs on some kinds only. The proofs give each stage an inequality in the
figures of its own device:

* the stage that x joins pays no more: the inequality of the rule, as it stands (``JOINS``);
* the stage that x leaves pays no more: in R1 what it gains, inputs of u that v does not read, is at most
  w(u) + c(N(u, v)); in R2 c(nets of v) is at most w(v) + c(N(u, v)) (``LEAVES``).

Where x joins a stage with y, that stage may be of every kind that runs y, and the one it leaves of every kind
that runs x. So a merge is safe if JOINS holds for all kinds that run y and LEAVES for all that run x. A kind
that cannot run x fails JOINS, its work being infinite: the merged node runs wherever y did, and no feasible
placement is lost. Stages keep their devices, so the order of devices does not matter, whether it is fixed or
not. On devices that are alike JOINS implies LEAVES, and the rules are those above.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from onnx_pipeline.graph.costgraph import IntArray
from onnx_pipeline.graph.target import INFEASIBLE
from onnx_pipeline.partition.instance.instance import Instance
from onnx_pipeline.partition.instance.quotient import quotient
from onnx_pipeline.partition.jit import inner, kernel
from onnx_pipeline.stop import Stop, never

#: What the rules say of a move: the stage that it leaves pays no more, and neither does the one it joins.
LEAVES, JOINS = 1, 2


class Moves(NamedTuple):
    """For every node, what it could join, and which stages would not pay more: ``LEAVES`` + ``JOINS``."""

    consumer: IntArray  # [n] R1: the only consumer, -1 if there is none
    forward: IntArray  # [n]
    producer: IntArray  # [n] R2: the only producer, -1 if there is none
    backward: IntArray  # [n]


def contract(inst: Instance, stop: Stop = never) -> Instance:
    """Apply R1 and R2 until nothing changes; the optimum stays what it was.

    Parameters
    ----------
    inst : Instance
    stop : Stop
        Checked before every round; a round merges disjoint pairs, so chains of length L need about log2(L).
    """
    while not stop():
        moves = safe_moves(inst)
        label = disjoint_merges(moves.consumer, moves.forward, moves.producer, moves.backward)
        if (label == np.arange(inst.n)).all():
            break
        inst = quotient(inst, label)
    return inst


def safe_moves(inst: Instance) -> Moves:
    """Judge the move of every node."""
    return Moves(*_judge(inst))


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
def _judge(g):  # type: ignore[no-untyped-def]
    """Fields of :class:`Moves`; a kernel that returned the tuple itself would call Python."""
    n = g.work.shape[0]
    consumer, producer = np.full(n, -1, np.int64), np.full(n, -1, np.int64)
    forward, backward = np.zeros(n, np.int64), np.zeros(n, np.int64)
    for x in range(n):
        if g.pin[x] >= 0:  # only x moves, so only x must be free to move
            continue
        consumer[x], producer[x] = _only_consumer(g, x), _only_producer(g, x)
        if consumer[x] >= 0:
            forward[x] = _forward(g, x, consumer[x])
        if producer[x] >= 0:
            backward[x] = _backward(g, x, producer[x])
    return consumer, forward, producer, backward


@inner
def _only_consumer(g, x):  # type: ignore[no-untyped-def]
    """Return the node that alone reads what x makes; negative if there is none."""
    v = np.int64(-1)
    for o in range(g.out_ptr[x], g.out_ptr[x + 1]):
        t = g.out_net[o]
        for c in range(g.net_ptr[t], g.net_ptr[t + 1]):
            if v == -1:
                v = g.net_cons[c]
            elif g.net_cons[c] != v:
                return np.int64(-2)
    return v


@inner
def _only_producer(g, x):  # type: ignore[no-untyped-def]
    """Return the node that makes all that x reads, but for the host; negative if there is none."""
    u = np.int64(-1)
    for e in range(g.in_ptr[x], g.in_ptr[x + 1]):
        p = g.net_prod[g.in_net[e]]
        if p >= 0:
            if u == -1:
                u = p
            elif u != p:
                return np.int64(-2)
    return u


@inner
def _reads(g, v, t):  # type: ignore[no-untyped-def]
    """Whether v reads net t."""
    found = False
    for c in range(g.net_ptr[t], g.net_ptr[t + 1]):
        found = found or g.net_cons[c] == v
    return found


@inner
def _forward(g, u, v):  # type: ignore[no-untyped-def]
    """R1: u moves to its only consumer v."""
    saved = unread = inputs = np.int64(0)
    for o in range(g.out_ptr[u], g.out_ptr[u + 1]):
        t = g.out_net[o]
        if not g.net_pin[t]:
            saved += g.net_cost[t]
        elif g.net_ptr[t + 1] == g.net_ptr[t]:
            unread += g.net_cost[t]
    for e in range(g.in_ptr[u], g.in_ptr[u + 1]):
        t = g.in_net[e]
        if not _reads(g, v, t):
            inputs += g.net_cost[t]
    joins = g.work[u] + _new_overflow(g, u, v) + unread + inputs <= saved
    leaves = inputs <= g.work[u] + saved
    return LEAVES * leaves + JOINS * joins


@inner
def _backward(g, v, u):  # type: ignore[no-untyped-def]
    """R2: v moves to its only producer u."""
    saved = made = inputs = np.int64(0)
    for o in range(g.out_ptr[v], g.out_ptr[v + 1]):
        made += g.net_cost[g.out_net[o]]
    for e in range(g.in_ptr[v], g.in_ptr[v + 1]):
        t = g.in_net[e]
        if g.net_prod[t] == u:
            if g.net_ptr[t + 1] - g.net_ptr[t] == 1 and not g.net_pin[t]:
                saved += g.net_cost[t]
        elif not _reads(g, u, t):
            inputs += g.net_cost[t]
    joins = g.work[v] + _new_overflow(g, v, u) + made + inputs <= saved
    leaves = made <= g.work[v] + saved
    return LEAVES * leaves + JOINS * joins


@kernel
def disjoint_merges(consumer, forward, producer, backward):  # type: ignore[no-untyped-def]
    """Label of each node after one round of disjoint merges, of moves with both bits."""
    n = consumer.shape[0]
    label = np.arange(n)
    touched = np.zeros(n, np.bool_)
    for x in range(n):
        v, u = consumer[x], producer[x]
        if touched[x]:
            continue
        if forward[x] == LEAVES + JOINS and not touched[v]:
            label[x] = v
            touched[x] = touched[v] = True
        elif backward[x] == LEAVES + JOINS and not touched[u]:
            label[x] = u
            touched[x] = touched[u] = True
    return label
