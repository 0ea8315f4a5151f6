"""Compressed lists: the members of many owners in two flat arrays."""

from __future__ import annotations

import numpy as np

from onnx_pipeline.graph.costgraph import IntArray


def member_lists(count: int, n: int, owner: IntArray, member: IntArray) -> list[IntArray]:
    """Sorted distinct members of each of ``count`` owners."""
    pairs = np.unique(owner.astype(np.int64) * n + member) if n else np.zeros(0, dtype=np.int64)
    owners, members = np.divmod(pairs, max(n, 1))
    return np.split(members, np.searchsorted(owners, np.arange(1, count))) if count else []


def flatten(lists: list[IntArray]) -> tuple[IntArray, IntArray]:
    """Concatenate lists into pointers and one flat array."""
    ptr = np.zeros(len(lists) + 1, dtype=np.int64)
    np.cumsum([len(x) for x in lists], out=ptr[1:])
    flat = np.concatenate(lists) if lists else np.zeros(0, dtype=np.int64)
    return ptr, flat.astype(np.int64)


def invert(n: int, keys: IntArray, values: IntArray) -> tuple[IntArray, IntArray]:
    """CSR of ``values`` grouped by ``keys`` in range(n), order kept."""
    order = np.argsort(keys, kind="stable")
    ptr = np.zeros(n + 1, dtype=np.int64)
    np.cumsum(np.bincount(keys, minlength=n), out=ptr[1:])
    return ptr, values[order].astype(np.int64)
