"""What a report is about: a split's folder, a plan's file or a result, read and tied to its cost graph."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from onnx_pipeline import manifest, planfile
from onnx_pipeline.errors import InputError, PipelineError
from onnx_pipeline.graph.costgraph import CostGraph
from onnx_pipeline.graph.costs_json import read_graph
from onnx_pipeline.partition.result import Partition, PartitionResult
from onnx_pipeline.planned import planned_graph
from onnx_pipeline.replica_plan import ReplicaPlan
from onnx_pipeline.reporting.operators import read_stages, types_of
from onnx_pipeline.solution import Solution
from onnx_pipeline.verification.claimed import claim_of, claimed_partition

Document = Mapping[str, Any]


@dataclass(frozen=True, eq=False)
class Subject:
    """A manifest or plan with what belongs to it.

    Attributes
    ----------
    document : mapping
        The JSON document of the manifest or plan.
    partition : Partition or None
        The cost graph in stages; None where the costs cannot be had.
    missing : str
        Why there is no partition; empty where there is one.
    operators, types : mapping of str to str
        Operator by name of an ONNX node, type and shape by name of a tensor, as far as they are known.
    hashes : sequence of (str, str)
        Names of files and their SHA-256.
    notes : list of str
        What could not be read.
    """

    document: Document
    partition: Partition | None
    missing: str = ""
    operators: Mapping[str, str] = field(default_factory=dict)
    types: Mapping[str, str] = field(default_factory=dict)
    hashes: tuple[tuple[str, str], ...] = ()
    notes: list[str] = field(default_factory=list)

    @property
    def is_split(self) -> bool:
        """Whether there are stage files."""
        return "model" in self.document

    @property
    def name(self) -> str:
        """Of the model or graph."""
        entry = self.document["model"]["file"] if self.is_split else self.document["graph"]["name"]
        return str(entry)


def read_subject(source: Solution | str | os.PathLike[str]) -> Subject:
    """Read a split's folder or a PLAN.json, or take a result.

    Raises
    ------
    InputError
        If there is nothing to report on. Missing costs and unreadable stage files are no errors.
    """
    if isinstance(source, PartitionResult | ReplicaPlan):
        return Subject(planfile.plan_document(source), source.partition, types=types_of(source.graph))
    path = Path(source)
    if path.is_dir():
        return _split(path)
    if path.exists():
        return _plan(path)
    raise InputError(path, "no such file or directory", "give the folder of a split, or a PLAN.json")


def _split(folder: Path) -> Subject:
    document = manifest.read(folder).to_json()
    path = folder / manifest.COSTS_NAME
    partition, missing = _partition(document, lambda: read_graph(path))
    hashes = [(document["model"]["file"], document["model"]["sha256"])]
    hashes += [(stage["file"], stage["sha256"]) for stage in document["stages"]]
    for own in (folder / manifest.FILE_NAME, path):
        if own.is_file():
            hashes.append((own.name, hashlib.sha256(own.read_bytes()).hexdigest()))
    operators, types, notes = read_stages(folder, document["stages"])
    types = {**_types(partition), **types}
    return Subject(document, partition, missing, operators, types, tuple(hashes), notes)


def _plan(path: Path) -> Subject:
    document = planfile.read_plan(path)
    partition, missing = _partition(document, lambda: planned_graph(path, document))
    hashes = [(path.name, hashlib.sha256(path.read_bytes()).hexdigest())]
    if "sha256" in document["graph"]:
        hashes.append((Path(document["graph"]["file"]).name, document["graph"]["sha256"]))
    return Subject(document, partition, missing, types=_types(partition), hashes=tuple(hashes))


def _types(partition: Partition | None) -> dict[str, str]:
    return {} if partition is None else types_of(partition.graph)


def _partition(document: Document, read: Callable[[], CostGraph]) -> tuple[Partition | None, str]:
    """Return the partition of the cost graph, or why it cannot be had."""
    try:
        graph, claim = read(), claim_of(document)
        if {name for names in claim.nodes for name in names} != set(graph.node_names):
            return None, "the costs are those of other nodes"
        return claimed_partition(graph, claim), ""
    except PipelineError as error:
        return None, str(error)
