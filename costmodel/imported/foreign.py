"""Costs measured elsewhere: profiles that other tools, or onnxruntime on another machine, have written.

Each layer of such a profile names nodes or tensors of the model, alone or several that were fused. A layer's
time is divided among the nodes it stands for by their computed costs; nodes that no layer names were fused
into the layers that need them. Layers that name nothing of the model are listed, with their times. Nodes
that no layer needs are priced like the others, by computed costs; a file that leaves out most is refused.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from onnx_pipeline.costmodel.imported.layers import Layer, read_layers
from onnx_pipeline.costmodel.profiling.mapping import (
    Attribution,
    FloatArray,
    GraphNode,
    attribute,
    original_nodes,
)
from onnx_pipeline.costmodel.request import CostModel, CostRequest, NodeCosts
from onnx_pipeline.errors import InputError
from onnx_pipeline.figures import format_count, format_seconds
from onnx_pipeline.graph.ticks import NS

BoolArray = npt.NDArray[np.bool_]

#: Below this share of the measured time that belongs to nodes of the model, the file is of another model.
MIN_SHARE = 0.5
#: Fusion leaves one name for several nodes, but not for more than about twenty.
MIN_NAMED = 0.05
_SHOWN = 10
_RANGE = re.compile(r"\[(?P<first>[^\[\]]+?)\.\.\.(?P<last>[^\[\]]+?)\]")
_COPY = re.compile(r"^Reformatting CopyNode for (?:Input|Output) Tensor \d+ (?:to|of) ")
_WRAPPER = re.compile(r"^(?:PWN|__myl\w*|\{?ForeignNode)\(?(?P<inner>.*?)[)}]*$")
_SEPARATORS = re.compile(r"\s*(?:\+|\|\||,)\s+|\s+\|\|\s*")


def read_foreign(path: Path) -> CostModel | None:
    """Return the cost model of another tool's profile, or None if the file is something else.

    Raises
    ------
    InputError
        If the file is such a profile, but malformed or without any time; later, from the cost model, if
        it belongs to another model.
    """
    found = read_layers(path)
    if found is None:
        return None
    kind, layers = found
    if not sum(layer.seconds for layer in layers) > 0:
        raise InputError(path, f"a profile of {kind} in which no layer took time")

    def imported(request: CostRequest) -> NodeCosts:
        """Divide the layers' times among the model's nodes."""
        return _attribute(path, kind, layers, request)

    return imported


def _attribute(path: Path, kind: str, layers: Sequence[Layer], request: CostRequest) -> NodeCosts:
    nodes = original_nodes(request.nodes)
    names = _Names(nodes)
    kernels = [GraphNode(layer.op, layer.name, (), names.outputs(layer.name)) for layer in layers]
    weights = _weights(request)
    mapping = attribute(kernels, nodes, weights)
    seconds = np.array([[layer.seconds for layer in layers]])
    share = mapping.placed_share(seconds)
    lost: dict[str, float] = defaultdict(float)
    for layer, group in zip(layers, mapping.group, strict=True):
        if group < 0:
            lost[layer.name] += layer.seconds
    if share < MIN_SHARE:
        some = ", ".join(sorted(lost, key=lambda name: -lost[name])[:3])
        raise InputError(
            path,
            f"only {100 * share:.0f} % of its time matches nodes of {request.source.path.name} "
            f"(unmatched: {some}): is it a profile of this model?",
        )
    covered = _covered(path, names, kernels, mapping, weights)
    times = mapping.apply(seconds)[0]
    times[~covered] = weights[~covered] * (times[covered].sum() / weights[covered].sum())
    # The unmatched time is spent somewhere: it is spread over all nodes in proportion.
    total = round(float(seconds.sum()) / times[covered].sum() * times.sum() * NS)
    edges = np.rint(np.concatenate([[0.0], np.cumsum(times)]) / times.sum() * total).astype(np.int64)
    work = {node.name: int(x) for node, x in zip(nodes, np.diff(edges), strict=True)}
    meta = {
        "source": kind,
        "file": path.name,
        "dims": dict(request.dims),
        "layers": len(layers),
        "mapped_share": share,
        "unmatched_layers": dict(_largest(lost)),
        "seconds_per_inference": total / NS,
    }
    if not covered.all():
        meta["nodes_without_time"] = int(np.count_nonzero(~covered))
    for note in _notes(path, lost, covered, float(times[~covered].sum() / times.sum())):
        request.progress("note", None, note)
    return NodeCosts("file", work, meta)


def _notes(path: Path, lost: Mapping[str, float], covered: BoolArray, computed: float) -> Iterator[str]:
    """Say which layers match nothing, and what share of the total is computed because no layer covers it."""
    if lost:
        shown = ", ".join(f"{name} ({format_seconds(s)})" for name, s in _largest(lost)[:_SHOWN])
        more = f" and {len(lost) - _SHOWN} more" if len(lost) > _SHOWN else ""
        layers = format_count(len(lost), "layer")
        match = "matches" if len(lost) == 1 else "match"
        yield f"{layers} of {path.name} {match} no node of the model: {shown}{more}"
    if not covered.all():
        missing = f"{np.count_nonzero(~covered)} of the model's {len(covered)} nodes"
        yield f"{path.name} has no time for {missing}: they are computed, {100 * computed:.0f} % of the work"


def _covered(
    path: Path, names: _Names, kernels: Sequence[GraphNode], mapping: Attribution, weights: FloatArray
) -> BoolArray:
    """Return which nodes some layer stands for; a profile of a small part of the model is refused."""
    covered = np.zeros(mapping.num_nodes, dtype=bool)
    covered[mapping.member_node] = True
    named = len({names.index[value] for kernel in kernels for value in kernel.writes})
    share = float(weights[covered].sum() / weights.sum())
    if named < MIN_NAMED * mapping.num_nodes or share < MIN_SHARE:
        raise InputError(
            path,
            f"it has times for only {named} of the model's {mapping.num_nodes} nodes, "
            f"{100 * share:.0f} % of its work by computed costs: is it a profile of the whole model?",
        )
    return covered


def _largest(seconds: Mapping[str, float]) -> list[tuple[str, float]]:
    return sorted(seconds.items(), key=lambda item: (-item[1], item[0]))


def _weights(request: CostRequest) -> FloatArray:
    """Relative costs, computed ones: they divide a fused layer, and none is zero."""
    from onnx_pipeline.costmodel.computed.analytic import analytic

    costs = analytic(request)
    weights = np.array([costs.work_ns[str(node.name)] for node in request.nodes], dtype=np.float64)
    floor: FloatArray = np.maximum(weights, max(float(weights.max(initial=0.0)), 1.0) * 1e-9)
    return floor


class _Names:
    """Finds the nodes that a layer's name stands for."""

    def __init__(self, nodes: Sequence[GraphNode]) -> None:
        self.nodes = nodes
        self.index = {value: v for v, node in enumerate(nodes) for value in node.writes}
        self.index |= {node.name: v for v, node in enumerate(nodes) if node.name}
        producer = {value: v for v, node in enumerate(nodes) for value in node.writes}
        self.parents = [[producer[value] for value in node.reads if value in producer] for node in nodes]

    def outputs(self, layer: str) -> tuple[str, ...]:
        """Return the outputs of every node in the layer, () if there is none."""
        found = sorted(set(self._members(layer)))
        return tuple(value for v in found for value in self.nodes[v].writes)

    def _members(self, text: str) -> Iterator[int]:
        text = _COPY.sub("", text.strip())
        if text in self.index:
            yield self.index[text]
            return
        span = _RANGE.search(text)
        if span is not None:
            ends = [self.index.get(span[end].strip()) for end in ("first", "last")]
            if ends[0] is not None and ends[1] is not None:
                yield from self._between(ends[0], ends[1])
                return
        parts = [part for part in _SEPARATORS.split(text) if part]
        if len(parts) > 1:
            for part in parts:
                yield from self._members(part)
            return
        wrapped = _WRAPPER.match(text)
        if wrapped is not None and wrapped["inner"] and wrapped["inner"] != text:
            yield from self._members(wrapped["inner"])
            return
        bare = text.strip("(){} ")
        if bare and bare != text:
            yield from self._members(bare)

    def _between(self, first: int, last: int) -> set[int]:
        """Return the nodes on paths from one node to the other, both included."""
        after = {first}
        for v in range(first + 1, last + 1):
            if any(u in after for u in self.parents[v]):
                after.add(v)
        before = {last}
        for v in range(last, first, -1):
            if v in before:
                before.update(self.parents[v])
        return (after & before) | {first, last}
