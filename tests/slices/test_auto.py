"""Slices where one node limits the plan: never worse, the same every time, and right by brute force."""

from __future__ import annotations

import numpy as np
import onnx
import pytest

import onnx_pipeline as op
from models.net import Net
from onnx_pipeline.costmodel.request import NodeCosts
from onnx_pipeline.graph.costgraph import CostGraph
from onnx_pipeline.graph.objective import price_stages
from onnx_pipeline.graph.target import Target
from onnx_pipeline.model.lowering import lower
from onnx_pipeline.model.roles import executable_nodes
from onnx_pipeline.model.shapes import value_infos
from onnx_pipeline.model.source import load
from onnx_pipeline.partition.result import PartitionResult
from onnx_pipeline.slices.auto import SlicePlan, auto
from onnx_pipeline.slices.graphs import Shares, ideal_shares
from onnx_pipeline.slices.limits import limits, own_stages
from onnx_pipeline.slices.slicing import Slicing
from onnx_pipeline.slices.which import Sliceable, find
from tests.random_graphs import brute_force, random_graph, random_target


def small() -> onnx.ModelProto:
    """Two products that can be sliced, one that cannot, and a sum that comes back."""
    net = Net("small", 7)
    x = net.input("x", [2, 240])
    y = net.op("MatMul", x, net.weight(240, 240, name="wide", fan_in=240), name="wide")
    y = net.op("Relu", y, name="relu")
    y = net.op("Add", y, x, name="sum")
    y = net.op("MatMul", y, net.weight(240, 240, name="next", fan_in=240), name="next")
    net.output(net.op("Softmax", y, name="end", out="y"), [2, 240])
    return net.model()


def costly(sliceable: Sliceable, slicing: Slicing) -> Shares:
    """Slices cost a tenth more in all, and a Concat."""
    return Shares(tuple(1.1 * share for share in ideal_shares(slicing).parts), 0.02)


def planned(costs: dict[str, float], target: Target, stages: int) -> SlicePlan:
    """Slice the small model."""
    source = load(small())
    infos = value_infos(source)
    graph = lower(source, infos, NodeCosts("given", costs))
    candidates = {name: each for name, each in find(source, infos).items() if isinstance(each, Sliceable)}

    def solve(graph: CostGraph) -> PartitionResult:
        return op.partition(graph, stages, target, threads=1, time_limit=30)

    return auto(graph, candidates, infos, costly, stages, solve)


def test_brute_force() -> None:
    """The optima with and without slices are true, and slices never make it worse."""
    rng = np.random.default_rng(5)
    names = [str(node.name) for node in executable_nodes(load(small()))]
    gains = []
    for _ in range(25):
        costs = {name: float(rng.integers(0, 100)) for name in names}
        costs[["wide", "next"][rng.integers(0, 2)]] += float(rng.integers(0, 400))
        target = Target(
            bandwidth=float(rng.choice([1e11, 1e12])),
            transfer_latency=float(rng.choice([0, 3e-9])),
            stage_overhead=float(rng.choice([0, 7e-9])),
            host_io=bool(rng.random() < 0.5),
        )
        stages = int(rng.integers(2, 5))
        plan = planned(costs, target, stages)
        for each in plan.rounds:
            assert each.result.status == "optimal"
            if each.graph.num_nodes <= 11:
                assert each.result.upper == brute_force(each.graph, target, stages)
        assert plan.result.bottleneck <= plan.unsliced.bottleneck
        best = min(each.result.bottleneck for each in plan.rounds)
        assert best <= plan.result.bottleneck <= 1.005 * best
        gains.append(plan.gain)
    assert max(gains) > 1.5
    assert min(gains) == 1


def test_the_same_twice() -> None:
    """Nothing depends on chance or on time."""
    costs = {"wide": 500.0, "relu": 3.0, "sum": 4.0, "next": 460.0, "end": 30.0}
    first, second = (planned(costs, Target(bandwidth=1e12), 4) for _ in range(2))
    assert first.parts == second.parts == {"wide": 2, "next": 2}
    assert [e.parts for e in first.rounds] == [e.parts for e in second.rounds]
    assert [e.result.upper for e in first.rounds] == [e.result.upper for e in second.rounds]
    assert first.sentence == second.sentence


def test_what_is_said() -> None:
    """The node, its share, the number of parts and both bottlenecks; or why nothing is sliced."""
    plan = planned({"wide": 300.0, "relu": 0.0, "sum": 50.0, "next": 90.0, "end": 10.0}, Target(), 4)
    assert plan.sentence == (
        "limited by node 'wide' (MatMul, 100 % of the bottleneck): 300 ns; slicing it in 3 gives 150 ns"
    )
    assert plan.parts == {"wide": 3}
    end = planned({"wide": 1.0, "relu": 1.0, "sum": 1.0, "next": 1.0, "end": 90.0}, Target(), 4)
    assert end.sentence == (
        "limited by node 'end' (one that cannot be sliced, 100 % of the bottleneck): 90.0 ns; "
        "node 'end' limits it and cannot be sliced"
    )
    even = planned({"wide": 9.0, "relu": 9.0, "sum": 9.0, "next": 9.0, "end": 9.0}, Target(), 2)
    assert even.sentence == "no single node limits the plan"
    assert not even.parts


