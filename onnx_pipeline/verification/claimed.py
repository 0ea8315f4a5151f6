"""What a split or a plan says of its stages, and the partition that this is.

Nothing here proves: :mod:`~onnx_pipeline.verification.claims` does.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from onnx_pipeline.errors import InputError, UsageError
from onnx_pipeline.graph.constraints import constrain
from onnx_pipeline.graph.costgraph import CostGraph
from onnx_pipeline.graph.costs_json import read_graph
from onnx_pipeline.graph.objective import countable
from onnx_pipeline.graph.target import Target
from onnx_pipeline.partition.result import Partition


@dataclass(frozen=True)
class Claim:
    """What a document says of its stages, whether it is a manifest or a plan.

    Attributes
    ----------
    target, certificate : mapping
        The document's objects.
    nodes : sequence of sequence of str
        Names of the nodes of each stage listed.
    indices : sequence of int
        Number of each stage listed.
    figures : sequence of mapping
        ``cost``, ``parameter_bytes`` and, where known, ``peak_activation_bytes`` of each stage listed.
    """

    target: Mapping[str, Any]
    certificate: Mapping[str, Any]
    indices: Sequence[int]
    nodes: Sequence[Sequence[str]]
    figures: Sequence[Mapping[str, Any]]


def claim_of(document: Mapping[str, Any]) -> Claim:
    """Return what a document, manifest or plan, says."""
    stages = document["stages"]
    return Claim(
        document["target"],
        document["certificate"],
        [stage["index"] for stage in stages],
        [stage["node_names"] for stage in stages],
        stages,
    )


def claimed_partition(graph: CostGraph, claim: Claim) -> Partition:
    """Return the partition that a document describes, for a graph with the nodes that it names."""
    home = {name: i for i, names in zip(claim.indices, claim.nodes, strict=True) for name in names}
    stage_of = np.array([home[name] for name in graph.node_names], dtype=np.int64)
    target, stages = _target(claim.target), claim.target["stages"]
    return Partition(countable(graph, target, stages), target, stages, stage_of)


def _target(entry: Mapping[str, Any]) -> Target:
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


def plan_graph(path: Path, document: Mapping[str, Any]) -> CostGraph:
    """Read the costs, from beside the plan or where it says, with the constraints that the plan states."""
    entry = document["graph"]
    if "file" not in entry or "sha256" not in entry:
        raise InputError(path, "the plan does not name the file of its costs")
    places = [path.parent / Path(entry["file"]).name, Path(entry["file"])]
    found = [place for place in places if place.is_file()]
    if not found:
        raise InputError(path, f"its costs are missing: {entry['file']}", "put them beside the plan")
    if hashlib.sha256(found[0].read_bytes()).hexdigest() != entry["sha256"]:
        raise InputError(path, f"{found[0]} is not the file that was planned: its SHA-256 differs")
    graph = read_graph(found[0])
    demands = document.get("constraints") or {"pins": {}, "together": []}
    none = np.full(graph.num_nodes, -1, dtype=np.int64)
    try:
        return constrain(replace(graph, colocation=none, pinned=none), **demands)
    except UsageError as error:
        raise InputError(path, f"constraints: {error.message}") from None
