"""The cost graph with slices is that of the sliced model."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from models import real
from onnx_pipeline.costmodel.request import NodeCosts
from onnx_pipeline.errors import UsageError
from onnx_pipeline.graph.costgraph import HOST, CostGraph
from onnx_pipeline.graph.target import INFEASIBLE
from onnx_pipeline.model.lowering import lower
from onnx_pipeline.model.roles import executable_nodes
from onnx_pipeline.model.shapes import value_infos
from onnx_pipeline.model.source import load
from onnx_pipeline.slices.graphs import Shares, ideal_shares, slice_costs, slice_graph
from onnx_pipeline.slices.rewrite import rewrite
from onnx_pipeline.slices.slicing import describe
from onnx_pipeline.slices.which import Sliceable, find
from tests.slices.nets import MODELS


def canonical(graph: CostGraph) -> dict[str, Any]:
    """Everything that costs, by name, in microseconds and bytes."""

    def us(ticks: int) -> float:
        return round(1e6 * graph.seconds(int(ticks)), 6)

    names = [*graph.node_names, "host"]
    extra = np.zeros(graph.num_nets, np.int64) if graph.net_extra is None else graph.net_extra
    return {
        "order": graph.node_names,
        "nodes": {name: us(work) for name, work in zip(graph.node_names, graph.work, strict=True)},
        "nets": {
            name: (
                names[graph.net_producer[t]],
                sorted(names[v] for v in graph.readers[t]),
                int(graph.net_bytes[t]),
                bool(graph.net_to_host[t]),
                us(extra[t]),
            )
            for t, name in enumerate(graph.net_names)
        },
        "groups": {
            name: (int(graph.group_bytes[g]), sorted(names[v] for v in graph.users[g]))
            for g, name in enumerate(graph.group_names)
        },
    }


def random_costs(nodes: list[str], values: list[str], seed: int) -> NodeCosts:
    """Costs with borders and bytes of the provider's own."""
    rng = np.random.default_rng(seed)
    return NodeCosts(
        "random",
        {name: float(rng.integers(1, 10**7)) for name in nodes},
        spread={name: float(rng.random()) for name in nodes},
        border_ns={name: float(rng.integers(0, 10**5)) for name in values if rng.random() < 0.5},
        parameter_bytes={name: int(rng.integers(1, 10**6)) for name in values if rng.random() < 0.3},
    )


@pytest.mark.parametrize("name", sorted(MODELS))
def test_equals_lowering_the_sliced_model(name: str) -> None:
    """Nodes, nets and groups, in the same order, whatever the costs; one slice after the other."""
    model = MODELS[name]()
    source = load(model)
    infos = value_infos(source)
    found = [each for each in find(source, infos).values() if isinstance(each, Sliceable)]
    assert found
    costs = random_costs([str(n.name) for n in executable_nodes(source)], sorted(infos), 1)
    graph = lower(source, infos, costs)
    for number, each in enumerate(found):
        slicing = describe(each, min(each.most, 2 + number % 3), infos)
        shares = Shares(tuple(1.3 * share for share in ideal_shares(slicing).parts), 0.07)
        costs, graph = slice_costs(costs, slicing, shares), slice_graph(graph, slicing, shares)
    rewrite(source, infos, [(each, min(each.most, 2 + number % 3)) for number, each in enumerate(found)])
    sliced = load(source.ir)
    expected = lower(sliced, value_infos(sliced), costs)
    assert canonical(graph) == canonical(expected)


def test_what_the_graph_says_beside_the_model_stays() -> None:
    """Pins, groups, times of transfers and times by kind of device: every part has its own."""
    source = load(real.mobilenetv3(image=32))
    infos = value_infos(source)
    each = next(x for x in find(source, infos).values() if isinstance(x, Sliceable) and len(x.members) > 1)
    plain = lower(source, infos, NodeCosts("flat", {str(n.name): 8000 for n in executable_nodes(source)}))
    heavy = plain.node_names.index(str(each.node.name))
    pinned, colocation = plain.pinned.copy(), plain.colocation.copy()
    pinned[heavy], colocation[heavy] = 1, 7
    slow = np.where(np.arange(plain.num_nodes) == heavy, INFEASIBLE, 2 * plain.work)
    graph = replace(
        plain,
        pinned=pinned,
        colocation=colocation,
        work_on={"slow": slow},
        net_time=plain.net_bytes * 4,
    )
    slicing = describe(each, 2, infos)
    sliced = slice_graph(graph, slicing, Shares((0.5, 0.75), 0.25))
    at = {name: v for v, name in enumerate(sliced.node_names)}
    first, second = (at[pieces[0]] for pieces in slicing.pieces)
    assert [sliced.pinned[first], sliced.colocation[second]] == [1, 7]
    assert sliced.work_on is not None
    assert sliced.work_on["slow"][first] == sliced.work_on["slow"][second] == INFEASIBLE
    follower = at[slicing.pieces[1][1]]
    assert sliced.work_on["slow"][follower] == pytest.approx(
        0.75 * slow[graph.node_names.index(slicing.members[1])]
    )
    assert sliced.net_time is not None
    whole = graph.net_names.index(slicing.result)
    part = sliced.net_names.index(slicing.values[0][-1])
    assert graph.net_time is not None
    assert sliced.net_time[part] * 2 == graph.net_time[whole]
    assert sliced.net_producer[sliced.net_names.index(slicing.result)] == at[slicing.joined] != HOST


def test_a_graph_of_another_model_is_refused() -> None:
    """The node is named."""
    source, other = load(MODELS["mlp"]()), load(MODELS["convnet"]())
    infos = value_infos(source)
    each = next(x for x in find(source, infos).values() if isinstance(x, Sliceable))
    flat = NodeCosts("flat", {str(n.name): 1000 for n in executable_nodes(other)})
    graph = lower(other, value_infos(other), flat)
    slicing = describe(each, 2, infos)
    with pytest.raises(UsageError, match=f"no node '{slicing.node}'"):
        slice_graph(graph, slicing, ideal_shares(slicing))
