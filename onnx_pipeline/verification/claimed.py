"""What a split or a plan says of its stages, and the partition that this is.

Nothing here proves: :mod:`~onnx_pipeline.verification.claims` does.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from onnx_pipeline import planfile
from onnx_pipeline.graph.costgraph import CostGraph
from onnx_pipeline.graph.objective import countable
from onnx_pipeline.partition.result import Partition
from onnx_pipeline.verification import fleets


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
    exactly : bool
        Whether no stage was to stay empty.
    """

    target: Mapping[str, Any]
    certificate: Mapping[str, Any]
    indices: Sequence[int]
    nodes: Sequence[Sequence[str]]
    figures: Sequence[Mapping[str, Any]]
    exactly: bool = False


def claim_of(document: Mapping[str, Any]) -> Claim:
    """Return what a document, manifest or plan, says."""
    stages = document["stages"]
    return Claim(
        document["target"],
        document["certificate"],
        [stage["index"] for stage in stages],
        [stage["node_names"] for stage in stages],
        stages,
        bool((document.get("constraints") or {}).get("exactly")),
    )


def claimed_partition(graph: CostGraph, claim: Claim) -> Partition:
    """Return the partition that a document describes, for a graph with the nodes that it names."""
    if fleets.on_fleet(claim):
        return fleets.fleet_partition(graph, claim)
    home = {name: i for i, names in zip(claim.indices, claim.nodes, strict=True) for name in names}
    stage_of = np.array([home[name] for name in graph.node_names], dtype=np.int64)
    target, stages = planfile.read_target(claim.target), claim.target["stages"]
    return Partition(countable(graph, target, stages), target, stages, stage_of, claim.exactly)
