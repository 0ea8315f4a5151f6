"""The public device-placement workloads (MSR JSON)."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from onnx_pipeline.files.values import MOST_BYTES
from onnx_pipeline.graph.builder import GraphBuilder
from onnx_pipeline.graph.costgraph import CostGraph
from onnx_pipeline.graph.fields import Fields

_NS_PER_MS = 1_000_000


def from_msr(document: Mapping[str, Any], path: Path, ignore_colocation: bool) -> CostGraph:
    """Read an MSR inference workload: one tensor per node, times given, nothing from or to the host."""
    fields = Fields(os.fspath(path))
    meta: dict[str, Any] = {"kind": "msr", "host_io": False}
    if "maxSizePerFPGA" in document:
        limit = document["maxSizePerFPGA"]
        # A size beyond any memory is how these files say "no limit".
        endless = isinstance(limit, int | float) and limit > MOST_BYTES
        stated = None if endless else int(fields.number(document, "maxSizePerFPGA", "top level"))
        meta["file_memory_bytes"] = stated
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
        work = fields.number(entry, "fpgaLatency", where) * _NS_PER_MS
        index[key] = v = builder.add_node(name if unique else f"{name}#{key}", work, colocation=colocation)
        size = fields.size(entry, "size", where, fraction=True) if "size" in entry else 0
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
        nbytes[source] = fields.size(entry, "size", where, fraction=True) if "size" in entry else 0
        consumers.setdefault(source, []).append(dest)
    for source, readers in consumers.items():
        builder.add_net(
            f"{builder.node_name(source)}:out",
            source,
            readers,
            nbytes=nbytes[source],
            time=cost[source] * _NS_PER_MS,
        )
    return builder.build()
