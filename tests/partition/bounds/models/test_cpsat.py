"""CP-SAT in a thread of its own."""

from __future__ import annotations

import pytest

from onnx_pipeline.graph.costgraph import CostGraph
from onnx_pipeline.graph.target import Target
from onnx_pipeline.partition.bounds.models.cpsat import run_interruptibly
from onnx_pipeline.partition.instance.instance import Instance

Case = tuple[CostGraph, Target, int, Instance]


def test_errors_of_the_solver_thread_arrive() -> None:
    """What fails in the solver's thread fails in the caller's."""

    def fail() -> None:
        raise RuntimeError("broken")

    with pytest.raises(RuntimeError, match="broken"):
        run_interruptibly(fail, lambda: None, lambda: False)
