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
from onnx_pipeline.files.json import read_json
from onnx_pipeline.files.kinds import refuse_other
from onnx_pipeline.graph.builder import GraphBuilder
from onnx_pipeline.graph.costgraph import HOST, CostGraph, TensorType
from onnx_pipeline.graph.fields import Fields
from onnx_pipeline.graph.msr import from_msr
from onnx_pipeline.graph.target import INFEASIBLE
from onnx_pipeline.graph.ticks import NS, TICKS

FORMAT = "onnx-pipeline/costs"

FORMAT_VERSION = 1


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
    refuse_other(path, "costs")
    document = read_json(path)
    if not isinstance(document, dict):
        raise InputError(path, "expected a JSON object at the top: COSTS.json or the MSR format")
    if document.get("format") == FORMAT:
        return graph_from_json(document, source=os.fspath(path), ignore_colocation=ignore_colocation)
    if "nodes" in document and "edges" in document:
        return from_msr(document, Path(path), ignore_colocation)
    raise InputError(
        path,
        f'neither COSTS.json ("format": "{FORMAT}") nor the MSR format ("nodes" and "edges")',
        "`profile` makes the first",
    )


def write_graph(graph: CostGraph, path: str | os.PathLike[str]) -> None:
    """Write COSTS.json; :func:`read_graph` gives the same graph back."""
    Path(path).write_text(json.dumps(graph_to_json(graph), indent=1) + "\n", encoding="utf-8")


