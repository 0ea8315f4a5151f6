"""How costs and stages travel on a model: metadata keys ``onnx_pipeline.*`` and nothing else.

========================  ========  ==========================================================================
key                       on        value
========================  ========  ==========================================================================
onnx_pipeline.work_ns     node      nanoseconds per inference, a number >= 0
onnx_pipeline.stage       node      stage, integer >= 0
onnx_pipeline.bytes       value     bytes that move when the value crosses a border; replaces shape times type
onnx_pipeline.tensor      value     JSON: dtype, concrete shape, shape to declare at a border
onnx_pipeline.costs       model     JSON: the rest of NodeCosts, values of symbolic dimensions
onnx_pipeline.partition   model     JSON: number of stages, target, lower bounds, search statistics
========================  ========  ==========================================================================

A pass that replaces :class:`~onnx_pipeline.passes.profile.ProfilePass` has to write ``work_ns`` on the
executable nodes, one that replaces :class:`~onnx_pipeline.passes.partition.PartitionPass` has to write
``stage``; every other key is optional. Metadata is saved with the model, so the steps may run in different
processes.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from typing import Any

import onnx_ir as ir
from onnx_ir.passes import PreconditionError

from onnx_pipeline.costmodel.request import NodeCosts
from onnx_pipeline.emission.metadata import PREFIX, WORK
from onnx_pipeline.emission.metadata import STAGE as STAGE
from onnx_pipeline.model.shapes import TensorInfo

BYTES = f"{PREFIX}bytes"
TENSOR = f"{PREFIX}tensor"
COSTS = f"{PREFIX}costs"
PARTITION = f"{PREFIX}partition"


def require_names(model: ir.Model) -> None:
    """Raise PreconditionError unless every node of the main graph has a name of its own."""
    seen: set[str] = set()
    for node in model.graph:
        if not node.name or node.name in seen:
            raise PreconditionError(
                f"node {node.name or '(unnamed)'!r} ({node.op_type}) has no unique name: load the model "
                "with onnx_pipeline.model.load, or run onnx_ir.passes.common.NameFixPass first"
            )
        seen.add(node.name)


def values(model: ir.Model) -> dict[str, ir.Value]:
    """Every value of the main graph by name."""
    graph = model.graph
    found = [*graph.inputs, *graph.initializers.values(), *(v for node in graph for v in node.outputs)]
    return {value.name: value for value in found if value.name}


def write_costs(
    model: ir.Model, infos: Mapping[str, TensorInfo], costs: NodeCosts, dims: Mapping[str, int]
) -> None:
    """Annotate nodes with work and values with their types and sizes; drop what an earlier run left."""
    clear(model)
    for node in model.graph:
        work = costs.work_ns.get(str(node.name))
        if work is not None:
            node.metadata_props[WORK] = repr(work)
    for name, value in values(model).items():
        if name in infos and not value.is_initializer():
            info = infos[name]
            value.metadata_props[BYTES] = str(info.nbytes)
            value.metadata_props[TENSOR] = json.dumps(
                {"dtype": info.dtype.name, "shape": info.shape, "declared": info.declared}
            )
    rest = costs.to_json()
    del rest["work_ns"]
    model.metadata_props[COSTS] = json.dumps(rest | {"dims": dict(dims)})


def read_costs(model: ir.Model, nodes: Iterable[ir.Node]) -> NodeCosts:
    """Return the annotated costs of ``nodes``.

    Raises
    ------
    PreconditionError
        If a node has no work, or one that is not a number >= 0; the message names the nodes.
    """
    remedy = "run a cost pass first, for instance ProfilePass(cost_model='analytic')"
    texts = read_texts(nodes, WORK, remedy)
    work = {name: _number(text, f"{WORK} of node {name!r}") for name, text in texts.items()}
    try:
        return NodeCosts.from_json(read_record(model, COSTS) | {"work_ns": work})
    except ValueError as error:
        raise PreconditionError(f"{COSTS}: {error}") from None


def read_dims(model: ir.Model) -> dict[str, int]:
    """Return the symbolic dimensions that the annotated costs are for."""
    return {str(name): int(size) for name, size in read_record(model, COSTS).get("dims", {}).items()}


def read_infos(model: ir.Model) -> dict[str, TensorInfo] | None:
    """Return the annotated types and shapes, or None if a value of the main graph has none."""
    infos = {}
    for name, value in values(model).items():
        if value.is_initializer() and value.const_value is not None:
            tensor = value.const_value
            shape = tuple(int(size) for size in tensor.shape.numpy())
            infos[name] = TensorInfo(name, tensor.dtype, shape, shape)
            continue
        if TENSOR not in value.metadata_props:
            return None
        record = _parse(value.metadata_props[TENSOR], TENSOR)
        sizes, declared = record["shape"], record["declared"]
        infos[name] = TensorInfo(
            name=name,
            dtype=ir.DataType[record["dtype"]],
            shape=None if sizes is None else tuple(sizes),
            declared=None if declared is None else tuple(declared),
        )
    return infos


def read_bytes(model: ir.Model) -> dict[str, int]:
    """Return the annotated sizes of values in bytes."""
    return {
        name: _integer(value.metadata_props[BYTES], f"{BYTES} of value {name!r}")
        for name, value in values(model).items()
        if BYTES in value.metadata_props
    }


def read_integers(nodes: Iterable[ir.Node], key: str, remedy: str) -> dict[str, int]:
    """Return an integer annotation of every node, by node name."""
    texts = read_texts(nodes, key, remedy)
    return {name: _integer(text, f"{key} of node {name!r}") for name, text in texts.items()}


def read_texts(nodes: Iterable[ir.Node], key: str, remedy: str) -> dict[str, str]:
    """Return an annotation that every node must have, by node name."""
    nodes = list(nodes)
    missing = [str(node.name) for node in nodes if key not in node.metadata_props]
    if missing:
        more = f" and {len(missing) - 5} more" if len(missing) > 5 else ""
        raise PreconditionError(f"no {key} on nodes {', '.join(missing[:5])}{more}: {remedy}")
    return {str(node.name): node.metadata_props[key] for node in nodes}


def read_record(model: ir.Model, key: str) -> dict[str, Any]:
    """Return a JSON annotation of the model, empty if there is none."""
    text = model.metadata_props.get(key)
    return {} if text is None else _parse(text, key)


def clear(model: ir.Model) -> bool:
    """Remove every ``onnx_pipeline.*`` key of the main graph; return whether there was any."""
    holders = [
        model.metadata_props,
        *(node.metadata_props for node in model.graph),
        *(value.metadata_props for value in values(model).values()),
    ]
    found = False
    for props in holders:
        for key in [key for key in props if key.startswith(PREFIX)]:
            del props[key]
            found = True
    return found


def _number(text: str, where: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not 0 <= number < math.inf:
        raise PreconditionError(f"{where} must be a finite number >= 0, got {text!r}")
    return number


def _integer(text: str, where: str) -> int:
    if not (text.isascii() and text.isdigit()):
        raise PreconditionError(f"{where} must be an integer >= 0, got {text!r}")
    return int(text)


def _parse(text: str, key: str) -> dict[str, Any]:
    try:
        record = json.loads(text)
    except json.JSONDecodeError as error:
        raise PreconditionError(f"{key} is not valid JSON: {error}") from None
    if not isinstance(record, dict):
        raise PreconditionError(f"{key} must be a JSON object, got {text[:40]!r}")
    return record
