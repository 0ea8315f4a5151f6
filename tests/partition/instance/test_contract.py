"""Contraction of real graphs; against brute force in ``test_oracle``."""

from __future__ import annotations

from pathlib import Path

from onnx_pipeline.graph.costgraph import CostGraph
from onnx_pipeline.graph.costs_json import read_graph
from onnx_pipeline.graph.target import Target
from onnx_pipeline.partition.instance.build import build
from onnx_pipeline.partition.instance.contract import contract
from onnx_pipeline.partition.instance.instance import Instance

Case = tuple[CostGraph, Target, int, Instance]


def test_contraction_shrinks_real_graphs(msr_dir: Path) -> None:
    """The rules do what they were measured to do on real operator graphs."""
    graph = read_graph(msr_dir / "bert_l-12_operator.json", ignore_colocation=True)
    small = contract(build(graph, Target(host_io=False)))
    assert graph.num_nodes == 783
    assert small.n < 260
