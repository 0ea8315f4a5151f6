"""Limits on size, depth and complexity of a model; what exceeds one is refused with one line.

The limits are far above real models and far below what would exhaust time or memory: a file of two bytes per
empty node would otherwise cost a thousand times its size.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

import onnx

from onnx_pipeline.errors import InputError

#: A protobuf message cannot be larger; models above it keep their weights outside.
MAX_PROTO_BYTES = (1 << 31) - 1
#: Nodes, values, tensors and attributes of a model, everything nested included.
MAX_ELEMENTS = 1_000_000
#: Single numbers in the lists that attributes hold (tree ensembles have many).
MAX_NUMBERS = 20_000_000
#: Graphs inside nodes inside graphs ...; protobuf itself ends at 32.
MAX_NESTING = 24
#: Nodes after all calls of local functions have been replaced by their bodies, as onnxruntime does.
MAX_INLINED_NODES = 1_000_000
#: Dense bytes of all sparse tensors together.
MAX_SPARSE_BYTES = 1 << 28
#: Of a run that only finds out shapes, for models with a Loop.
MAX_LOOP_SECONDS = 6
#: Of the first run with certain inputs, for models with a Loop.
MAX_TRIAL_SECONDS = 30
#: Of one value; beyond, sums of bytes would not fit into the integers of the cost graph.
MAX_VALUE_BYTES = 1 << 50
#: Rank of a tensor.
MAX_RANK = 64

#: Fields that hold messages, by kind of message: field number -> kind. Weights (raw data) are skipped whole.
_CHILDREN: Mapping[str, Mapping[int, str]] = {
    "model": {7: "graph", 25: "function", 8: "leaf", 14: "leaf", 20: "leaf", 26: "leaf"},
    "graph": {1: "node", 5: "tensor", 11: "leaf", 12: "leaf", 13: "leaf", 14: "leaf", 15: "leaf", 16: "leaf"},
    "function": {7: "node", 4: "leaf", 5: "leaf", 6: "leaf", 9: "leaf", 11: "leaf", 12: "leaf", 14: "leaf"},
    "node": {1: "leaf", 2: "leaf", 5: "attribute", 9: "leaf", 10: "leaf"},
    "attribute": {5: "tensor", 6: "graph", 9: "leaf", 10: "tensor", 11: "graph", 15: "leaf", 23: "leaf"},
    "tensor": {13: "leaf", 16: "leaf"},
}
#: Files up to this size cannot hold enough to matter and are not scanned before they are parsed.
_UNSCANNED_BYTES = 1 << 20


def check_elements(path: Path, data: bytes) -> None:
    """Count the elements of a serialised model before anything is built from it.

    Malformed data is left to the parser, which reports it.

    Raises
    ------
    InputError
        Above :data:`MAX_ELEMENTS`.
    """
    if len(data) <= _UNSCANNED_BYTES:
        return
    count = numbers = 0
    waiting = [("model", 0, len(data))]
    while waiting:
        kind, at, end = waiting.pop()
        children = _CHILDREN[kind]
        while at < end:
            key, at = _varint(data, at)
            wire, field = key & 7, key >> 3
            if wire == 0:
                _, at = _varint(data, at)
                numbers += 1
            elif wire == 1:
                at += 8
            elif wire == 5:
                at += 4
                numbers += 1
            elif wire == 2:
                size, at = _varint(data, at)
                child = children.get(field)
                if child is not None:
                    count += 1
                    if child != "leaf":
                        waiting.append((child, at, min(at + size, end)))
                at += size
            else:
                return
            if count > MAX_ELEMENTS or numbers > MAX_NUMBERS:
                most = (
                    f"{MAX_ELEMENTS:,} nodes, values and attributes or {MAX_NUMBERS:,} numbers in attributes"
                )
                raise InputError(path, f"the model has more than {most}")


def check_functions(path: Path, proto: onnx.ModelProto) -> None:
    """Refuse local functions that call themselves, or that grow beyond measure when they are inlined.

    Raises
    ------
    InputError
        For recursion and above :data:`MAX_INLINED_NODES`.
    """
    if not proto.functions:
        return
    bodies = {(_domain(f.domain), f.name, f.overload): f for f in proto.functions}
    sizes: dict[tuple[str, str, str], int] = {}
    open_calls: set[tuple[str, str, str]] = set()

    def size(nodes: Iterable[onnx.NodeProto]) -> int:
        total = 0
        for node in nodes:
            key = (_domain(node.domain), node.op_type, node.overload)
            total += function_size(key) if key in bodies else 1
            for attribute in node.attribute:
                for graph in (*((attribute.g,) if attribute.HasField("g") else ()), *attribute.graphs):
                    total += size(graph.node)
            if total > MAX_INLINED_NODES:
                raise InputError(path, f"the local functions expand to more than {MAX_INLINED_NODES:,} nodes")
        return total

    def function_size(key: tuple[str, str, str]) -> int:
        if key in open_calls:
            raise InputError(path, f"the local function {key[1]!r} calls itself")
        if len(open_calls) > 4 * MAX_NESTING:
            raise InputError(path, f"local functions call each other more than {4 * MAX_NESTING} deep")
        if key not in sizes:
            open_calls.add(key)
            sizes[key] = size(bodies[key].node)
            open_calls.discard(key)
        return sizes[key]

    for key in bodies:
        function_size(key)
    size(proto.graph.node)


def _domain(text: str) -> str:
    return "" if text == "ai.onnx" else text


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while at < len(data):
        byte = data[at]
        at += 1
        value |= (byte & 127) << shift
        if byte < 128:
            break
        shift += 7
        if shift > 63:
            break
    return value, at
