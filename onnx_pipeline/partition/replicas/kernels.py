"""Compile the kernels for replicas once, before any clock runs."""

from __future__ import annotations

import numpy as np

from onnx_pipeline.graph.replicas import capacities
from onnx_pipeline.partition import kernels
from onnx_pipeline.partition.instance.build import build
from onnx_pipeline.partition.replicas.between import LatticeSearch
from onnx_pipeline.partition.replicas.ideals import ReplicaSearch, climb
from onnx_pipeline.partition.replicas.slicing import divide, price_segments
from onnx_pipeline.partition.search.tapes import make_tape
from onnx_pipeline.progress import Progress
from onnx_pipeline.stop import never


def ensure_compiled(progress: Progress) -> None:
    """Load the kernels from numba's cache, or compile and cache them on the first run after installation."""
    kernels.ensure_compiled(progress)
    if climb.signatures:
        return
    kernels.announce(climb, "ideals.climb", "kernels for replicas", progress)
    inst = build(*kernels.small_case())
    tape = make_tape(inst, np.arange(inst.n))
    start, buffer = price_segments(tape, 1000)
    divide(tape.pin, start, buffer, capacities(None, 2), np.zeros(inst.n, dtype=np.int64))
    ReplicaSearch(inst).ask(capacities(None, 2), 1000, never)
    lattice = LatticeSearch.of(inst)
    if lattice is not None:  # it is, unless a test allows hardly any ideals
        lattice.ask(capacities(None, 2), 1000, never)
        next(lattice.bottlenecks(1))
