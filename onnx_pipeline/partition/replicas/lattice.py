"""Narrow graphs: all ideals in a list.

Real models are mostly chains of blocks and have a few thousand ideals, fewer than a search meets while it
decides one question after the other for every number of devices. Here they are listed once, with numbers from
which :mod:`onnx_pipeline.partition.replicas.between` tells what a stage between two of them costs.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from onnx_pipeline.graph.costgraph import IntArray
from onnx_pipeline.partition.ideals.state import INSIDE_WORK, LIVE, NEEDED, load, new_state
from onnx_pipeline.partition.ideals.table import WordArray, find, insert, new_table, prepare
from onnx_pipeline.partition.instance.hypergraph import Hypergraph
from onnx_pipeline.partition.jit import inner, kernel

#: Most ideals, and most members of nets and users of groups counted with all of them.
IDEALS, ENTRIES = 4_000, 1 << 24


class Lattice(NamedTuple):
    """All ideals, small ones first; ``shut`` and ``open`` are explained in ``between``."""

    words: WordArray  # [count, words]
    below_ptr: IntArray  # [count + 1]
    below_node: IntArray  # nodes of each ideal without successor in it
    below: IntArray  # the ideal without that node
    inside: npt.NDArray[np.int16]  # [count, m] members of each net
    users: npt.NDArray[np.int16]  # [count, g] users of each group
    shut: IntArray  # [count]
    open: IntArray  # [count]
    touched: IntArray  # [count] bytes of the groups with a user inside
    finished: IntArray  # [count] bytes of the groups without a user outside
    rest: IntArray  # [count] what the stages after the ideal pay together at least, alpha once
    needed: IntArray  # [count] bytes that they hold together at least


@inner
def holds(ideal, v):  # type: ignore[no-untyped-def]
    """Whether node v is in an ideal; nonzero where it is."""
    return ideal[v >> 6] >> np.uint64(v & 63) & np.uint64(1)


@inner
def _flip(ideal, v):  # type: ignore[no-untyped-def]
    ideal[v >> 6] ^= np.uint64(1) << np.uint64(v & 63)


@kernel
def _list(h, static, table, s):  # type: ignore[no-untyped-def]
    """Fill the table with all ideals, small ones first; return their number and that of their maximal nodes.

    Where the table is too small, the first number is 0.
    """
    count, edges, at = 1, 0, 0
    while at < count:
        load(h, s, table.ideals[at])
        for v in range(h.work.shape[0]):
            if s.waiting[v] == 0 and not holds(s.current, v):
                _flip(s.current, v)
                key = table.keys[at] ^ static.zobrist[v]
                if table.slots[find(table, s.current, key)] < 0:
                    if count == table.keys.shape[0]:
                        return 0, 0
                    insert(table, count, s.current, key, at, 0, 0)
                    count += 1
                _flip(s.current, v)
                edges += 1
        at += 1
    return count, edges


@kernel
def _describe(h, static, table, s, lattice):  # type: ignore[no-untyped-def]
    """Fill a lattice from the listed ideals."""
    n, edges, total = h.work.shape[0], 0, np.int64(0)
    for v in range(n):
        total += h.work[v]
    for i in range(lattice.shut.shape[0]):
        load(h, s, table.ideals[i])
        lattice.rest[i] = h.alpha + total - s.x[INSIDE_WORK] + s.x[LIVE]
        lattice.needed[i] = s.x[NEEDED]
        lattice.shut[i], lattice.open[i] = h.alpha + s.x[INSIDE_WORK], s.x[INSIDE_WORK]
        for t in range(h.cost.shape[0]):
            lattice.inside[i, t] = s.in_j[t]
            whole = s.in_j[t] == h.net_ptr[t + 1] - h.net_ptr[t]
            if s.in_j[t] > 0 and (h.always[t] or not whole):
                lattice.shut[i] += h.cost[t]
            if whole and h.always[t]:
                lattice.open[i] += h.cost[t]
        for g in range(h.group_bytes.shape[0]):
            lattice.users[i, g] = s.used_j[g]
            if s.used_j[g] > 0:
                lattice.touched[i] += h.group_bytes[g]
                if s.used_j[g] == h.group_users[g]:
                    lattice.finished[i] += h.group_bytes[g]
        lattice.below_ptr[i] = edges
        for v in range(n):
            if not holds(s.current, v):
                continue
            last = True
            for a in range(h.succ_ptr[v], h.succ_ptr[v + 1]):
                last = last and not holds(s.current, h.succ[a])
            if last:
                _flip(s.current, v)
                lattice.below_node[edges] = v
                lattice.below[edges] = table.slots[find(table, s.current, table.keys[i] ^ static.zobrist[v])]
                _flip(s.current, v)
                edges += 1
    lattice.below_ptr[lattice.shut.shape[0]] = edges


def list_ideals(hyper: Hypergraph) -> Lattice | None:
    """Return the lattice of a hypergraph of at most 32,767 nodes, or None if it has too many ideals."""
    kept = len(hyper.cost) + len(hyper.group_bytes)
    static = prepare(hyper)
    table = new_table(static.words, min(IDEALS, ENTRIES // (kept + 1)))
    state = new_state(hyper, static.words)
    count, edges = _list(hyper, static, table, state)
    if not count:
        return None

    def ints(size: int) -> IntArray:
        return np.zeros(size, dtype=np.int64)

    lattice = Lattice(
        table.ideals[:count], ints(count + 1), ints(edges), ints(edges),
        np.zeros((count, len(hyper.cost)), dtype=np.int16),
        np.zeros((count, len(hyper.group_bytes)), dtype=np.int16),
        *(ints(count) for _ in range(6)),
    )  # fmt: skip
    _describe(hyper, static, table, state, lattice)
    return lattice
