"""The objective as a hypergraph cut, for the exact search.

Forget who produces a tensor: with members = {producer} + consumers, a stage S pays c(t) exactly when S holds
some but not all members, or, for a tensor that the host writes or reads ("always"), when S holds any member.

**Free sources.** A node f without work, inputs, parameters and pin that produces one tensor the host does not
read sits, in some optimal partition, in the stage of that tensor's first reader: moving it there from an
earlier stage takes c(t) off its old stage and turns the incoming c(t) of its new stage into an outgoing one
or into nothing. Its tensor is among what the reader needs live already. So f is dropped from the search and
the members of its net are the readers alone.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from onnx_pipeline.graph.costgraph import HOST, BoolArray, IntArray
from onnx_pipeline.partition.instance.csr import flatten, invert
from onnx_pipeline.partition.instance.instance import Instance


class Hypergraph(NamedTuple):
    """Arrays that the exact search runs on; nodes are those of the instance without free sources."""

    work: IntArray  # [n]
    cost: IntArray  # [m] c(t) in nanoseconds
    rest_work: IntArray  # [n] what later stages pay for a node at least; the same unless devices differ
    rest_cost: IntArray  # [m] and for a tensor
    always: BoolArray  # [m] paid by every stage that touches it
    net_ptr: IntArray  # [m + 1]
    members: IntArray  # [p]
    node_ptr: IntArray  # [n + 1]
    node_net: IntArray  # [p]
    pred_ptr: IntArray  # [n + 1]
    pred: IntArray
    succ_ptr: IntArray  # [n + 1]
    succ: IntArray
    use_ptr: IntArray  # [n + 1]
    use_group: IntArray
    group_bytes: IntArray
    group_users: IntArray  # [g] number of users of each group
    need: IntArray  # [n] a stage's activations take the largest of these
    pin: IntArray  # [n] stage that a node must be in, or -1
    memory: float
    ns_per_byte: float
    alpha: int


def hypergraph(
    inst: Instance, *, reverse: bool = False, whole: bool = False, free: BoolArray | None = None
) -> tuple[Hypergraph, IntArray]:
    """Build the hypergraph of an instance.

    Parameters
    ----------
    inst : Instance
    reverse : bool
        Turn every precedence around: the objective stays the same, the search starts from the sinks.
    whole : bool
        Keep free sources: one may have a stage of its own.
    free : bool[n of inst], optional
        Which free sources to leave out, if not all.

    Returns
    -------
    Hypergraph
    int64[n of inst]
        Node of the hypergraph for each instance node, -1 for a free source.
    """
    if free is None:
        free = np.zeros(inst.n, dtype=np.bool_) if whole else free_sources(inst)
    index = np.full(inst.n, -1, dtype=np.int64)
    index[~free] = np.arange(int((~free).sum()))
    n = int((~free).sum())
    nets, members = _members(inst, free)
    net_ptr, flat = flatten([np.sort(index[each]) for each in members])
    node_ptr, node_net = invert(n, flat, np.repeat(np.arange(len(nets)), np.diff(net_ptr)))
    heads, tails = inst.edges()
    kept = ~free[heads]
    pairs = np.unique(index[heads[kept]] * max(n, 1) + index[tails[kept]])
    before, after = np.divmod(pairs, max(n, 1))
    if reverse:
        before, after = after, before
    pred_ptr, pred = invert(n, after, before)
    succ_ptr, succ = invert(n, before, after)
    users = np.repeat(np.arange(inst.n), np.diff(inst.use_ptr))
    use_ptr, use_group = invert(n, index[users], inst.use_group)
    groups = len(inst.group_bytes)
    return (
        Hypergraph(
            work=inst.work[~free],
            cost=inst.net_cost[nets],
            rest_work=inst.work[~free],
            rest_cost=inst.net_cost[nets],
            always=inst.net_pin[nets] | (inst.net_prod[nets] == HOST),
            net_ptr=net_ptr,
            members=flat,
            node_ptr=node_ptr,
            node_net=node_net,
            pred_ptr=pred_ptr,
            pred=pred,
            succ_ptr=succ_ptr,
            succ=succ,
            use_ptr=use_ptr,
            use_group=use_group,
            group_bytes=inst.group_bytes,
            group_users=np.bincount(inst.use_group, minlength=groups).astype(np.int64),
            need=inst.need[~free],
            pin=inst.pin[~free],
            memory=inst.memory,
            ns_per_byte=inst.ns_per_byte,
            alpha=inst.alpha,
        ),
        index,
    )


def _members(inst: Instance, free: BoolArray) -> tuple[IntArray, list[IntArray]]:
    """Return the nets that some stage may pay for, and the instance's nodes that each of them holds."""
    nets: list[int] = []
    members: list[IntArray] = []
    for t in np.flatnonzero(inst.net_cost).tolist():
        each = inst.net_cons[inst.net_ptr[t] : inst.net_ptr[t + 1]]
        producer = inst.net_prod[t]
        if producer != HOST and not free[producer]:
            each = np.append(each, producer)
        if len(each) > 1 or inst.net_pin[t] or producer == HOST:
            nets.append(t)
            members.append(each)
    return np.array(nets, dtype=np.int64), members


def place_free_sources(inst: Instance, index: IntArray, stage: IntArray) -> IntArray:
    """Stages of all instance nodes, free sources with their first reader."""
    out = np.empty(inst.n, dtype=np.int64)
    out[index >= 0] = stage[index[index >= 0]]
    for v in np.flatnonzero(index < 0):
        t = inst.out_net[inst.out_ptr[v]]
        out[v] = out[inst.net_cons[inst.net_ptr[t] : inst.net_ptr[t + 1]]].min()
    return out


def free_sources(inst: Instance) -> BoolArray:
    """Return which nodes are free sources."""
    free: BoolArray = np.asarray(
        (inst.work == 0)
        & (np.diff(inst.in_ptr) == 0)
        & (np.diff(inst.out_ptr) == 1)
        & (np.diff(inst.use_ptr) == 0)
        & (inst.pin < 0),
        dtype=np.bool_,
    )
    for v in np.flatnonzero(free):
        t = inst.out_net[inst.out_ptr[v]]
        free[v] = not inst.net_pin[t] and inst.net_ptr[t + 1] > inst.net_ptr[t]
    return free
