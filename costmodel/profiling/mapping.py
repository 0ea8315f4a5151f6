"""From the kernels that onnxruntime runs back to the nodes of the original model.

onnxruntime fuses, renames, inserts and removes nodes. What survives are the names of most tensors, so a
kernel that writes a tensor of the original model is *anchored* at that tensor's producer. The other
original nodes are found between anchors, the other kernels go to their neighbours.
"""

from __future__ import annotations

import math
import os
import re
from collections import defaultdict
from collections.abc import Container, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    import onnx
    import onnx_ir

FloatArray = npt.NDArray[np.float64]

# What onnxruntime appends to the name of a node that it rewrites.
_MADE_UNIQUE = re.compile(r"_token_\d+$")
_REWRITTEN = re.compile(r"/[^/]*/?$")
# The NCHWc transformer names its node after the tensor it replaces, a convolution made from a batch
# normalisation with one more suffix.
_BLOCKED = re.compile(r"(_bn)?_nchwc$")


@dataclass(frozen=True, slots=True)
class GraphNode:
    """A node of either graph, reduced to names; ``reads`` includes what its subgraphs capture."""

    op: str
    name: str
    reads: tuple[str, ...]
    writes: tuple[str, ...]
    domain: str = ""


def original_nodes(nodes: Sequence[onnx_ir.Node]) -> list[GraphNode]:
    """Reduce the executable nodes of the original model."""
    from onnx_pipeline.model.nodes import node_inputs

    return [
        GraphNode(
            node.op_type,
            node.name or "",
            tuple(value.name for value in node_inputs(node) if value.name),
            tuple(value.name for value in node.outputs if value.name),
        )
        for node in nodes
    ]


def saved_model(path: str | os.PathLike[str]) -> tuple[list[GraphNode], dict[str, int]]:
    """Read a model saved by onnxruntime: nodes in execution order, and bytes of its weights by name."""
    import onnx

    graph = onnx.load(os.fspath(path), load_external_data=False).graph
    nodes = [
        GraphNode(
            node.op_type, node.name, tuple(_proto_reads(node)), tuple(filter(None, node.output)), node.domain
        )
        for node in graph.node
    ]
    return nodes, {tensor.name: _nbytes(tensor) for tensor in graph.initializer}


def _nbytes(tensor: onnx.TensorProto) -> int:
    import onnx_ir as ir

    if tensor.data_type == ir.DataType.STRING:
        return sum(map(len, tensor.string_data))
    itemsize = float(ir.DataType(tensor.data_type).itemsize)  # below 1 for packed types
    return math.ceil(itemsize * int(np.prod(tensor.dims, dtype=np.int64)))


def _proto_reads(node: onnx.NodeProto) -> Iterator[str]:
    yield from filter(None, node.input)
    for attribute in node.attribute:
        for graph in (*attribute.graphs, *([attribute.g] if attribute.HasField("g") else ())):
            yield from (value.name for value in graph.output)
            for inner in graph.node:
                yield from _proto_reads(inner)


@dataclass(frozen=True)
class Attribution:
    """How the time of kernels is divided among original nodes.

    Attributes
    ----------
    group : int64[kernels]
        Group of every kernel, -1 if it could not be placed.
    member_group, member_node : int64[members]
        The groups' original nodes; a node may be in several groups.
    member_share : float64[members]
        Share of its group's time; each group's shares sum to 1.
    num_nodes : int
    """

    group: npt.NDArray[np.int64]
    member_group: npt.NDArray[np.int64]
    member_node: npt.NDArray[np.int64]
    member_share: FloatArray
    num_nodes: int

    def apply(self, times: FloatArray) -> FloatArray:
        """Return the times of original nodes (rounds x nodes) from those of kernels (rounds x kernels)."""
        out = np.zeros((len(times), self.num_nodes))
        placed = self.group >= 0
        groups = int(self.group.max(initial=-1)) + 1
        for row, kernels in zip(out, times, strict=True):
            totals = np.bincount(self.group[placed], weights=kernels[placed], minlength=groups)
            row += np.bincount(
                self.member_node,
                weights=totals[self.member_group] * self.member_share,
                minlength=self.num_nodes,
            )
        return out

    def placed_share(self, times: FloatArray) -> float:
        """Share of the kernels' total time that belongs to some original node."""
        total = float(times.sum())
        return 1.0 - float(times[:, self.group < 0].sum()) / total if total > 0 else 1.0


def attribute(kernels: Sequence[GraphNode], nodes: Sequence[GraphNode], weights: FloatArray) -> Attribution:
    """Divide every kernel among the original nodes it stands for.

    Parameters
    ----------
    kernels : sequence of GraphNode
        Nodes of the saved optimised model in execution order.
    nodes : sequence of GraphNode
        Executable nodes of the original model in topological order.
    weights : float64[nodes]
        Relative times of the original nodes, used within a group only.
    """
    producer = {value: v for v, node in enumerate(nodes) for value in node.writes}
    names = {node.name: v for v, node in enumerate(nodes)}
    anchors = [_anchors(kernel, producer, names) for kernel in kernels]
    owner = _owners(kernels, anchors)
    group_of_node = _merge(anchors, len(nodes))
    group = np.array(
        [group_of_node[anchors[k][0]] if k is not None else -1 for k in owner], dtype=np.int64
    ).reshape(-1)
    members = _members(nodes, producer, anchors, group_of_node)
    return shares(group, members, weights)


