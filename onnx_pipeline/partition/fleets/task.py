"""What searches on a fleet work on: an instance, and what is known of the graph behind it."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

import numpy as np

from onnx_pipeline.graph.costgraph import IntArray
from onnx_pipeline.partition.fleets.instance import FleetInstance
from onnx_pipeline.partition.fleets.known import FleetKnown


class FleetTask:
    """An instance of a graph, and the graph's best placement in terms of the instance's nodes.

    Parameters
    ----------
    inst : FleetInstance
    known : FleetKnown
        Placements and bounds of the graph that the instance was built from.
    """

    def __init__(self, inst: FleetInstance, known: FleetKnown) -> None:
        self.inst, self.known = inst, known

    @property
    def upper(self) -> int:
        """Largest load of the best placement in ticks; ``INFEASIBLE`` before the first."""
        return self.known.upper

    @property
    def lower(self) -> int:
        """Best bound in ticks."""
        return self.known.lower

    @property
    def stage_of(self) -> IntArray:
        """Stages of the instance's nodes in the best placement."""
        return self.reduced(self.known.stage_of)

    def reduced(self, stage_of: IntArray) -> IntArray:
        """Translate stages of the original nodes into those of the instance's."""
        return np.asarray(stage_of[self._first], dtype=np.int64)

    @cached_property
    def _first(self) -> IntArray:
        """One original node of each node."""
        return np.unique(self.inst.kinds[0].node_of, return_index=True)[1]

    def offer(self, stage_of: IntArray, device_of: Sequence[int], method: str) -> bool:
        """Take a placement of the instance if it is the best so far; return whether it was."""
        return self.known.offer(self.inst.expand(stage_of), device_of, method)
