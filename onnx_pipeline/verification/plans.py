"""Checking a plan: its certificate against the costs that it names."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from onnx_pipeline.errors import InputError, UsageError
from onnx_pipeline.graph.constraints import constrain
from onnx_pipeline.graph.costgraph import CostGraph
from onnx_pipeline.graph.costs_json import read_graph
from onnx_pipeline.planfile import read_plan
from onnx_pipeline.verification.claims import Claim, Verdict, check_claim


def check_plan(path: Path, recheck: float | None) -> tuple[int, Verdict]:
    """Return the number of stages of a plan, and what is wrong with it.

    Raises
    ------
    InputError
        If plan or costs cannot be read, or the costs are not those that were planned.
    """
    document = read_plan(path)
    graph = _graph(path, document)
    stages = document["stages"]
    claim = Claim(
        document["target"],
        document["certificate"],
        [stage["index"] for stage in stages],
        [stage["node_names"] for stage in stages],
        stages,
        bool(document.get("constraints", {}).get("exactly")),
    )
    return len(stages), check_claim(graph, claim, recheck)


def _graph(path: Path, document: Mapping[str, Any]) -> CostGraph:
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
    demands = document.get("constraints", {})
    none = np.full(graph.num_nodes, -1, dtype=np.int64)
    try:
        return constrain(
            replace(graph, colocation=none, pinned=none),
            together=demands.get("together", ()),
            pins=demands.get("pins", {}),
        )
    except UsageError as error:
        raise InputError(path, f"constraints: {error.message}") from None
