"""What searches and proofs work on: an instance, and what is known of the graph behind it."""

from __future__ import annotations

from functools import cached_property

import numpy as np

from onnx_pipeline.graph.costgraph import IntArray
from onnx_pipeline.partition.incumbent import Incumbent
from onnx_pipeline.partition.instance.instance import Instance


class Task:
    """An instance of a graph, and the graph's incumbent in terms of the instance's nodes.

    Parameters
    ----------
    inst : Instance
    known : Incumbent
        Partitions and bounds of the graph that the instance was built from.
    """

    def __init__(self, inst: Instance, known: Incumbent) -> None:
        self.inst = inst
        self.known = known
        self.k = known.stages

    @property
    def upper(self) -> int:
        """Best bottleneck in nanoseconds."""
        return self.known.upper

    @property
    def lower(self) -> int:
        """Best bound in nanoseconds."""
        return self.known.lower

    @property
    def stage_of(self) -> IntArray:
        """Stages of the instance's nodes in the best partition."""
        return self.known.stage_of[self._first]

    @cached_property
    def _first(self) -> IntArray:
        """One original node of each node."""
        return np.unique(self.inst.node_of, return_index=True)[1]

    def offer(self, stage_of: IntArray, method: str) -> bool:
        """Take a partition of the instance if it is the best so far; return whether it was."""
        return self.known.offer(self.inst.expand(stage_of), method)
