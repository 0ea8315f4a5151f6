"""NodeCosts on every route: JSON, the cache, a model's metadata, COSTS.json."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest

from models import builders
from onnx_pipeline.costmodel.cache import cached
from onnx_pipeline.costmodel.devices import Device
from onnx_pipeline.costmodel.imported.files import read_costs
from onnx_pipeline.costmodel.request import CostRequest, NodeCosts
from onnx_pipeline.graph.costgraph import CostGraph
from onnx_pipeline.graph.costs_json import write_graph
from onnx_pipeline.model.lowering import executable_nodes, lower
from onnx_pipeline.model.shapes import value_infos
from onnx_pipeline.model.source import SourceModel, load
from onnx_pipeline.passes import metadata
from onnx_pipeline.passes.partition import annotated_graph


@pytest.fixture
def source(tmp_path: Path) -> SourceModel:
    """A small model with weights."""
    onnx.save(builders.mlp(width=8), tmp_path / "model.onnx")
    return load(tmp_path / "model.onnx")


def measured(source: SourceModel) -> NodeCosts:
    """Costs with everything that a profile may find."""
    nodes = [str(node.name) for node in executable_nodes(source)]
    tensors = [str(node.outputs[0].name) for node in executable_nodes(source)]
    weights = [str(name) for name in source.ir.graph.initializers]
    return NodeCosts(
        "profile",
        {name: 1000.25 * (i + 1) for i, name in enumerate(nodes)},
        {"provider": "X", "runs": 3},
        ("Odd",),
        {name: 0.0625 * (i + 1) for i, name in enumerate(nodes)},
        {tensors[0]: 12.5, tensors[2]: 7.0},
        {weights[0]: 512},
    )


def request(source: SourceModel, folder: Path | None = None) -> CostRequest:
    """What a cost model is asked."""
    return CostRequest(
        source, value_infos(source), executable_nodes(source), {}, None, Device("d"), cache=folder
    )


def by_json(source: SourceModel, costs: NodeCosts, folder: Path) -> NodeCosts:
    """Through the document."""
    return NodeCosts.from_json(costs.to_json())


def by_cache(source: SourceModel, costs: NodeCosts, folder: Path) -> NodeCosts:
    """Through a kept profile."""
    asked = request(source, folder)
    cached(lambda _: costs)(asked)
    return cached(lambda _: pytest.fail("measured again"))(asked)


def by_metadata(source: SourceModel, costs: NodeCosts, folder: Path) -> NodeCosts:
    """Through the annotated model, saved and loaded."""
    metadata.write_costs(source.ir, value_infos(source), costs, {})
    import onnx_ir

    onnx_ir.save(source.ir, folder / "annotated.onnx")
    again = load(folder / "annotated.onnx")
    return metadata.read_costs(again.ir, executable_nodes(again))


def by_file(source: SourceModel, costs: NodeCosts, folder: Path) -> NodeCosts:
    """Through COSTS.json, as ``profile -o`` writes it and ``split --cost-model`` reads it."""
    write_graph(lower(source, value_infos(source), costs), folder / "costs.json")
    return read_costs(folder / "costs.json")(request(source))


@pytest.mark.parametrize("route", [by_json, by_cache, by_metadata, by_file])
def test_nothing_is_lost(source: SourceModel, tmp_path: Path, route: object) -> None:
    """On every route the costs make the same graph: work, borders, bytes that are held, scatter."""
    assert callable(route)
    costs = measured(source)
    graph = lower(source, value_infos(source), costs)
    assert graph.net_extra is not None
    assert graph.net_extra.any()
    same(graph, lower(source, value_infos(source), route(source, costs, tmp_path)))


def same(one: CostGraph, other: CostGraph) -> None:
    """Demand equal costs."""
    assert one.ticks_per_second == other.ticks_per_second
    for field in ("work", "net_bytes", "net_extra", "group_bytes"):
        assert np.array_equal(getattr(one, field), getattr(other, field)), field
    assert one.group_names == other.group_names
    assert one.meta["node_spread"] == other.meta["node_spread"]


def test_the_passes_see_the_same_graph(source: SourceModel) -> None:
    """What PartitionPass lowers is what the facade lowers, measured extras included."""
    infos = value_infos(source)
    costs = measured(source)
    metadata.write_costs(source.ir, infos, costs, {})
    same(lower(source, infos, costs), annotated_graph(source, infos))


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("work_ns", {"a": -1}),
        ("work_ns", {"a": float("nan")}),
        ("work_ns", {"a": True}),
        ("work_ns", 3),
        ("meta", []),
        ("border_ns", {"t": "1"}),
        ("parameter_bytes", {"w": float("inf")}),
    ],
)
def test_nonsense_is_refused(key: str, value: object) -> None:
    """A number that is none is a ValueError that names the entry."""
    with pytest.raises(ValueError, match=key):
        NodeCosts.from_json({"kind": "k", "work_ns": {}, key: value})