def graph_to_json(graph: CostGraph) -> dict[str, Any]:
    """Return the COSTS.json document: times in nanoseconds, sizes in bytes."""
    names = graph.node_names

    def ns(ticks: int) -> float:
        nanoseconds = ticks * NS / graph.ticks_per_second
        return int(nanoseconds) if nanoseconds.is_integer() else nanoseconds

    nodes: list[dict[str, Any]] = []
    for v, name in enumerate(names):
        entry: dict[str, Any] = {"name": name, "work_ns": ns(int(graph.work[v]))}
        if graph.operators is not None and graph.operators[v]:
            entry["operator"] = graph.operators[v]
        if graph.onnx_nodes[v] != (name,):
            entry["onnx_nodes"] = list(graph.onnx_nodes[v])
        if graph.colocation[v] >= 0:
            entry["colocation"] = int(graph.colocation[v])
        if graph.pinned[v] >= 0:
            entry["stage"] = int(graph.pinned[v])
        if graph.work_on is not None:
            times = {kind: int(work[v]) for kind, work in graph.work_on.items()}
            entry["work_on_ns"] = {k: None if x >= INFEASIBLE else ns(x) for k, x in times.items()}
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
        if graph.net_types is not None:
            dtype, shape = graph.net_types[t]
            entry |= {"dtype": dtype, "shape": None if shape is None else list(shape)}
        if graph.net_time is not None:
            entry["time_ns"] = ns(int(graph.net_time[t]))
        if graph.net_extra is not None and graph.net_extra[t]:
            entry["border_ns"] = ns(int(graph.net_extra[t]))
        tensors.append(entry)
    return {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "name": graph.name,
        "ticks_per_second": graph.ticks_per_second,
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


def graph_from_json(
    document: Mapping[str, Any], *, source: str | None = None, ignore_colocation: bool = False
) -> CostGraph:
    """Read the document of :func:`graph_to_json`."""
    fields = Fields(source)
    if document.get("format_version") != FORMAT_VERSION:
        raise fields.fail(
            "format_version", f"this release reads version {FORMAT_VERSION} only; profile again"
        )
    meta = _meta(fields, document)
    ticks = _ticks(fields, document) if "ticks_per_second" in document else None
    builder = GraphBuilder(str(document.get("name", "")), source, meta, ticks)
    index = _add_nodes(builder, fields, document, ignore_colocation)

    def node(name: object, where: str) -> int:
        if not isinstance(name, str) or name not in index:
            raise fields.fail(where, f"unknown node {name!r}")
        return index[name]

    def nodes(entry: Mapping[str, Any], key: str, where: str) -> list[int]:
        names = entry.get(key)
        if not isinstance(names, list):
            raise fields.fail(where, f"{key!r} must be a list of node names")
        return [node(name, where) for name in names]

    tensors: set[str] = set()
    for where, entry in fields.items(document, "tensors"):
        producer = entry.get("producer")
        name = fields.text(entry, "name", where)
        if name in tensors:
            raise fields.fail(where, f"two tensors are called {name!r}")
        tensors.add(name)
        builder.add_net(
            name,
            HOST if producer is None else node(producer, where),
            nodes(entry, "consumers", where),
            nbytes=fields.size(entry, "bytes", where),
            to_host=entry.get("to_host") is True,
            time=fields.number(entry, "time_ns", where) if "time_ns" in entry else None,
            extra=fields.number(entry, "border_ns", where) if "border_ns" in entry else 0,
            kind=_kind(fields, entry, where),
        )
    for where, entry in fields.items(document, "parameters"):
        builder.add_group(
            fields.text(entry, "name", where),
            fields.size(entry, "bytes", where),
            nodes(entry, "nodes", where),
        )
    return builder.build()


def _meta(fields: Fields, document: Mapping[str, Any]) -> dict[str, Any]:
    """Return what is known of the costs; what the program itself reads of it is checked."""
    meta = document.get("meta", {})
    if not isinstance(meta, dict):
        raise fields.fail("meta", "expected an object")
    for key in ("corrections", "file_memory_bytes"):
        if meta.get(key) is not None:
            fields.count(meta, key, "meta")
    if not isinstance(meta.get("cost_model", ""), str):
        raise fields.fail("meta", "'cost_model' must be a string")
    if not isinstance(meta.get("host_io", True), bool):
        raise fields.fail("meta", "'host_io' must be true or false")
    return meta


def _add_nodes(
    builder: GraphBuilder, fields: Fields, document: Mapping[str, Any], ignore_colocation: bool
) -> dict[str, int]:
    """Add every node; return their indices by name."""
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
            fields.number(entry, "work_ns", where),
            colocation=colocation,
            pinned=fields.stage(entry, "stage", where) if "stage" in entry else -1,
            onnx_nodes=onnx_nodes,
            work_on=_work_on(fields, entry, where),
            operator=fields.text(entry, "operator", where) if "operator" in entry else "",
        )
    return index


def _work_on(fields: Fields, entry: Mapping[str, Any], where: str) -> dict[str, float]:
    """Read the work of a node on each kind of device; null where the kind cannot run it."""
    times = entry.get("work_on_ns", {})
    if not isinstance(times, dict):
        raise fields.fail(where, "'work_on_ns' must be an object of times by kind of device")
    place = f"{where}.work_on_ns"
    return {
        kind: math.inf if time is None else fields.number(times, kind, place) for kind, time in times.items()
    }


def _ticks(fields: Fields, document: Mapping[str, Any]) -> int:
    """Read how finely the graph was counted: its times are then found again to the tick."""
    ticks = fields.count(document, "ticks_per_second", "top level")
    if ticks not in TICKS:
        raise fields.fail("top level", f"'ticks_per_second' must be a power of ten, got {ticks}")
    return ticks


def _kind(fields: Fields, entry: Mapping[str, Any], where: str) -> TensorType:
    """Read element type and shape of a tensor; both may be missing."""
    shape = entry.get("shape")
    if shape is not None:
        if not isinstance(shape, list):
            raise fields.fail(where, f"'shape' must be a list of sizes, got {shape!r}")
        shape = tuple(fields.count({"shape": size}, "shape", where) for size in shape)
    return None if entry.get("dtype") is None else fields.text(entry, "dtype", where), shape


def _strings(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(x, str) for x in value)
