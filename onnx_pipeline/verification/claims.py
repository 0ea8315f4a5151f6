"""The certificate of an output directory, recomputed from its costs."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from onnx_pipeline.errors import InputError
from onnx_pipeline.graph.target import Target
from onnx_pipeline.manifest import COSTS_NAME, Manifest


def check_certificate(folder: Path, document: Manifest, recheck: float | None) -> Iterator[str]:
    """Recompute costs and bounds from ``costs.json``."""
    from onnx_pipeline import planfile
    from onnx_pipeline.graph.costs_json import read_graph
    from onnx_pipeline.graph.objective import countable
    from onnx_pipeline.partition import certificate
    from onnx_pipeline.partition.result import Bound, Certificate, Partition, PartitionResult, SearchRecord

    try:
        graph = read_graph(folder / COSTS_NAME)
    except InputError as error:
        yield str(error)
        return
    home = {name: stage.index for stage in document.stages for name in stage.node_names}
    missing = [name for name in graph.node_names if name not in home]
    if missing:
        yield f"{len(missing)} nodes of {COSTS_NAME} are in no stage, {missing[0]!r} for one"
        return
    claimed = document.certificate
    stage_of = np.array([home[name] for name in graph.node_names], dtype=np.int64)
    target, stages = _target(document.target), document.target["stages"]
    partition = Partition(countable(graph, target, stages), target, stages, stage_of)
    tick = partition.graph.ticks_per_second
    proofs = Certificate(tuple(Bound.from_json(entry, tick) for entry in claimed["bounds"]))
    problems = certificate.check(partition, proofs)
    if recheck is not None and not problems:
        problems = certificate.recheck(partition, proofs, recheck)
    yield from (f"certificate: {problem}" for problem in problems)
    if problems:
        return
    result = PartitionResult(partition, proofs, SearchRecord())
    if round(claimed["bottleneck_seconds"] * tick) != round(result.bottleneck * tick):
        yield f"certificate: the partition costs {result.bottleneck} s, not {claimed['bottleneck_seconds']} s"
    if round(claimed["lower_bound_seconds"] * tick) != result.lower:
        yield "certificate: the lower bound is not the best of the bounds"
    if claimed["status"] != result.status:
        yield f"certificate: the status should be {result.status!r}"
    for stage, cost in zip(document.stages, result.costs, strict=False):
        expected = planfile.cost_fields(cost, tick)
        if any(round(expected[key] * tick) != round(stage.cost.get(key, 0.0) * tick) for key in expected):
            yield f"certificate: the cost of stage {stage.index} cannot be reproduced"
        if cost.parameter_bytes != stage.parameter_bytes:
            yield f"certificate: the parameter bytes of stage {stage.index} cannot be reproduced"


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
