"""A partition that is measured, and how quiet the machine was meanwhile."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from onnx_pipeline.graph.costgraph import IntArray
from onnx_pipeline.measurement.chain import Rows, summarise
from onnx_pipeline.measurement.conditioning import FloatArray

#: Median spread of the stages beyond which a machine is too noisy to compare partitions on.
NOISY = 0.10
#: What other work may add to the time of the runs before a machine counts as busy.
BUSY = 0.25
#: Rounds without which nothing is known of the scatter.
FEWEST = 4


@dataclass(eq=False)
class Candidate:
    """A partition, where its stages are, and what was measured in every set of rounds.

    Attributes
    ----------
    stage_of : int64[n]
    directory : Path
        Where its stages are.
    execution, charged : float64[k]
        Predicted seconds of every stage, and what the device charges on top: transfers and overheads.
    sets : list of Rows
    """

    stage_of: IntArray
    directory: Path
    execution: FloatArray
    charged: FloatArray
    sets: list[Rows] = field(default_factory=list)

    def times(self, sets: int) -> FloatArray:
        """Return the costs of its slowest stage in the rounds of the last sets."""
        stages = np.concatenate([rows.stages for rows in self.sets[-sets:]]) + self.charged
        slowest: FloatArray = stages[:, np.median(stages, axis=0).argmax()]
        return slowest


def disturbance(rows: Rows) -> float:
    """Return how far the scatter of a set of rounds is from quiet; up to 1 it is."""
    return math.inf if len(rows.whole) < FEWEST else summarise([rows], None).scatter / NOISY


def busy(candidates: Sequence[Candidate]) -> bool:
    """Whether other work held up the runs of any candidate."""
    return any(rows.stalled > BUSY for each in candidates for rows in each.sets)
