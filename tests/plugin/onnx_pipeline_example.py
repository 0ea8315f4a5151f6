"""A complete plug-in: a cost model, two devices and a partitioning pass."""

from __future__ import annotations

from dataclasses import replace

import onnx_ir as ir
from onnx_ir.passes import InPlacePass, PassResult

from onnx_pipeline.costmodel import Device
from onnx_pipeline.costmodel.request import CostRequest, NodeCosts

BOARD = Device(name="example-board", bandwidth=2e9, memory=1 << 20, source="made up for a test")


def small_board() -> Device:
    """Return the board with a quarter of the memory: a device may be a function, too."""
    return replace(BOARD, name="example-board-small", memory=1 << 18)


def one_microsecond(request: CostRequest) -> NodeCosts:
    """Price every node at one microsecond."""
    return NodeCosts(
        kind="one-microsecond",
        work_ns={str(node.name): 1000 for node in request.nodes},
        meta={"asked_for": len(request.nodes)},
    )


class EqualCounts(InPlacePass):
    """Cut the model's order into stages of equal node counts."""

    def __init__(self, stages: int = 2) -> None:
        self.stages = stages

    def call(self, model: ir.Model) -> PassResult:
        """Write a stage on every node that has work."""
        nodes = [node for node in model.graph if "onnx_pipeline.work_ns" in node.metadata_props]
        for index, node in enumerate(nodes):
            node.metadata_props["onnx_pipeline.stage"] = str(index * self.stages // len(nodes))
        return PassResult(model, modified=True)
