"""Evolution of priorities."""

from __future__ import annotations

import numpy as np
import pytest

from onnx_pipeline.errors import UsageError
from onnx_pipeline.graph.costgraph import CostGraph
from onnx_pipeline.graph.target import Target
from onnx_pipeline.partition.incumbent import Incumbent
from onnx_pipeline.partition.instance.build import build
from onnx_pipeline.partition.instance.instance import Instance
from onnx_pipeline.partition.search.brkga import BrkgaParams, brkga
from onnx_pipeline.partition.task import Task
from onnx_pipeline.stop import never
from tests.random_graphs import random_graph

Case = tuple[CostGraph, Target, int, Instance]


def test_same_seed_same_partition() -> None:
    """Two runs agree bit for bit when no time limit is reached."""
    graph, target = random_graph(np.random.default_rng(2), 8), Target(bandwidth=1e9)
    runs = []
    for _ in range(2):
        task = Task(build(graph, target), Incumbent(graph, target, 3, upper=1 << 50))
        found = brkga(task, [], np.random.default_rng(9), never, BrkgaParams(population=8, generations=20))
        runs.append([(value, order.tobytes()) for value, order in found])
        assert task.known.evaluations == 8 + 19 * 7
    assert runs[0] == runs[1] != []


@pytest.mark.parametrize("field", ["population", "elite", "mutants", "bias", "restart_after"])
def test_brkga_parameters_are_checked(field: str) -> None:
    """A parameter out of range is named."""
    with pytest.raises(UsageError, match=field):
        BrkgaParams(**{field: -1})
