"""Visited ideals: what is precomputed once per hypergraph, and a hash table of bitsets."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from onnx_pipeline.graph.costgraph import IntArray
from onnx_pipeline.partition.instance.hypergraph import Hypergraph
from onnx_pipeline.partition.jit import inner, kernel

WordArray = npt.NDArray[np.uint64]


class Static(NamedTuple):
    """What the search precomputes once per hypergraph."""

    words: int
    desc: WordArray  # [n, words] descendants, the node included
    word_work: IntArray  # [n, words] work of the descendants in each word
    desc_work: IntArray  # [n]
    rank: IntArray  # [n] position among available nodes: most work below first
    zobrist: WordArray  # [n]


class Table(NamedTuple):
    """Visited ideals and the hash table over them; ``count`` and friends live in ``counters``."""

    ideals: WordArray  # [capacity, words]
    keys: WordArray  # [capacity] Zobrist hashes
    parent: IntArray  # [capacity]
    slots: IntArray  # [2 * capacity, power of two] index or -1
    score: IntArray  # [capacity] work inside minus live, for the beam
    level: IntArray  # [capacity] stage that led to the ideal


@inner
def lowest_bit(low):  # type: ignore[no-untyped-def]
    """Index of the only bit of a word."""
    i = 0
    if low & np.uint64(0xFFFFFFFF00000000):
        i += 32
    if low & np.uint64(0xFFFF0000FFFF0000):
        i += 16
    if low & np.uint64(0xFF00FF00FF00FF00):
        i += 8
    if low & np.uint64(0xF0F0F0F0F0F0F0F0):
        i += 4
    if low & np.uint64(0xCCCCCCCCCCCCCCCC):
        i += 2
    if low & np.uint64(0xAAAAAAAAAAAAAAAA):
        i += 1
    return i


@kernel
def _descendants(h, order, words):  # type: ignore[no-untyped-def]
    n = h.work.shape[0]
    desc = np.zeros((n, words), np.uint64)
    word_work = np.zeros((n, words), np.int64)
    for i in range(n - 1, -1, -1):
        v = order[i]
        desc[v, v >> 6] |= np.uint64(1) << np.uint64(v & 63)
        for a in range(h.succ_ptr[v], h.succ_ptr[v + 1]):
            for w in range(words):
                desc[v, w] |= desc[h.succ[a], w]
        for w in range(words):
            x = desc[v, w]
            while x:
                low = x & (~x + np.uint64(1))
                word_work[v, w] += h.rest_work[(w << 6) + lowest_bit(low)]
                x ^= low
    return desc, word_work


@kernel
def _topological(h):  # type: ignore[no-untyped-def]
    n = h.work.shape[0]
    waiting, order = np.empty(n, np.int64), np.empty(n, np.int64)
    for v in range(n):
        waiting[v] = h.pred_ptr[v + 1] - h.pred_ptr[v]
    size = 0
    for v in range(n):
        if waiting[v] == 0:
            order[size] = v
            size += 1
    done = 0
    while done < size:
        v = order[done]
        done += 1
        for a in range(h.succ_ptr[v], h.succ_ptr[v + 1]):
            waiting[h.succ[a]] -= 1
            if waiting[h.succ[a]] == 0:
                order[size] = h.succ[a]
                size += 1
    return order


def prepare(h: Hypergraph) -> Static:
    """Precompute descendants and hashes; O(n^2 / 64) words of memory."""
    n = len(h.work)
    words = max(1, -(-n // 64))
    desc, word_work = _descendants(h, _topological(h), words)
    desc_work = word_work.sum(axis=1)
    rank = np.empty(n, dtype=np.int64)
    rank[np.argsort(-desc_work, kind="stable")] = np.arange(n)
    zobrist = np.random.default_rng(0).integers(1, 2**63, n, dtype=np.uint64)
    return Static(words, desc, word_work, desc_work, rank, zobrist)


def new_table(words: int, capacity: int) -> Table:
    """Return an empty table that holds the empty ideal."""
    slots = 1 << int(2 * capacity - 1).bit_length()
    table = Table(
        np.zeros((capacity, words), dtype=np.uint64),
        np.zeros(capacity, dtype=np.uint64),
        np.full(capacity, -1, dtype=np.int64),
        np.full(slots, -1, dtype=np.int64),
        np.zeros(capacity, dtype=np.int64),
        np.zeros(capacity, dtype=np.int64),
    )
    table.slots[0] = 0
    return table


def grow(table: Table, count: int) -> Table:
    """Return a table of twice the capacity with the same ideals."""
    bigger = new_table(table.ideals.shape[1], 2 * len(table.keys))
    for old, new in ((table.ideals, bigger.ideals), (table.keys, bigger.keys), (table.parent, bigger.parent)):
        new[:count] = old[:count]
    bigger.score[:count] = table.score[:count]
    bigger.level[:count] = table.level[:count]
    bigger.slots[:] = -1
    rehash(bigger, count)
    return bigger


@kernel
def rehash(table, count):  # type: ignore[no-untyped-def]
    """Enter the first ``count`` ideals into empty slots."""
    mask = np.uint64(table.slots.shape[0] - 1)
    for i in range(count):
        s = np.int64(table.keys[i] & mask)
        while table.slots[s] >= 0:
            s = (s + 1) & np.int64(mask)
        table.slots[s] = i


@inner
def find(table, current, key):  # type: ignore[no-untyped-def]
    """Slot of an ideal: it holds the ideal's index, or a negative number where the ideal is new."""
    mask = np.int64(table.slots.shape[0] - 1)
    s = np.int64(key & np.uint64(mask))
    while True:
        i = table.slots[s]
        if i < 0:
            return s
        if table.keys[i] == key:
            same = True
            for w in range(current.shape[0]):
                if table.ideals[i, w] != current[w]:
                    same = False
                    break
            if same:
                return s
        s = (s + 1) & mask


@inner
def insert(table, count, current, key, parent, score, level):  # type: ignore[no-untyped-def]
    """Add an ideal unless it is there; return whether it was new."""
    s = find(table, current, key)
    if table.slots[s] >= 0:
        return False
    table.slots[s] = count
    for w in range(current.shape[0]):
        table.ideals[count, w] = current[w]
    table.keys[count] = key
    table.parent[count] = parent
    table.score[count] = score
    table.level[count] = level
    return True
