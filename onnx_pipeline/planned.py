"""From PLAN.json back to the result of the partitioner: the graph, the partition and its certificate."""

from __future__ import annotations

import hashlib
import math
import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from onnx_pipeline import fleetfile, manifest, planfile
from onnx_pipeline.errors import Advice, InputError, UsageError
from onnx_pipeline.graph.constraints import constrain
from onnx_pipeline.graph.costgraph import CostGraph
from onnx_pipeline.graph.costs_json import read_graph
from onnx_pipeline.graph.objective import check_partition
from onnx_pipeline.partition.result import HistoryPoint, SearchRecord
from onnx_pipeline.solution import Solution
from onnx_pipeline.verification.claimed import claim_of, claimed_partition, claimed_solution

#: What a bottleneck may differ by from the one that the plan states.
_CLOSE = 1e-9


def read_plan(
    path: str | os.PathLike[str], graph: CostGraph | str | os.PathLike[str] | None = None
) -> Solution:
    """Read a plan back: what :func:`onnx_pipeline.plan` returned when the file was written.

    Parameters
    ----------
    path : path-like
        PLAN.json, as ``plan -o`` and :meth:`PartitionResult.to_json` make it.
    graph : CostGraph or path-like, optional
        The costs that were planned; by default the file that the plan names, beside it or where it says.

    Returns
    -------
    PartitionResult, or ReplicaPlan of a plan with replicas
        Every cost is recomputed. Bounds are those of the file: ``verify`` proves them again.

    Raises
    ------
    InputError
        If plan or costs cannot be read, do not belong together, or contradict each other.

    Examples
    --------
    >>> read_plan("plan.json").stage_of  # doctest: +SKIP
    array([0, 0, 1, 1])
    """
    document = planfile.read_plan(path)
    result = _result(planned_graph(Path(path), document, graph), document, path)
    for problem in _problems(result, document):
        raise InputError(path, problem, "plan again, or give the costs that were planned")
    return result


def read_result(path: str | os.PathLike[str]) -> Solution:
    """Read the partition of a split or a plan.

    Parameters
    ----------
    path : path-like
        The directory of a split, or PLAN.json.

    Raises
    ------
    InputError
        As :func:`read_plan`; of a directory also if its manifest contradicts itself.
    """
    if not Path(path).is_dir():
        if not Path(path).exists():
            raise InputError(path, "no such file or directory", "give the folder of a split, or a PLAN.json")
        return read_plan(path)
    document = manifest.read(path).to_json()
    graph = read_graph(Path(path) / manifest.COSTS_NAME)
    result = _result(graph, document, path)
    for problem in _problems(result, document):
        raise InputError(Path(path) / manifest.COSTS_NAME, problem, "split again")
    return result


def planned_graph(
    path: Path, document: Mapping[str, Any], graph: CostGraph | str | os.PathLike[str] | None = None
) -> CostGraph:
    """Return the costs of a plan with the constraints that it states; parameters as in :func:`read_plan`.

    Raises
    ------
    InputError
        If they cannot be read, or are not those that were planned.
    """
    if graph is None:
        graph = _costs_file(path, document["graph"])
    if not isinstance(graph, CostGraph):
        graph = read_graph(graph)
    try:
        graph = fleetfile.with_work(graph, document["graph"])
    except UsageError as error:
        raise InputError(path, error.message) from None
    demands = document.get("constraints") or {}
    none = np.full(graph.num_nodes, -1, dtype=np.int64)
    free = replace(graph, colocation=none, pinned=none)
    try:
        return constrain(free, together=demands.get("together", ()), pins=demands.get("pins", {}))
    except UsageError as error:
        raise InputError(path, f"constraints: {error.message}") from None


def _costs_file(path: Path, entry: Mapping[str, Any]) -> Path:
    """Return the file of the costs, beside the plan or where it says."""
    if "file" not in entry or "sha256" not in entry:
        raise InputError(
            path, "the plan does not name the file of its costs", Advice("in Python, give {graph}", graph=...)
        )
    places = [path.parent / Path(entry["file"]).name, Path(entry["file"])]
    found = [place for place in places if place.is_file()]
    if not found:
        raise InputError(path, f"its costs are missing: {entry['file']}", "put them beside the plan")
    if hashlib.sha256(found[0].read_bytes()).hexdigest() != entry["sha256"]:
        raise InputError(path, f"{found[0]} is not the file that was planned: its SHA-256 differs")
    return found[0]


def _result(graph: CostGraph, document: Mapping[str, Any], path: str | os.PathLike[str]) -> Solution:
    claim = claim_of(document)
    home, known = {name for names in claim.nodes for name in names}, set(graph.node_names)
    strange = [*sorted(known - home), *sorted(home - known)]
    if strange:
        raise InputError(
            path, f"the plan is not one of these costs: node {strange[0]!r} is in only one of them"
        )
    try:
        partition = claimed_partition(graph, claim)
    except UsageError as error:
        raise InputError(path, error.message) from None
    entry = document["search"]
    search = replace(SearchRecord.from_json(entry), history=tuple(map(_point, entry.get("history", ()))))
    return claimed_solution(partition, claim, search)


def _unpinned(graph: CostGraph) -> CostGraph:
    """Return a graph whose pins, which name devices of a fleet, were checked before."""
    return replace(graph, pinned=np.full_like(graph.pinned, -1))


def _point(entry: Mapping[str, Any]) -> HistoryPoint:
    upper = entry["upper_seconds"]
    return HistoryPoint(
        entry["seconds"], entry["method"], math.inf if upper is None else upper, entry["lower_seconds"]
    )


def _problems(result: Solution, document: Mapping[str, Any]) -> list[str]:
    """Return what shows that a plan and these costs do not belong together."""
    free = result.graph if planfile.on_fleet(result) is None else _unpinned(result.graph)
    wrong = check_partition(free, result.stage_of, result.stages)
    claimed = document["certificate"]["bottleneck_seconds"]
    if not wrong and not math.isclose(result.bottleneck, claimed, rel_tol=_CLOSE):
        wrong = [f"the bottleneck is {result.bottleneck} s in these costs, {claimed} s in the plan"]
    if not wrong and result.lower > result.upper:
        wrong = [f"the lower bound of {result.lower_bound} s is above the partition, {result.bottleneck} s"]
    return wrong