def _anchors(kernel: GraphNode, producer: dict[str, int], names: dict[str, int]) -> list[int]:
    """Find the original nodes that a kernel ends with: by the tensors it writes, else by its name."""
    found = sorted({producer[value] for value in kernel.writes if value in producer})
    if found:
        return found
    name = _MADE_UNIQUE.sub("", kernel.name)
    replaced = replaced_tensor(name, producer)
    if replaced is not None:
        return [producer[replaced]]
    return [names[n] for n in (name, _REWRITTEN.sub("", name)) if n in names][:1]


def replaced_tensor(kernel: str, tensors: Container[str]) -> str | None:
    """Return the original tensor that a kernel of the blocked layout computes, by the kernel's name."""
    for name in (kernel.removesuffix("_nchwc"), _BLOCKED.sub("", kernel)):
        if name != kernel and name in tensors:
            return name
    return None


def _owners(kernels: Sequence[GraphNode], anchors: Sequence[list[int]]) -> list[int | None]:
    """Give every kernel without an anchor to the kernel that reads its result, else to one it reads from."""
    writer = {value: k for k, kernel in enumerate(kernels) for value in kernel.writes}
    reader: dict[int, int] = {}
    for k, kernel in reversed(list(enumerate(kernels))):
        for value in kernel.reads:
            if value in writer:
                reader[writer[value]] = k
    owner: list[int | None] = [k if anchors[k] else None for k in range(len(kernels))]
    for k in reversed(range(len(kernels))):
        if owner[k] is None and k in reader:
            owner[k] = owner[reader[k]]
    for k, kernel in enumerate(kernels):
        if owner[k] is None:
            owner[k] = next((owner[writer[value]] for value in kernel.reads if value in writer), None)
    return owner


def _merge(anchors: Sequence[list[int]], num_nodes: int) -> dict[int, int]:
    """Number the groups: kernels that share an anchor, and anchors that share a kernel, are one."""
    root = list(range(num_nodes))

    def find(v: int) -> int:
        while root[v] != v:
            root[v] = v = root[root[v]]
        return v

    for found in anchors:
        for v in found[1:]:
            root[find(v)] = find(found[0])
    numbers: dict[int, int] = {}
    return {v: numbers.setdefault(find(v), len(numbers)) for found in anchors for v in found}


def _members(
    nodes: Sequence[GraphNode],
    producer: dict[str, int],
    anchors: Sequence[list[int]],
    group_of_node: dict[int, int],
) -> list[tuple[int, int]]:
    """Return (group, node) pairs: the anchors themselves and what lies between them.

    A node without an anchor was fused into the kernel that needs it. If several groups need it, its result
    exists somewhere under another name: then it was fused into the last kernel before it.
    """
    last_kernel = {v: k for k, found in enumerate(anchors) for v in found}
    parents = [{producer[value] for value in node.reads if value in producer} for node in nodes]
    wanted_by: dict[int, set[int]] = defaultdict(set)
    for v in reversed(range(len(nodes))):
        groups = {group_of_node[v]} if v in group_of_node else wanted_by[v]
        for u in parents[v]:
            if u not in group_of_node:
                wanted_by[u] |= groups
    before: dict[int, int] = {}
    for v in range(len(nodes)):
        if v in last_kernel:
            before[v] = v
        elif known := [before[u] for u in parents[v] if u in before]:
            before[v] = max(known, key=last_kernel.__getitem__)
    members = [(g, v) for v, g in group_of_node.items()]
    for v, groups in wanted_by.items():
        if len(groups) > 1 and v in before:
            groups = {group_of_node[before[v]]}
        members += [(g, v) for g in sorted(groups)]
    return members


def shares(
    group: npt.NDArray[np.int64], members: Sequence[tuple[int, int]], weights: FloatArray
) -> Attribution:
    """Divide the kernels' groups among their (group, node) members in proportion to the weights."""
    pairs = np.array(members, dtype=np.int64).reshape(-1, 2)
    copies = np.bincount(pairs[:, 1], minlength=len(weights))
    # Nodes that never showed up as a kernel weigh a trifle, so that a group of such nodes still divides.
    floor = max(float(weights.max(initial=0.0)), 1.0) * 1e-9
    weight = np.maximum(weights[pairs[:, 1]], floor) / copies[pairs[:, 1]]
    totals = np.bincount(pairs[:, 0], weights=weight)
    return Attribution(group, pairs[:, 0], pairs[:, 1], weight / totals[pairs[:, 0]], len(weights))
