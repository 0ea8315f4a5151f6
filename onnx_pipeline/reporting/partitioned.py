"""The partition that a manifest or plan describes, with the costs that belong to it."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from onnx_pipeline.errors import InputError
from onnx_pipeline.graph.costgraph import CostGraph
from onnx_pipeline.graph.costs_json import read_graph
from onnx_pipeline.graph.objective import countable
from onnx_pipeline.graph.target import Target
from onnx_pipeline.partition.result import Partition

Document = Mapping[str, Any]


def described(document: Document, graph: CostGraph) -> Partition:
    """Return the partition of a graph that a document describes.

    Raises
    ------
    InputError
        If the graph has other nodes than the document.
    UsageError
        If the target makes no sense.
    """
    home = {name: stage["index"] for stage in document["stages"] for name in stage["node_names"]}
    if home.keys() != set(graph.node_names):
        raise InputError(None, "the costs are those of other nodes")
    stage_of = np.array([home[name] for name in graph.node_names], dtype=np.int64)
    target, stages = _target(document["target"]), document["target"]["stages"]
    return Partition(countable(graph, target, stages), target, stages, stage_of)


def planned_costs(path: Path, document: Document) -> CostGraph:
    """Read the costs that a plan names, from beside it or where it says.

    Raises
    ------
    InputError
        If they are not there, or not those that were planned.
    """
    entry = document["graph"]
    if "file" not in entry or "sha256" not in entry:
        raise InputError(path, "the plan does not name the file of its costs")
    places = [path.parent / Path(entry["file"]).name, Path(entry["file"])]
    found = next((place for place in places if place.is_file()), None)
    if found is None:
        raise InputError(path, f"its costs are missing: {entry['file']}", "put them beside the plan")
    if hashlib.sha256(found.read_bytes()).hexdigest() != entry["sha256"]:
        raise InputError(path, f"{found} is not the file that was planned: its SHA-256 differs")
    return read_graph(found)


def _target(entry: Document) -> Target:
    def limit(key: str) -> float:
        return math.inf if entry[key] is None else float(entry[key])

    return Target(
        bandwidth=limit("bandwidth_bytes_per_second"),
        memory=limit("memory_bytes"),
        transfer_latency=entry.get("transfer_latency_seconds", 0.0),
        stage_overhead=entry.get("stage_overhead_seconds", 0.0),
        host_io=entry["host_io"],
        memory_mode=entry.get("memory_mode", "overflow"),
        activations=entry.get("activations", False),
        name=entry["device"],
    )
