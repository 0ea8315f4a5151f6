"""Which nodes, weights and tensors each stage needs, and where its tensors come from and go to."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import onnx_ir as ir

from onnx_pipeline.model.nodes import node_inputs
from onnx_pipeline.model.source import SourceModel

#: The host's end of a tensor, as the manifest writes it.
MODEL = "model"


@dataclass
class StagePlan:
    """One stage before it is written.

    Attributes
    ----------
    index : int
    nodes : list of onnx_ir.Node
        Its own nodes and copies of parameter nodes, in the model's order.
    initializers : list of onnx_ir.Value
    defaults : list of onnx_ir.Value
        Initializers that a caller of the model may override: inputs of the stage, too.
    inputs, outputs : list of onnx_ir.Value
        Model inputs first, then in the order in which the model produces them.
    sources : dict of Value to "model" or int
        Where each input comes from.
    targets : dict of Value to list of "model" or int
        Where each output goes.
    """

    index: int
    nodes: list[ir.Node] = field(default_factory=list)
    initializers: list[ir.Value] = field(default_factory=list)
    defaults: list[ir.Value] = field(default_factory=list)
    inputs: list[ir.Value] = field(default_factory=list)
    outputs: list[ir.Value] = field(default_factory=list)
    sources: dict[ir.Value, str | int] = field(default_factory=dict)
    targets: dict[ir.Value, list[str | int]] = field(default_factory=dict)


def plan_stages(source: SourceModel, stage_of: Mapping[str, int], stages: int) -> list[StagePlan]:
    """Cut the model along a partition.

    Parameters
    ----------
    source : SourceModel
    stage_of : mapping of str to int
        Stage of every executable node, by name.
    stages : int
        Number of non-empty stages.

    Returns
    -------
    list of StagePlan
        A model output that depends on no input belongs to the first stage; one that is a model input
        belongs to none.
    """
    graph = source.ir.graph
    home = {node: stage_of[str(node.name)] for node in graph if node.name in stage_of}
    hosted = set(source.inputs)
    position = {value: i for i, value in enumerate(source.inputs)}
    for node in graph:
        for value in node.outputs:
            position[value] = len(position)
    own: list[list[ir.Node]] = [[] for _ in range(stages)]
    for node, stage in home.items():
        own[stage].append(node)
    plans = [StagePlan(index) for index in range(stages)]
    constant_outputs = [v for v in source.outputs if v not in hosted and v.producer() not in home]
    for plan in plans:
        reads: dict[ir.Value, None] = {v: None for node in own[plan.index] for v in node_inputs(node)}
        fixed = [v for v in reads if v not in hosted and v.producer() not in home]
        nodes, initializers = _closure(fixed + (constant_outputs if plan.index == 0 else []))
        members = {*own[plan.index], *nodes}
        plan.nodes = [node for node in graph if node in members]
        plan.initializers = [v for v in graph.initializers.values() if v in initializers]
        plan.defaults = [v for v in source.overridable if v in initializers]
        for value in sorted(reads, key=lambda v: position.get(v, -1)):
            producer = value.producer()
            if value in hosted:
                plan.sources[value] = MODEL
            elif producer is not None and producer in home and home[producer] != plan.index:
                plan.sources[value] = home[producer]
                plans[home[producer]].targets.setdefault(value, []).append(plan.index)
        plan.inputs = list(plan.sources)
    for value in source.outputs:
        if value not in hosted:
            producer = value.producer()
            stage = home[producer] if producer is not None and producer in home else 0
            plans[stage].targets.setdefault(value, []).insert(0, MODEL)
    for plan in plans:
        plan.outputs = sorted(plan.targets, key=lambda v: position.get(v, -1))
    return plans


def assign_parameters(source: SourceModel, stage_of: Mapping[str, int]) -> dict[str, int]:
    """Return, for every node that is in no stage, the first stage that needs it (0 if none does)."""
    homes: dict[str, int] = {}
    first: dict[ir.Node, int] = {}
    for node in reversed(source.ir.graph):
        name = str(node.name)
        if name in stage_of:
            stage = stage_of[name]
        else:
            stage = homes[name] = first.get(node, 0)
        for value in node_inputs(node):
            producer = value.producer()
            if producer is not None:
                first[producer] = min(stage, first.get(producer, stage))
    return homes


def _closure(values: Iterable[ir.Value]) -> tuple[set[ir.Node], set[ir.Value]]:
    """Return the parameter nodes and initializers that the given parameters are made from."""
    nodes: set[ir.Node] = set()
    initializers: set[ir.Value] = set()
    waiting = list(values)
    while waiting:
        value = waiting.pop()
        producer = value.producer()
        if producer is None:
            initializers.add(value)
        elif producer not in nodes:
            nodes.add(producer)
            waiting += node_inputs(producer)
    return nodes, initializers
