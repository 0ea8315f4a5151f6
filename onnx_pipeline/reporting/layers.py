"""The nodes of a picture: those of the graph, or where they are many, layers named by their scope."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import groupby

from onnx_pipeline.graph.costgraph import HOST
from onnx_pipeline.partition.result import Partition

#: Graphs are drawn node by node below so many nodes, and edges.
MOST_NODES, MOST_EDGES = 1000, 2000
#: Layers to draw at most where nodes are collapsed.
MOST_LAYERS = 300
#: Fewer scopes than this say nothing of a graph's structure.
FEWEST_SCOPES = 4


@dataclass(frozen=True)
class Layer:
    """Nodes of one stage that are drawn as one.

    Attributes
    ----------
    name : str
    stage : int
    nodes : tuple of int
        In topological order.
    """

    name: str
    stage: int
    nodes: tuple[int, ...]


@dataclass(frozen=True, eq=False)
class Drawing:
    """Layers, and the tensors between them.

    Attributes
    ----------
    layers : list of Layer
        In the order of stages and, within one, of their first nodes.
    collapsed : bool
        Whether layers stand for several nodes.
    """

    partition: Partition
    layers: list[Layer]
    collapsed: bool

    @cached_property
    def home(self) -> list[int]:
        """Layer of every node."""
        home = [0] * self.partition.graph.num_nodes
        for index, layer in enumerate(self.layers):
            for v in layer.nodes:
                home[v] = index
        return home

    @cached_property
    def edges(self) -> dict[tuple[int, int], list[int]]:
        """Nets by the layers that they join."""
        return _edges(self.partition, self.home)


def draw(partition: Partition) -> Drawing:
    """Choose what to draw: every node of a small graph, else the finest scopes that are few enough."""
    graph = partition.graph
    rank = {v: at for at, v in enumerate(graph.order)}
    nodes = sorted(rank, key=lambda v: (int(partition.stage_of[v]), rank[v]))
    single = [Layer(graph.node_names[v], int(partition.stage_of[v]), (v,)) for v in nodes]
    whole = Drawing(partition, single, collapsed=False)
    if graph.num_nodes < MOST_NODES and len(whole.edges) <= MOST_EDGES:
        return whole
    for layers in (*_by_scope(partition, nodes), *_by_order(partition, nodes)):
        drawing = Drawing(partition, layers, collapsed=True)
        if len(layers) <= max(MOST_LAYERS, partition.used) and len(drawing.edges) <= MOST_EDGES:
            return drawing
    return Drawing(partition, _chunks(partition, nodes, len(nodes)), collapsed=True)  # a layer per stage


def _by_scope(partition: Partition, nodes: Sequence[int]) -> Iterator[list[Layer]]:
    """Yield layers by ever shorter scopes, as long as they divide the graph at all."""
    names = partition.graph.node_names
    scopes = {v: re.split(r"[/.]+", names[v].strip("/."))[:-1] for v in nodes}
    for depth in range(max(map(len, scopes.values()), default=0), 0, -1):
        members: dict[tuple[int, str], list[int]] = {}
        for v in nodes:
            members.setdefault((int(partition.stage_of[v]), "/".join(scopes[v][:depth])), []).append(v)
        if len({scope for _, scope in members}) < FEWEST_SCOPES:
            return
        yield [Layer(scope or "(no scope)", stage, tuple(each)) for (stage, scope), each in members.items()]


def _by_order(partition: Partition, nodes: Sequence[int]) -> Iterator[list[Layer]]:
    """Yield layers of ever more consecutive nodes: what is left where names say nothing."""
    size = -(-len(nodes) // MOST_LAYERS)
    while size < len(nodes):
        yield _chunks(partition, nodes, size)
        size *= 2


def _chunks(partition: Partition, nodes: Sequence[int], size: int) -> list[Layer]:
    names = partition.graph.node_names
    return [
        Layer(names[part[0]] if len(part) == 1 else f"{names[part[0]]} … {names[part[-1]]}", stage, part)
        for stage, members in groupby(nodes, key=lambda v: int(partition.stage_of[v]))
        for part in _parts(tuple(members), size)
    ]


def _parts(members: tuple[int, ...], size: int) -> list[tuple[int, ...]]:
    return [members[at : at + size] for at in range(0, len(members), size)]


def _edges(partition: Partition, home: Sequence[int]) -> dict[tuple[int, int], list[int]]:
    graph = partition.graph
    edges: dict[tuple[int, int], list[int]] = {}
    for t in range(graph.num_nets):
        producer = int(graph.net_producer[t])
        if producer == HOST:
            continue
        for reader in {home[v] for v in graph.consumers(t)} - {home[producer]}:
            edges.setdefault((home[producer], reader), []).append(t)
    return edges
