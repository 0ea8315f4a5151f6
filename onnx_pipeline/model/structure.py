"""The structure of a model as it lies in the file: names, domains, order, cycles."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import onnx

from onnx_pipeline.errors import InputError
from onnx_pipeline.model.limits import MAX_NESTING, check_functions

#: The first version with operator sets.
MIN_IR_VERSION = 3


def check_structure(path: Path, proto: onnx.ModelProto) -> bool:
    """Check names and domains; return whether the nodes are in topological order."""
    if not proto.HasField("graph"):
        raise InputError(path, "this is not an ONNX model: it has no graph")
    if not proto.opset_import:
        raise InputError(path, "the model imports no operator set, it may be truncated")
    if not MIN_IR_VERSION <= proto.ir_version <= onnx.IR_VERSION:
        known = f"onnx {_version()} reads {MIN_IR_VERSION} to {onnx.IR_VERSION}"
        raise InputError(path, f"the model has IR version {proto.ir_version}; {known}")
    for entry in proto.opset_import:
        if not 1 <= entry.version < 1 << 31:
            raise InputError(path, f"operator set {entry.domain!r} has version {entry.version}")
    if not proto.graph.output:
        raise InputError(path, "the model has no outputs")
    outputs = [output.name for output in proto.graph.output]
    if len(set(outputs)) < len(outputs):
        twice = next(name for name in outputs if outputs.count(name) > 1)
        raise InputError(path, f"output {twice!r} is listed twice")
    check_functions(path, proto)
    domains = {o.domain if o.domain != "ai.onnx" else "" for o in proto.opset_import}
    free, is_sorted = _scan(path, proto.graph, domains)
    for name, reader in free.items():
        raise InputError(path, f"{reader} reads {name!r}, which nothing produces")
    for function in proto.functions:
        inside = {o.domain if o.domain != "ai.onnx" else "" for o in function.opset_import}
        body = onnx.GraphProto(name=function.name, node=function.node)
        body.input.extend(onnx.ValueInfoProto(name=name) for name in function.input)
        body.output.extend(onnx.ValueInfoProto(name=name) for name in function.output)
        free, _ = _scan(path, body, inside | domains)
        for name, reader in free.items():
            where = f"in function {function.name!r}"
            raise InputError(path, f"{where}: {reader} reads {name!r}, which nothing produces")
    return is_sorted


def _version() -> str:
    return ".".join(onnx.__version__.split(".")[:2])


def node_on_cycle(graph: onnx.GraphProto) -> str:
    """Describe a node that never becomes ready; called for cyclic graphs only."""
    seen = {v.name for v in graph.input} | {t.name for t in graph.initializer}
    produced = {name for node in graph.node for name in node.output}
    waiting = list(graph.node)
    while True:
        stuck = [n for n in waiting if any(x in produced and x not in seen for x in _reads(n))]
        if len(stuck) == len(waiting):
            return _describe(_walk_back(stuck))
        for node in waiting:
            if not any(x in produced and x not in seen for x in _reads(node)):
                seen.update(node.output)
        waiting = stuck


def _describe(node: onnx.NodeProto) -> str:
    name = node.name or next((o for o in node.output if o), "")
    return f"node {name!r} ({node.op_type})"


def _subgraphs(node: onnx.NodeProto) -> Iterator[onnx.GraphProto]:
    for attribute in node.attribute:
        if attribute.HasField("g"):
            yield attribute.g
        yield from attribute.graphs


def _scan(
    path: Path, graph: onnx.GraphProto, domains: set[str], depth: int = 0
) -> tuple[dict[str, str], bool]:
    """Return the names that a graph reads from outside, each with a reader, and whether it is sorted."""
    if depth > MAX_NESTING:
        raise InputError(path, f"subgraphs are nested more than {MAX_NESTING} deep")
    seen: set[str] = set()
    defined = [v.name for v in graph.input]
    if len(set(defined)) < len(defined):
        raise InputError(path, f"graph {graph.name!r} has two inputs of the same name")
    initializers = [t.name for t in graph.initializer]
    if len(set(initializers)) < len(initializers):
        raise InputError(path, f"graph {graph.name!r} has two initializers of the same name")
    seen.update(defined, initializers)
    free: dict[str, str] = {}
    early: dict[str, str] = {}
    is_sorted = True
    for node in graph.node:
        if (node.domain if node.domain != "ai.onnx" else "") not in domains:
            raise InputError(path, f"{_describe(node)} uses domain {node.domain!r}, which is not imported")
        reads = {name: _describe(node) for name in node.input if name}
        for sub in _subgraphs(node):
            inner, inner_sorted = _scan(path, sub, domains, depth + 1)
            reads.update(inner)
            is_sorted &= inner_sorted
        early.update((name, reader) for name, reader in reads.items() if name not in seen)
        for name in node.output:
            if name and name in seen:
                raise InputError(
                    path, f"value {name!r} is defined twice, the second time by {_describe(node)}"
                )
            seen.add(name)
    for name, reader in early.items():
        if name in seen:
            is_sorted = False
        else:
            free[name] = reader
    for output in graph.output:
        if output.name not in seen:
            free.setdefault(output.name, f"the output list of graph {graph.name!r}")
    return free, is_sorted


def _reads(node: onnx.NodeProto) -> set[str]:
    """Names that a node or anything nested in it reads; a superset of what it captures."""
    inner = {x for sub in _subgraphs(node) for n in sub.node for x in _reads(n)}
    return {x for x in node.input if x} | inner


def _walk_back(stuck: Sequence[onnx.NodeProto]) -> onnx.NodeProto:
    """Follow producers among stuck nodes until one repeats: that one is on a cycle."""
    producer = {x: node for node in stuck for x in node.output if x}
    visited: list[onnx.NodeProto] = []
    node = stuck[0]
    while all(node is not other for other in visited):
        visited.append(node)
        node = next((producer[x] for x in sorted(_reads(node)) if x in producer), node)
    return node
