"""The whole model with the standard's ``pipeline_stage`` and our metadata on its nodes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import onnx_ir as ir

from onnx_pipeline.emission.boundary import assign_parameters
from onnx_pipeline.emission.metadata import NodeFacts, annotate
from onnx_pipeline.emission.stagefile import _add_body, save
from onnx_pipeline.emission.weights import SharedFiles, WeightStore
from onnx_pipeline.manifest import ANNOTATED_NAME
from onnx_pipeline.model.protos import describe, shell
from onnx_pipeline.model.source import SourceModel

#: First IR version with device configurations.
_ANNOTATION_IR_VERSION = 11

_CONFIGURATION = "pipeline"


def write_annotated(
    source: SourceModel,
    facts: Mapping[str, NodeFacts],
    stores: Sequence[WeightStore],
    stages: int,
    folder: Path,
    shared: SharedFiles,
) -> None:
    """Write the whole model with ``pipeline_stage``; its weights are those of the stages' data files.

    onnxruntime takes the initializers of an IR version 3 model for constants, and folds them, although they
    are inputs as well. In later versions they would be defaults that a caller may override, so the inputs
    are dropped.
    """
    proto = shell(source.ir)
    proto.ir_version = max(proto.ir_version, _ANNOTATION_IR_VERSION)
    graph = source.ir.graph
    inputs = source.inputs if (source.ir.ir_version or 0) < 4 else graph.inputs
    proto.graph.input.extend(describe(v) for v in inputs)
    proto.graph.output.extend(describe(v) for v in graph.outputs)
    placed = {name: place for store in stores for name, place in store.placed.items()}
    store = WeightStore(source, folder, f"{ANNOTATED_NAME}.data", placed, shared)
    _add_body(proto, list(graph), list(graph.initializers.values()), store)
    store.close()
    proto.graph.value_info.extend(
        ir.to_proto(v)
        for node in graph
        for v in node.outputs
        if v.name and v.type is not None and not v.is_graph_output()
    )
    configuration = proto.configuration.add(name=_CONFIGURATION, num_devices=stages)
    annotate(proto.graph, facts)
    stage_of = {name: known.stage for name, known in facts.items()}
    homes = {**stage_of, **assign_parameters(source, stage_of)}
    for node in proto.graph.node:
        if node.name in homes:
            node.device_configurations.add(
                configuration_id=configuration.name, pipeline_stage=homes[node.name]
            )
    save(proto, folder / ANNOTATED_NAME)
