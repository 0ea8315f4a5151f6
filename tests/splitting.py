"""Helpers of the emission tests: models as text, even cuts, one call from model to directory."""

from __future__ import annotations

from pathlib import Path

import onnx

from benchmarks.cuts import even_cut
from onnx_pipeline.costmodel.request import NodeCosts
from onnx_pipeline.emission.emit import emit
from onnx_pipeline.graph.costgraph import CostGraph
from onnx_pipeline.manifest import Manifest
from onnx_pipeline.model import inputs, lowering, shapes
from onnx_pipeline.model import source as models
from onnx_pipeline.model.roles import executable_nodes

OPSETS = '[ "" : 20, "local" : 1, "ai.onnx.ml" : 3 ]'


def save(folder: Path, text: str, *, ir_version: int = 8, name: str = "model.onnx") -> Path:
    """Parse the text of a graph (and functions) and save it as a model."""
    header = f"<ir_version: {ir_version}, opset_import: {OPSETS}>\n"
    path = folder / name
    onnx.save(onnx.parser.parse_model(header + text), path)
    return path


def flat_costs(source: models.SourceModel) -> NodeCosts:
    """One microsecond for every node."""
    return NodeCosts("flat", {str(n.name): 1000 for n in executable_nodes(source)})


def cost_graph(source: models.SourceModel, dims: dict[str, int] | None = None) -> CostGraph:
    """Lower with flat costs."""
    return lowering.lower(source, shapes.value_infos(source, dims), flat_costs(source))


def split(
    path: Path,
    output: Path,
    stages: int,
    *,
    dims: dict[str, int] | None = None,
    annotate: bool = False,
    force: bool = False,
) -> Manifest:
    """Load, lower, cut evenly and emit."""
    source = models.load(path)
    infos = shapes.value_infos(source, dims)
    graph = lowering.lower(source, infos, flat_costs(source))
    meta = {"dims": inputs.bound_dims(source, dims)}
    return emit(source, infos, even_cut(graph, stages), meta, output, annotate=annotate, force=force)
