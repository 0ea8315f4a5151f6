"""The smallest memory that works, against brute force; and what the error of a hard limit says of it."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pytest

from onnx_pipeline.errors import InfeasibleError
from onnx_pipeline.figures import format_bytes, rounded_bytes
from onnx_pipeline.graph.builder import GraphBuilder
from onnx_pipeline.graph.costgraph import CostGraph
from onnx_pipeline.graph.target import Target
from onnx_pipeline.graph.units import parse_bytes
from onnx_pipeline.parameters import SearchParams
from onnx_pipeline.partition.instance.build import build
from onnx_pipeline.partition.instance.contract import contract
from onnx_pipeline.partition.least import least_memory
from onnx_pipeline.partition.portfolio import solve
from onnx_pipeline.stop import Deadline
from tests.random_graphs import brute_force, random_graph


def _fits(graph: CostGraph, target: Target, k: int, memory: int) -> bool:
    return brute_force(graph, replace(target, memory=float(max(memory, 1e-9))), k) is not None


@pytest.mark.parametrize("seed", range(60))
def test_against_brute_force(seed: int) -> None:
    """What is said to work does, and below what is refuted nothing does; without activations they meet."""
    rng = np.random.default_rng(seed)
    k = int(rng.integers(1, 4))
    graph = random_graph(rng, 6, pins=k if seed % 4 == 0 else 0)
    target = Target(1e9, 1.0, memory_mode="hard", activations=seed % 2 == 0)
    try:
        inst = contract(build(graph, target))
    except InfeasibleError:
        pytest.skip("pins and colocation groups contradict each other")
    found = least_memory(graph, target, k, inst, Deadline(10))
    assert found.refuted <= found.works
    if found.works:
        assert _fits(graph, target, k, found.works)
    if found.refuted:
        assert not _fits(graph, target, k, found.refuted - 1)
    assert found.exact or target.activations


def test_the_error_names_it() -> None:
    """In one line, rounded so that the figure itself works."""
    builder = GraphBuilder("heavy")
    nodes = [builder.add_node(f"v{i}", 10) for i in range(4)]
    for i, node in enumerate(nodes):
        builder.add_group(f"w{i}", 10_001_000 + i, [node])
        if i:
            builder.add_net(f"t{i}", nodes[i - 1], [node], nbytes=8)
    graph = builder.build()
    target = Target(memory=19e6, memory_mode="hard", activations=False)
    params = SearchParams(time_limit=5)
    with pytest.raises(
        InfeasibleError, match=r"^2 stages do not fit in 18\.1 MiB each; the smallest"
    ) as error:
        solve(graph, 2, target, params)
    (said,) = re.findall(r"the smallest that works is ([\d.]+ MiB) ", str(error.value))
    assert said == "19.1 MiB"
    assert solve(graph, 2, replace(target, memory=parse_bytes(said)), params).used == 2


@pytest.mark.parametrize(
    "size", [1, 999, 1023.5, 1024, 10_239, 10_240, 102_350, 20_002_005, 1_048_575, 3 << 40]
)
def test_rounded_sizes(size: float) -> None:
    """Rounded up, a size as it is printed is enough; rounded down, it is too little or the same."""
    for up in (True, False):
        rounded = rounded_bytes(size, up=up)
        printed = parse_bytes(format_bytes(rounded))
        assert printed == pytest.approx(rounded, rel=1e-12)
        assert printed >= size * (1 - 1e-12) if up else printed <= size * (1 + 1e-12)
        assert printed == pytest.approx(size, rel=0.01, abs=1)
