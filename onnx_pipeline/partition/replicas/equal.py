"""Partitions without replicas: floor(N / k) replicas of k stages are one of the plans for N devices."""

from __future__ import annotations

from collections.abc import Iterator

from onnx_pipeline.parameters import SearchParams
from onnx_pipeline.partition.replicas.between import LatticeSearch
from onnx_pipeline.partition.replicas.rows import Rows
from onnx_pipeline.partition.result import Partition, PartitionResult
from onnx_pipeline.partition.sweep import sweep
from onnx_pipeline.progress import Progress

#: Share of the time limit for partitions without replicas.
EQUAL_SHARE = 0.25


def equal_partitions(rows: Rows, lattice: LatticeSearch | None, progress: Progress) -> Iterator[Partition]:
    """Yield the best partitions into the numbers of stages that divide the devices of open rows.

    A lattice, where its answers are exact, gives all of them at once. More stages than make a difference are
    left out.
    """
    first = int(rows.graph.pinned.max(initial=-1)) + 1  # stages that pins ask for
    stages = sorted(
        k
        for k in {known.devices // share for known in rows.open() for share in range(1, known.devices + 1)}
        if k >= first
    )
    if not stages:
        return
    if lattice is not None:
        for k, stage_of in enumerate(lattice.bottlenecks(stages[-1]), start=1):
            if stage_of is not None and k in stages:
                yield Partition(rows.graph, rows.target, k, lattice.inst.expand(stage_of))
        return
    limit = EQUAL_SHARE * rows.params.time_limit * len(rows.all) / len(stages)
    params = SearchParams(limit, rows.params.gap, rows.params.seed, rows.params.threads)
    found = sweep(rows.graph, stages, rows.target, params, progress)
    for row in found.rows:
        if isinstance(row, PartitionResult):
            yield Partition(rows.graph, rows.target, row.stages, row.stage_of)
    if found.interrupted:
        raise KeyboardInterrupt