def test_only_as_fine_as_it_helps() -> None:
    """A node is divided so that it allows what the others allow, not more finely."""
    costs = {"wide": 300.0, "relu": 0.0, "sum": 0.0, "next": 171.0, "end": 0.0}
    plan = planned(costs, Target(), 4)
    assert plan.parts == {"wide": 2}
    assert plan.result.bottleneck == pytest.approx(176e-9)


def test_own_bounds_hold() -> None:
    """No stage that holds a node costs less, whatever the partition."""
    rng = np.random.default_rng(11)
    for _ in range(60):
        graph, target = random_graph(rng, 6), random_target(rng)
        bounds = own_stages(graph, target)
        for _ in range(20):
            stage_of = np.zeros(graph.num_nodes, np.int64)
            for v in graph.order:
                before = [
                    stage_of[graph.net_producer[t]]
                    for t in graph.node_nets[v]
                    if v in graph.readers[t] and graph.net_producer[t] >= 0
                ]
                stage_of[v] = max([*before, int(rng.integers(0, 3))])
            homes: dict[int, set[int]] = {}
            for v, colour in enumerate(graph.colocation.tolist()):
                homes.setdefault(colour, set()).add(int(stage_of[v]))
            if any(colour >= 0 and len(stages) > 1 for colour, stages in homes.items()):
                continue
            costs = price_stages(graph, target, stage_of, 3)
            assert all(own <= costs[stage_of[v]].total for v, (own, _) in bounds.items())


def test_one_limit_for_each_stage() -> None:
    """Nodes between dear tensors share the cheapest stage of all of them: the heaviest is named."""
    builder = op.GraphBuilder("block")
    expand, relu, pool = (builder.add_node(n, w) for n, w in (("expand", 100), ("relu", 5), ("pool", 50)))
    end = builder.add_node("end", 20)
    builder.add_net("wide", expand, [relu], nbytes=1000)
    builder.add_net("still wide", relu, [pool], nbytes=1000)
    builder.add_net("narrow", pool, [end], nbytes=7)
    result = op.partition(builder.build(), 4, Target(bandwidth=1e9))
    (limit,) = limits(result)
    assert (limit.node, limit.members) == ("expand", ("expand", "pool", "relu"))
    assert result.graph.seconds(limit.own) == pytest.approx(162e-9)


def test_limits_count_transfers() -> None:
    """A node limits with its result, which the host reads; shares are those of its work."""
    builder = op.GraphBuilder("head")
    body, head = builder.add_node("body", 40), builder.add_node("head", 60)
    builder.add_net("h", body, [head], nbytes=10)
    builder.add_net("logits", head, [], nbytes=90, to_host=True)
    graph, target = builder.build(), Target(bandwidth=1e9)
    result = op.partition(graph, 2, target)
    (limit,) = limits(result)
    assert limit.node == "head"
    assert graph.seconds(limit.own) == pytest.approx(160e-9)
    assert limit.share == pytest.approx(60 / 160)
    assert limit.told("MatMul") == "limited by node 'head' (MatMul, 37.5 % of the bottleneck)"


def test_the_whole_way() -> None:
    """From a model: the chosen parts make a model whose plan is the one that was promised."""
    model = small()
    plan = op.plan_slices(model, 3, op.Target(bandwidth="16GB/s"), cost_model="analytic", time_limit=5)
    assert plan.gain >= 1
    sliced = op.slice_model(model, {"wide": 2, "next": 3})
    names = [str(node.name) for node in sliced.graph]
    assert "wide/slice_1" in names
    assert "next/slice_2" in names
    chosen = op.plan_slices(model, 3, cost_model="analytic", nodes=["wide"], time_limit=5)
    assert set(chosen.parts) <= {"wide"}
    assert chosen.op_types["end"] == "Softmax"
    with pytest.raises(op.UsageError, match="Softmax 'end' cannot be sliced"):
        op.plan_slices(model, 3, cost_model="analytic", nodes=["end"])


def test_the_best_round_is_chosen() -> None:
    """Not the last one, which may be worse: slices and their Concats cost something."""
    costs = {"wide": 132.0, "relu": 70.0, "sum": 86.0, "next": 212.0, "end": 10.0}
    plan = planned(costs, Target(stage_overhead=7e-9), 5)
    assert [round(1e9 * each.result.bottleneck) for each in plan.rounds] == [219, 139, 131, 162]
    assert plan.parts == {"next": 2, "wide": 2}
