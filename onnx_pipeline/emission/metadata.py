"""What ``annotated.onnx`` says about its nodes: for viewers such as Netron, for passes that go on from it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import onnx

from onnx_pipeline.graph.ticks import NS
from onnx_pipeline.solution import Solution

PREFIX = "onnx_pipeline."
#: Keys of a node's metadata; :mod:`onnx_pipeline.passes.metadata` describes their values.
WORK = f"{PREFIX}work_ns"
STAGE = f"{PREFIX}stage"


class NodeFacts(NamedTuple):
    """Stage of a node, and nanoseconds of work where the costs have them for this node alone."""

    stage: int
    work_ns: float | None


def node_facts(result: Solution) -> dict[str, NodeFacts]:
    """Return what is known of every ONNX node, by name."""
    graph = result.graph
    facts: dict[str, NodeFacts] = {}
    for names, stage, ticks in zip(
        graph.onnx_nodes, result.stage_of.tolist(), graph.work.tolist(), strict=True
    ):
        work = ticks * NS / graph.ticks_per_second if len(names) == 1 else None
        facts |= {name: NodeFacts(stage, work) for name in names}
    return facts


def annotate(graph: onnx.GraphProto, facts: Mapping[str, NodeFacts]) -> None:
    """Write stage and work into the metadata of the nodes of a graph, in place of what was there."""
    for node in graph.node:
        known = facts.get(node.name)
        if known is None:
            continue
        kept = [entry for entry in node.metadata_props if entry.key not in (STAGE, WORK)]
        del node.metadata_props[:]
        node.metadata_props.extend(kept)
        node.metadata_props.add(key=STAGE, value=str(known.stage))
        if known.work_ns is not None:
            node.metadata_props.add(key=WORK, value=repr(known.work_ns))
