"""Computed costs: a roofline over operations and bytes, for models that cannot be run here.

References
----------
Williams, Waterman, Patterson, *Roofline: an insightful visual performance model for multicore
architectures*, CACM 52(4), 2009.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from onnx_pipeline.costmodel.computed.flops import (
    QUANTISABLE,
    QUANTISED,
    RULES,
    Operation,
    UnknownShapeError,
    moved_bytes,
)
from onnx_pipeline.costmodel.request import CostRequest, NodeCosts
from onnx_pipeline.graph.ticks import NS

if TYPE_CHECKING:
    import onnx_ir

    from onnx_pipeline.model.shapes import TensorInfo

_STANDARD_DOMAINS = ("", "ai.onnx", "com.microsoft")


def analytic(request: CostRequest) -> NodeCosts:
    """Price every node at ``max(operations / peak, bytes / memory bandwidth) + launch overhead``.

    Where the device has a rate of an operator's own, that replaces the peak.

    An operator without a rule, or with shapes that are not known, is priced by the bytes it moves; a node
    with subgraphs or a model-local function by its body. Both are listed in ``estimated``.
    """
    pricer = _Pricer(request)
    work = {str(node.name): pricer.seconds(node) * NS for node in request.nodes}
    meta = {
        "device": request.device.name,
        "dims": dict(request.dims),
        "flops": sum(_flops(Operation(node, request.infos)) or 0.0 for node in request.nodes),
        "seconds_per_inference": sum(work.values()) / NS,
        "estimated_operators": sorted(pricer.estimated),
    }
    return NodeCosts("analytic", work, meta, tuple(sorted(pricer.estimated)))


def _flops(op: Operation) -> float | None:
    """Operations of a node, or None without a rule or the shapes it needs."""
    rule = RULES.get(op.node.op_type) if op.node.domain in _STANDARD_DOMAINS else None
    try:
        return None if rule is None else rule(op)
    except (UnknownShapeError, IndexError, ValueError):  # shapes that are unknown or do not fit the operator
        return None


@dataclass
class _Pricer:
    """Prices nodes and remembers which operators it had to estimate."""

    request: CostRequest
    estimated: set[str] = field(default_factory=set)

    def seconds(self, node: onnx_ir.Node) -> float:
        """Seconds of one node."""
        device, op = self.request.device, Operation(node, self.request.infos)
        body = self._body(node)
        if body is not None:
            self.estimated.add(node.op_type)
            return device.launch_overhead + body
        if _fused_away(node):
            return 0.0
        flops = _flops(op)
        if flops is None:
            self.estimated.add(node.op_type)
        moved = moved_bytes(op)
        own = device.operator_rates.get(_kind(op))
        compute = (flops or moved) / own if own else (flops or 0.0) / device.flops(_element_type(op))
        return max(compute, moved / device.memory_bandwidth) + device.launch_overhead

    def _body(self, node: onnx_ir.Node) -> float | None:
        """Seconds of what a node contains, or None for an ordinary one."""
        from onnx_pipeline.model.nodes import node_graphs

        function = self.request.source.ir.functions.get(node.op_identifier())
        if function is not None:
            return self._sum(function)
        graphs = list(node_graphs(node))
        if not graphs:
            return None
        if node.op_type == "If":  # one branch runs
            return max(self._sum(graph) for graph in graphs)
        return _iterations(node, self.request) * sum(self._sum(graph) for graph in graphs)

    def _sum(self, nodes: Iterable[onnx_ir.Node]) -> float:
        return sum(self.seconds(node) for node in nodes if node.op_type != "Constant")


def _fused_away(node: onnx_ir.Node) -> bool:
    """Whether a node only prepares arithmetic on bytes: no kernel of its own remains."""
    if node.op_type != "DequantizeLinear" or node.domain not in _STANDARD_DOMAINS:
        return False
    readers = [use.node for value in node.outputs for use in value.uses()]
    return bool(readers) and all(_on_bytes(reader) for reader in readers)


def _on_bytes(node: onnx_ir.Node) -> bool:
    """Whether the first two operands of a product have just been dequantised."""
    if node.op_type not in QUANTISABLE:
        return False
    producers = [None if value is None else value.producer() for value in node.inputs[:2]]
    return len(producers) == 2 and all(p is not None and p.op_type == "DequantizeLinear" for p in producers)


def _iterations(node: onnx_ir.Node, request: CostRequest) -> int:
    """Trip count of a loop where it is a constant or the length of a scanned tensor, else 1."""
    if node.op_type == "Loop" and node.inputs and node.inputs[0] is not None:
        limit = _constant(node.inputs[0])
        # A limit of billions stands for "until the condition fails".
        return limit if limit is not None and 0 <= limit < 1 << 24 else 1
    if node.op_type == "Scan" and node.inputs:
        info = Operation(node, request.infos).info(node.inputs[-1])
        return info.shape[0] if info is not None and info.shape else 1
    return 1


def _constant(value: onnx_ir.Value) -> int | None:
    tensor = value.const_value
    producer = value.producer()
    if tensor is None and producer is not None and producer.op_type == "Constant":
        for name, read in (("value", "as_tensor"), ("value_int", "as_int")):
            if name in producer.attributes:
                held = getattr(producer.attributes[name], read)()
                return int(held if name == "value_int" else held.numpy().item())
    return None if tensor is None or tensor.size != 1 else int(tensor.numpy().item())


def _element_type(op: Operation) -> str:
    """Type whose rate counts: that of the first floating-point value, bytes for quantised arithmetic."""
    if op.node.op_type in QUANTISED or _on_bytes(op.node):
        return "int8"
    names = [_RATES[info.dtype.name] for info in _infos(op) if info.dtype.name in _RATES]
    return next((name for name in names if name != "int8"), names[0] if names else "float32")


def _kind(op: Operation) -> str:
    """Key of an operator's own rate."""
    name = op.node.op_type
    if name in QUANTISED or _on_bytes(op.node):
        return f"{name.removeprefix('QLinear').removesuffix('Integer')}.int8"
    return f"{name}.depthwise" if name == "Conv" and op.attribute("group", 1) > 1 else name


def _infos(op: Operation) -> Iterator[TensorInfo]:
    for value in (*op.node.outputs, *op.node.inputs):
        info = op.info(value)
        if info is not None:
            yield info


_RATES = {
    "FLOAT": "float32",
    "DOUBLE": "float64",
    "FLOAT16": "float16",
    "BFLOAT16": "bfloat16",
    "INT8": "int8",
    "UINT8": "int8",
}
