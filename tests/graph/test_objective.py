"""The objective, by hand and against enumeration."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace

import numpy as np
import pytest

from onnx_pipeline.errors import InputError, UsageError
from onnx_pipeline.graph.builder import GraphBuilder
from onnx_pipeline.graph.costgraph import HOST, topological_order
from onnx_pipeline.graph.objective import bottleneck, check_partition, stage_costs
from onnx_pipeline.graph.target import Target
from onnx_pipeline.graph.ticks import NS
from tests.random_graphs import brute_force, random_graph, random_target


def test_costs_by_hand() -> None:
    """Every term of the objective on a graph small enough to do on paper."""
    b = GraphBuilder("paper", ticks_per_second=NS)
    x, y, z = b.add_node("x", 10), b.add_node("y", 20), b.add_node("z", 30)
    b.add_net("in", HOST, [x, z], nbytes=100)
    b.add_net("t", x, [y, z], nbytes=7)
    b.add_net("u", y, [z], nbytes=5, to_host=True)
    b.add_net("out", z, [], nbytes=3, to_host=True)
    b.add_group("w", 50, [x, y])
    b.add_group("v", 40, [z])
    graph = b.build()
    target = Target(bandwidth=1e9, memory=45, transfer_latency=1e-9, stage_overhead=2e-9)
    one, two = stage_costs(graph, target, [0, 0, 1], 2)
    # t leaves once; u leaves for stage 1 and the host, paid once; w and in + t at x overflow 45 bytes by 112.
    assert (one.work, one.input, one.output, one.overflow, one.overhead) == (30, 101, 8 + 6, 50 + 107 - 45, 2)
    # t, u and the model input arrive; out leaves to the host; with v, all of them are there at once.
    assert (two.work, two.input, two.output, two.overhead) == (30, 8 + 6 + 101, 4, 2)
    assert two.overflow == 40 + 115 - 45
    assert bottleneck(graph, target, [0, 0, 1], 2) == max(one.total, two.total) == 261
    weights = replace(target, activations=False)
    assert [c.overflow for c in stage_costs(graph, weights, [0, 0, 1], 2)] == [5, 0]
    paper = Target(bandwidth=1e9, host_io=False)
    assert [c.total for c in stage_costs(graph, paper, [0, 0, 1], 3)] == [42, 42, 0]


def test_tensor_is_paid_once_per_stage() -> None:
    """Several consumers in one stage share one transfer; two stages pay two."""
    b = GraphBuilder("fan", ticks_per_second=NS)
    u = b.add_node("u", 1)
    vs = [b.add_node(f"v{i}", 1) for i in range(4)]
    b.add_net("t", u, vs, nbytes=10)
    costs = stage_costs(b.build(), Target(bandwidth=1e9), [0, 1, 1, 2, 2], 3)
    assert [c.output for c in costs] == [10, 0, 0]
    assert [c.input for c in costs] == [0, 10, 10]


def test_brute_force_agrees_with_enumeration() -> None:
    """The oracle's dynamic program equals trying every map of nodes to stages."""
    rng = np.random.default_rng(7)
    for _ in range(60):
        graph, target, k = random_graph(rng, 5), random_target(rng), int(rng.integers(1, 4))
        every = (
            bottleneck(graph, target, stages, k)
            for stages in itertools.product(range(k), repeat=graph.num_nodes)
            if not check_partition(graph, stages, k)
        )
        assert brute_force(graph, target, k) == min(every)


def test_check_partition_names_what_is_wrong() -> None:
    """Back edges, bad indices and broken colocation are all reported."""
    b = GraphBuilder("g", ticks_per_second=NS)
    x, y = b.add_node("x", 1, colocation=4), b.add_node("y", 1, colocation=4)
    b.add_net("t", x, [y], nbytes=1)
    graph = b.build()
    assert check_partition(graph, [0, 0], 2) == []
    assert len(check_partition(graph, [0, 1], 2)) == 1
    assert any("flows back" in line for line in check_partition(graph, [1, 0], 2))
    assert any("outside" in line for line in check_partition(graph, [0, 2], 2))
    for impossible in ([1, 0], [0, 2], [0]):
        with pytest.raises(UsageError, match="not a partition"):
            stage_costs(graph, Target(), impossible, 2)
    assert check_partition(graph, [0], 2) == ["1 stage given for 2 nodes"]


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("bandwidth", -3.0),
        ("bandwidth", 0.0),
        ("memory", -1.0),
        ("memory", math.nan),
        ("transfer_latency", -1.0),
        ("stage_overhead", math.inf),
    ],
)
def test_target_ranges(field: str, value: float) -> None:
    """A figure out of range is refused by name."""
    with pytest.raises(UsageError, match=field):
        Target(**{field: value})


def test_builder_refuses_nonsense() -> None:
    """Cycles, repeated names, negative costs and dangling references do not become graphs."""
    cycle = GraphBuilder("c", ticks_per_second=NS)
    x, y = cycle.add_node("x", 1), cycle.add_node("y", 1)
    cycle.add_net("t", x, [y], nbytes=1)
    cycle.add_net("u", y, [x], nbytes=1)
    with pytest.raises(InputError, match="cycle"):
        cycle.build()
    twice = GraphBuilder("c", ticks_per_second=NS)
    twice.add_node("x", 1)
    twice.add_node("x", 1)
    with pytest.raises(InputError, match="two nodes"):
        twice.build()
    negative = GraphBuilder("c", ticks_per_second=NS)
    negative.add_node("x", -1)
    with pytest.raises(InputError, match="negative"):
        negative.build()
    dangling = GraphBuilder("c", ticks_per_second=NS)
    dangling.add_net("t", 3, [], nbytes=1)
    with pytest.raises(InputError, match="does not exist"):
        dangling.build()


def test_networkx_view() -> None:
    """The graph people can hold has the same nodes, edges and order."""
    import networkx

    rng = np.random.default_rng(3)
    for _ in range(20):
        graph = random_graph(rng)
        view = graph.to_networkx()
        assert list(view) == list(graph.node_names)
        assert networkx.is_directed_acyclic_graph(view)
        position = {graph.node_names[v]: i for i, v in enumerate(topological_order(graph))}
        assert all(position[a] < position[b] for a, b in view.edges())


def test_border_costs_count_like_transfers() -> None:
    """What a crossing tensor costs beyond its transfer is paid on both sides of a cut, and only there."""
    b = GraphBuilder("pair", ticks_per_second=NS)
    u, v = b.add_node("u", 10), b.add_node("v", 20)
    b.add_net("t", u, [v], nbytes=1000, extra=7)
    graph = b.build()
    target = Target(bandwidth=1e9)
    assert [cost.total for cost in stage_costs(graph, target, [0, 1], 2)] == [10 + 1007, 20 + 1007]
    assert stage_costs(graph, target, [0, 0], 1)[0].total == 30
    b.add_net("bad", u, [v], nbytes=1, extra=-1)
    with pytest.raises(InputError, match="border"):
        b.build()
