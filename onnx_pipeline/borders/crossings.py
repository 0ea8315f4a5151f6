"""The tensors that leave or enter a stage, with their producers and consumers."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from onnx_pipeline.graph.costgraph import HOST
from onnx_pipeline.partition.result import Partition
from onnx_pipeline.solution import Solution

#: The host's end of a tensor, as manifests write it.
MODEL = "model"
End = str | int


@dataclass(frozen=True)
class Crossing:
    """A tensor at the border of a stage.

    Attributes
    ----------
    tensor : str
    source : "model" or int
        Where it comes from: ``"model"`` for a model input, else the stage that produces it.
    targets : tuple of "model" or int
        Where it goes to, ascending; ``"model"``, for a model output, comes last.
    dtype : str or None
        Element type; None where the costs do not say.
    shape : tuple of int or None
        Concrete shape, for the dimensions that the costs were measured at.
    bytes : int
        Size; it moves once per target.
    seconds : float
        What its source and each of its targets pay for moving it.
    producer : str or None
        Node that produces it, None for a model input.
    consumers : mapping of int to tuple of str
        Nodes that read it, by stage; those in the stage that produces it are left out.
    """

    tensor: str
    source: End
    targets: tuple[End, ...]
    dtype: str | None
    shape: tuple[int, ...] | None
    bytes: int
    seconds: float
    producer: str | None
    consumers: Mapping[int, tuple[str, ...]]

    def to_json(self) -> dict[str, Any]:
        """Return the entry of ``show --cuts --json``."""
        consumers = [{"stage": stage, "nodes": list(names)} for stage, names in self.consumers.items()]
        return asdict(self) | {"consumers": consumers}


def cuts(result: Partition | Solution | str | os.PathLike[str]) -> list[Crossing]:
    """List the tensors that cross a border of a partition, model inputs and outputs included.

    Parameters
    ----------
    result : Partition, PartitionResult, ReplicaPlan or path-like
        A path is that of a split's directory or of a plan.

    Returns
    -------
    list of Crossing
        Those of the model first, then by the stage that produces them.

    Raises
    ------
    InputError
        If a file cannot be read, or its costs are missing.
    """
    if isinstance(result, (str, os.PathLike)):
        from onnx_pipeline.planned import read_result

        result = read_result(result)
    graph, stage_of = result.graph, result.stage_of
    seconds = [graph.seconds(int(ticks)) for ticks in graph.net_ticks(result.target, up=True)]
    found = []
    for t, tensor in enumerate(graph.net_names):
        producer = int(graph.net_producer[t])
        home = None if producer == HOST else int(stage_of[producer])
        consumers: dict[int, tuple[str, ...]] = {}
        for v in sorted(graph.consumers(t).tolist(), key=lambda v: (int(stage_of[v]), v)):
            stage = int(stage_of[v])
            if stage != home:
                consumers[stage] = (*consumers.get(stage, ()), graph.node_names[v])
        targets: tuple[End, ...] = (*consumers, *([MODEL] if graph.net_to_host[t] else []))
        if not targets:
            continue
        dtype, shape = (None, None) if graph.net_types is None else graph.net_types[t]
        paid = result.target.host_io or (home is not None and bool(consumers))
        found.append(
            Crossing(
                tensor,
                MODEL if home is None else home,
                targets,
                dtype,
                shape,
                int(graph.net_bytes[t]),
                seconds[t] if paid else 0.0,
                None if home is None else graph.node_names[producer],
                consumers,
            )
        )
    return sorted(found, key=lambda crossing: -1 if crossing.source == MODEL else int(crossing.source))


def links(crossings: list[Crossing]) -> dict[tuple[End, End], list[Crossing]]:
    """Return the tensors of every pair of ends between which there are any, in pipeline order."""
    pairs: dict[tuple[End, End], list[Crossing]] = {}
    for crossing in crossings:
        for target in crossing.targets:
            pairs.setdefault((crossing.source, target), []).append(crossing)

    def place(pair: tuple[End, End]) -> tuple[int, float]:
        source, target = pair
        return (
            -1 if source == MODEL else int(source),
            float("inf") if target == MODEL else int(target),
        )

    return {pair: pairs[pair] for pair in sorted(pairs, key=place)}
