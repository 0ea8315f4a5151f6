"""Compile the numba kernels once, with a note while it takes its seconds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from onnx_pipeline.graph.builder import GraphBuilder
from onnx_pipeline.graph.costgraph import CostGraph
from onnx_pipeline.graph.target import Target
from onnx_pipeline.partition.bounds.windows import window_bound
from onnx_pipeline.partition.ideals.question import IdealSearch
from onnx_pipeline.partition.incumbent import Incumbent
from onnx_pipeline.partition.instance.build import build
from onnx_pipeline.partition.instance.contract import contract
from onnx_pipeline.partition.search import slicing, tapes
from onnx_pipeline.partition.search.annealing import Annealer
from onnx_pipeline.partition.search.brkga import BrkgaParams, brkga
from onnx_pipeline.partition.search.exactly import slice_exactly
from onnx_pipeline.partition.search.orders import starting_orders
from onnx_pipeline.partition.task import Task
from onnx_pipeline.progress import Progress
from onnx_pipeline.stop import Asked, never


def ensure_compiled(progress: Progress) -> None:
    """Load the kernels from numba's cache, or compile and cache them on the first run after installation."""
    if slicing.evaluate.signatures:
        return
    announce(slicing.evaluate, "slicing.evaluate", "search kernels", progress)
    _exercise()


def announce(kernel: Any, name: str, what: str, progress: Progress) -> None:
    """Say that kernels are being compiled, unless numba has kept the one of this name."""
    folder = kernel.stats.cache_path
    if folder is None or not any(Path(folder).glob(f"{name}-*.nbc")):
        progress("compile", None, f"compiling {what}, once after installation")


def small_case() -> tuple[CostGraph, Target]:
    """Return three nodes with every kind of cost."""
    builder = GraphBuilder("kernels")
    a, b, c = (builder.add_node(name, 10) for name in "abc")
    builder.add_net("t", a, [b, c], nbytes=10)
    builder.add_net("u", b, [c], nbytes=10, to_host=True)
    builder.add_group("w", 5, [a, c])
    return builder.build(), Target(bandwidth=1e9, memory=8)


def _exercise() -> None:
    """Call every kernel of plain partitioning on a graph of three nodes."""
    graph, target = small_case()
    inst = contract(build(graph, target))
    orders = [order for _, order in starting_orders(inst, np.random.default_rng(0), 1)]
    ends = np.zeros(2, dtype=np.int64)
    tape = tapes.make_tape(inst, orders[0])
    slicing.feasible(tape, 2, 1000, ends)
    found, _ = slicing.slice_order(tape, 2, 0, 1000, ends)
    slicing.stages_of(orders[0], ends, found)
    slicing.evaluate(inst, orders[0], 2, 0, 10, 1000, ends)
    IdealSearch(inst, 2).ask(1000, 1000, never)
    window_bound(inst, 2, 1000)
    task = Task(inst, Incumbent(graph, target, 2))
    task.offer(np.zeros(inst.n, dtype=np.int64), "one stage")
    Annealer(task).turn(Asked(3))
    slice_exactly(tape, 2, 0, 1000, ends)
    for _ in brkga(task, orders, np.random.default_rng(0), never, BrkgaParams(generations=1)):
        pass
