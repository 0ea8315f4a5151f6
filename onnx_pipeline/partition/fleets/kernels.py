"""Compile the kernels for fleets once, before any clock runs."""

from __future__ import annotations

import numpy as np

from onnx_pipeline.graph.fleet import FleetTarget, Kind
from onnx_pipeline.partition import kernels
from onnx_pipeline.partition.fleets.annealing import FleetAnnealer
from onnx_pipeline.partition.fleets.cutting import Cutter
from onnx_pipeline.partition.fleets.ideals import FleetSearch
from onnx_pipeline.partition.fleets.instance import build_fleet
from onnx_pipeline.partition.fleets.known import FleetKnown
from onnx_pipeline.partition.fleets.slicing import _best_cut, cut, price_order, way_of
from onnx_pipeline.partition.fleets.task import FleetTask
from onnx_pipeline.progress import Progress
from onnx_pipeline.stop import Asked, never


def ensure_compiled(progress: Progress) -> None:
    """Load the kernels from numba's cache, or compile and cache them on the first run after installation."""
    kernels.ensure_compiled(progress)
    if _best_cut.signatures:
        return
    kernels.announce(_best_cut, "slicing._best_cut", "kernels for fleets", progress)
    graph, target = kernels.small_case()
    fleet = FleetTarget((Kind("small", target),), (0, 0))
    inst = build_fleet(graph, fleet)
    cut(price_order(inst, np.arange(inst.n), 1000), way_of(fleet), 0, 1000)
    FleetSearch(inst).ask(1000, 1000, never)
    task = FleetTask(inst, FleetKnown(graph, fleet))
    task.offer(np.zeros(inst.n, dtype=np.int64), (0,), "one device")
    FleetAnnealer(task, Cutter(task)).turn(Asked(3))
