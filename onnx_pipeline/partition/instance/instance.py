"""The partitioner's view of a cost graph: flat integer arrays, priced for one target."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from onnx_pipeline.graph.costgraph import HOST, BoolArray, IntArray


class Instance(NamedTuple):
    """A priced graph whose nodes may stand for sets of original nodes; kernels take it as it is.

    Attributes
    ----------
    work : int64[n]
        Nanoseconds per node.
    net_cost, net_prod, net_pin : int64[m], int64[m], bool[m]
        c(t) in nanoseconds, producer (``HOST`` = -1), and whether the host reads the tensor, in which
        case its outgoing side is paid by the producer's stage whatever the partition.
    net_ptr, net_cons : int64[m + 1], int64[p]
        Distinct consumers of each net, producer excluded.
    in_ptr, in_net, out_ptr, out_net : int64
        CSR: nets read and nets produced by each node.
    use_ptr, use_group : int64
        CSR: parameter groups used by each node; empty when memory is unlimited.
    group_bytes : int64[g]
    net_bytes : int64[m]
        Size of each tensor; zeros unless activations count.
    net_kept : bool[m]
        Whether the host reads the tensor, so that it lives to the end of its producer's stage.
    need : int64[n]
        Activation bytes that every stage with this node needs at least: those of its operands and results.
    usual : int64[n]
        Activation bytes live at this node when the whole graph runs in its own order: what a stage with this
        node usually needs. For searching only; it bounds nothing.
    memory, ns_per_byte : float
        M in bytes and 1 / B in nanoseconds per byte, negative for a hard limit.
    alpha : int
        Nanoseconds per non-empty stage.
    pin : int64[n]
        Stage that a node must be in, or -1.
    node_of : int64[n_original]
        Node of this instance that holds each original node.
    """

    work: IntArray
    net_cost: IntArray
    net_prod: IntArray
    net_pin: BoolArray
    net_ptr: IntArray
    net_cons: IntArray
    in_ptr: IntArray
    in_net: IntArray
    out_ptr: IntArray
    out_net: IntArray
    use_ptr: IntArray
    use_group: IntArray
    group_bytes: IntArray
    net_bytes: IntArray
    net_kept: BoolArray
    need: IntArray
    usual: IntArray
    memory: float
    ns_per_byte: float
    alpha: int
    pin: IntArray
    node_of: IntArray

    @property
    def n(self) -> int:
        """Number of nodes."""
        return len(self.work)

    @property
    def m(self) -> int:
        """Number of nets."""
        return len(self.net_cost)

    @property
    def total_work(self) -> int:
        """Sum of work in nanoseconds."""
        return int(self.work.sum())

    def edges(self) -> tuple[IntArray, IntArray]:
        """Return (producer, consumer) of every edge, nets from the host left out; pairs may repeat."""
        heads = np.repeat(self.net_prod, np.diff(self.net_ptr))
        inner = heads != HOST
        return heads[inner], self.net_cons[inner]

    def expand(self, stage_of: IntArray) -> IntArray:
        """Translate stages of this instance's nodes into stages of the original nodes."""
        return np.asarray(stage_of, dtype=np.int64)[self.node_of]
