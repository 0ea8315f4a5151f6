"""Cost graphs on disk: COSTS.json (our own format) and the MSR device-placement JSON.

References
----------
Tarnawski et al., *Efficient Algorithms for Device Placement of DNN Graph Operators*, NeurIPS 2020
(repository msr-fiddle/dnn-partitioning) defines the MSR format.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from onnx_pipeline.errors import InputError
from onnx_pipeline.graph.builder import GraphBuilder
from onnx_pipeline.graph.costgraph import HOST, CostGraph

FORMAT = "onnx-pipeline/costs"
FORMAT_VERSION = 1
_NS_PER_MS = 1_000_000


def read_graph(path: str | os.PathLike[str], *, ignore_colocation: bool = False) -> CostGraph:
    """Read a cost graph from COSTS.json or from the MSR JSON format.

    Parameters
    ----------
    path : path-like
        The file; its content decides the format.
    ignore_colocation : bool
        Drop the file's colocation groups (``colorClass``).

    Raises
    ------
    InputError
        If the file cannot be read or is neither format; the message names the entry at fault.
    """
    document = read_json(path)
    if not isinstance(document, dict):
        raise InputError(path, "expected a JSON object at the top: COSTS.json or the MSR format")
    if document.get("format") == FORMAT:
        return graph_from_json(document, source=os.fspath(path), ignore_colocation=ignore_colocation)
    if "nodes" in document and "edges" in document:
        return _from_msr(document, Path(path), ignore_colocation)
    raise InputError(
        path,
        f'neither COSTS.json ("format": "{FORMAT}") nor the MSR format ("nodes" and "edges"); '
        "make one with `onnx-pipeline profile MODEL -o COSTS.json`",
    )


def read_json(path: str | os.PathLike[str]) -> Any:
    """Read any JSON file; an unreadable or malformed one is an InputError with the place."""
    try:
        text = Path(path).read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise InputError(path, "not a text file; expected JSON") from None
    except OSError as error:
        raise InputError(path, f"cannot be read: {(error.strerror or str(error)).lower()}") from None
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise InputError(path, f"not valid JSON: {error.msg} at line {error.lineno}") from None
    except RecursionError:
        raise InputError(path, "JSON nested too deeply") from None


def write_graph(graph: CostGraph, path: str | os.PathLike[str]) -> None:
    """Write COSTS.json; :func:`read_graph` gives the same graph back."""
    Path(path).write_text(json.dumps(graph_to_json(graph), indent=1) + "\n", encoding="utf-8")


def graph_to_json(graph: CostGraph) -> dict[str, Any]:
    """Return the COSTS.json document: times in integer nanoseconds, sizes in bytes."""
    names = graph.node_names
    nodes: list[dict[str, Any]] = []
    for v, name in enumerate(names):
        entry: dict[str, Any] = {"name": name, "work_ns": int(graph.work[v])}
        if graph.onnx_nodes[v] != (name,):
            entry["onnx_nodes"] = list(graph.onnx_nodes[v])
        if graph.colocation[v] >= 0:
            entry["colocation"] = int(graph.colocation[v])
        if graph.pinned[v] >= 0:
            entry["stage"] = int(graph.pinned[v])
        nodes.append(entry)
    tensors: list[dict[str, Any]] = []
    for t, tensor in enumerate(graph.net_names):
        producer = int(graph.net_producer[t])
        entry = {
            "name": tensor,
            "producer": None if producer == HOST else names[producer],
            "consumers": [names[v] for v in graph.consumers(t)],
            "bytes": int(graph.net_bytes[t]),
            "to_host": bool(graph.net_to_host[t]),
        }
        if graph.net_time is not None:
            entry["time_ns"] = int(graph.net_time[t])
        if graph.net_extra is not None and graph.net_extra[t]:
            entry["border_ns"] = int(graph.net_extra[t])
        tensors.append(entry)
    return {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "name": graph.name,
        "meta": dict(graph.meta),
        "nodes": nodes,
        "tensors": tensors,
        "parameters": [
            {
                "name": group,
                "bytes": int(graph.group_bytes[g]),
                "nodes": [names[v] for v in graph.group_members(g)],
            }
            for g, group in enumerate(graph.group_names)
        ],
    }


class _Fields:
    """Typed access to JSON objects, with errors that say where."""

    def __init__(self, source: str | None) -> None:
        self.source = source

    def fail(self, where: str, what: str) -> InputError:
        return InputError(self.source, f"{where}: {what}")

    def items(self, document: Mapping[str, Any], key: str) -> list[tuple[str, dict[str, Any]]]:
        """Return the objects of a list with their places."""
        values = document.get(key)
        if not isinstance(values, list):
            raise self.fail(key, "expected a list")
        for i, value in enumerate(values):
            if not isinstance(value, dict):
                raise self.fail(f"{key}[{i}]", "expected an object")
        return [(f"{key}[{i}]", value) for i, value in enumerate(values)]

    def text(self, entry: Mapping[str, Any], key: str, where: str) -> str:
        value = entry.get(key)
        if not isinstance(value, str):
            raise self.fail(where, f"{key!r} must be a string, got {value!r}")
        return value

    def number(self, entry: Mapping[str, Any], key: str, where: str) -> float:
        value = entry.get(key)
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise self.fail(where, f"{key!r} must be a number, got {value!r}")
        if not 0 <= value < 2**62 or math.isnan(value):
            raise self.fail(where, f"{key!r} must be a finite number >= 0, got {value!r}")
        return value

    def count(self, entry: Mapping[str, Any], key: str, where: str) -> int:
        value = self.number(entry, key, where)
        if not isinstance(value, int):
            raise self.fail(where, f"{key!r} must be an integer, got {value!r}")
        return value


def graph_from_json(
    document: Mapping[str, Any], *, source: str | None = None, ignore_colocation: bool = False
) -> CostGraph:
    """Read the document of :func:`graph_to_json`."""
    fields = _Fields(source)
    if document.get("format_version") != FORMAT_VERSION:
        raise fields.fail(
            "format_version", f"this release reads version {FORMAT_VERSION}, not another; profile again"
        )
    meta = document.get("meta", {})
    if not isinstance(meta, dict):
        raise fields.fail("meta", "expected an object")
    builder = GraphBuilder(str(document.get("name", "")), source=source, meta=meta)
    index: dict[str, int] = {}
    for where, entry in fields.items(document, "nodes"):
        name = fields.text(entry, "name", where)
        if name in index:
            raise fields.fail(where, f"two nodes are called {name!r}")
        colocation = -1
        if "colocation" in entry and not ignore_colocation:
            colocation = fields.count(entry, "colocation", where)
        onnx_nodes = entry.get("onnx_nodes")
        if onnx_nodes is not None and not _strings(onnx_nodes):
            raise fields.fail(where, "'onnx_nodes' must be a list of strings")
        index[name] = builder.add_node(
            name,
            fields.count(entry, "work_ns", where),
            colocation=colocation,
            pinned=fields.count(entry, "stage", where) if "stage" in entry else -1,
            onnx_nodes=onnx_nodes,
        )

    def node(name: object, where: str) -> int:
        if not isinstance(name, str) or name not in index:
            raise fields.fail(where, f"unknown node {name!r}")
        return index[name]

    def nodes(entry: Mapping[str, Any], key: str, where: str) -> list[int]:
        names = entry.get(key)
        if not isinstance(names, list):
            raise fields.fail(where, f"{key!r} must be a list of node names")
        return [node(name, where) for name in names]

    for where, entry in fields.items(document, "tensors"):
        producer = entry.get("producer")
        builder.add_net(
            fields.text(entry, "name", where),
            HOST if producer is None else node(producer, where),
            nodes(entry, "consumers", where),
            nbytes=fields.count(entry, "bytes", where),
            to_host=entry.get("to_host") is True,
            time=fields.count(entry, "time_ns", where) if "time_ns" in entry else None,
            extra=fields.count(entry, "border_ns", where) if "border_ns" in entry else 0,
        )
    for where, entry in fields.items(document, "parameters"):
        builder.add_group(
            fields.text(entry, "name", where),
            fields.count(entry, "bytes", where),
            nodes(entry, "nodes", where),
        )
    return builder.build()


def _strings(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(x, str) for x in value)


def _from_msr(document: Mapping[str, Any], path: Path, ignore_colocation: bool) -> CostGraph:
    """Read an MSR inference workload: one tensor per node, times given, nothing from or to the host."""
    fields = _Fields(os.fspath(path))
    meta: dict[str, Any] = {"kind": "msr", "host_io": False}
    if "maxSizePerFPGA" in document:
        meta["file_memory_bytes"] = int(fields.number(document, "maxSizePerFPGA", "top level"))
    builder = GraphBuilder(path.stem, source=os.fspath(path), meta=meta)
    entries = fields.items(document, "nodes")
    index: dict[int, int] = {}
    names = [str(entry.get("name", entry.get("id"))) for _, entry in entries]
    unique = len(set(names)) == len(names)
    for (where, entry), name in zip(entries, names, strict=True):
        key = fields.count(entry, "id", where)
        if key in index:
            raise fields.fail(where, f"node id {key} repeats")
        if entry.get("isBackwardNode"):
            raise fields.fail(where, "a backward node: training workloads are not supported")
        colour = entry.get("colorClass")
        colocation = -1
        if colour is not None and not ignore_colocation:
            colocation = fields.count(entry, "colorClass", where)
        work = int(fields.number(entry, "fpgaLatency", where) * _NS_PER_MS)
        index[key] = v = builder.add_node(name if unique else f"{name}#{key}", work, colocation=colocation)
        size = int(fields.number(entry, "size", where)) if "size" in entry else 0
        if size:
            builder.add_group(f"size of {name}#{key}", size, [v])
    consumers: dict[int, list[int]] = {}
    cost: dict[int, float] = {}
    nbytes: dict[int, int] = {}
    for where, entry in fields.items(document, "edges"):
        ends = [fields.count(entry, key, where) for key in ("sourceId", "destId")]
        for end in ends:
            if end not in index:
                raise fields.fail(where, f"unknown node id {end}")
        source, dest = index[ends[0]], index[ends[1]]
        time = fields.number(entry, "cost", where)
        if cost.setdefault(source, time) != time:
            raise fields.fail(where, f"out-edges of node {ends[0]} differ in cost; expected one output each")
        nbytes[source] = int(fields.number(entry, "size", where)) if "size" in entry else 0
        consumers.setdefault(source, []).append(dest)
    for source, readers in consumers.items():
        builder.add_net(
            f"{builder.node_name(source)}:out",
            source,
            readers,
            nbytes=nbytes[source],
            time=int(cost[source] * _NS_PER_MS),
        )
    return builder.build()
