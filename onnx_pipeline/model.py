"""Loading an ONNX model safely: one clear line for whatever is wrong with it.

Weights stay where they are: external tensors are opened lazily and never gathered in memory.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import onnx
import onnx_ir as ir
from onnx_ir import Value

from onnx_pipeline.errors import InputError

if TYPE_CHECKING:
    import onnxruntime

#: A protobuf message cannot be larger; models above it keep their weights outside.
MAX_PROTO_BYTES = (1 << 31) - 1
_TENSOR_FIELDS = ("t", "tensors")
_GRAPH_FIELDS = ("g", "graphs")


@dataclass(frozen=True, eq=False)
class SourceModel:
    """An ONNX model as loaded from a file.

    Attributes
    ----------
    path : Path
        The file it came from.
    ir : onnx_ir.Model
        The model; external weights are not read. Every node of the main graph has a unique name.
    sha256 : str
        Of the model file itself (external data not included).
    data_dir : Path
        The folder that the locations of external tensors in ``ir`` are relative to; links are resolved.
    """

    path: Path
    ir: ir.Model
    sha256: str
    data_dir: Path

    @property
    def inputs(self) -> list[Value]:
        """What a caller must feed: graph inputs without a default value."""
        return [v for v in self.ir.graph.inputs if not v.is_initializer()]

    @property
    def outputs(self) -> list[Value]:
        """The graph outputs."""
        return list(self.ir.graph.outputs)


def load(path: str | os.PathLike[str]) -> SourceModel:
    """Load a model and check what every later step relies on.

    Nodes that are not in topological order are sorted, unnamed nodes and later nodes of the same name are
    named.

    Raises
    ------
    InputError
        If the file cannot be read or parsed, or if the model is cyclic, not in single static assignment form,
        reads values that nothing produces, or has external data that is missing or outside its folder.
    """
    path = Path(path)
    data = _read(path)
    proto = onnx.ModelProto()
    try:
        proto.ParseFromString(data)
    except Exception:  # protobuf's DecodeError has no typed home
        raise InputError(path, "this is not an ONNX model, or it is truncated") from None
    digest = hashlib.sha256(data).hexdigest()
    del data
    is_sorted = _check_structure(path, proto)
    data_dir = _resolve_external_data(path, proto)
    try:
        model = ir.serde.deserialize_model(proto)
    except Exception as error:  # whatever a malformed message provokes
        raise InputError(path, f"the model cannot be read: {_root_cause(error)}") from error
    for tensor in _external_tensors(model):
        tensor.base_dir = data_dir
    if not is_sorted:
        try:
            model.graph.sort()
        except ValueError:
            raise InputError(path, f"the graph has a cycle through {_node_on_cycle(proto.graph)}") from None
    source = SourceModel(path, model, digest, data_dir)
    try:
        _name_nodes(model.graph)
        _check_writable(source)
    except Exception as error:
        raise InputError(path, f"the model is malformed: {_root_cause(error)}") from error
    return source


def node_inputs(node: ir.Node) -> tuple[ir.Value, ...]:
    """Return the distinct values that a node reads, those captured by its subgraphs (nested too) included.

    Values that live inside the subgraphs are left out, and so are absent optional inputs.
    """
    found: dict[ir.Value, None] = {v: None for v in node.inputs if v is not None}
    for graph in node_graphs(node):
        for inner in graph.all_nodes():
            found.update((v, None) for v in inner.inputs if v is not None and v.graph is node.graph)
        for sub in (graph, *(g for n in graph.all_nodes() for g in node_graphs(n))):
            found.update((v, None) for v in sub.outputs if v.graph is node.graph)
    return tuple(found)


def node_graphs(node: ir.Node) -> Iterator[ir.Graph]:
    """Yield the subgraphs of a node, not nested ones."""
    for attribute in node.attributes.values():
        if attribute.type == ir.AttributeType.GRAPH and not attribute.is_ref():
            yield attribute.as_graph()
        elif attribute.type == ir.AttributeType.GRAPHS and not attribute.is_ref():
            yield from attribute.as_graphs()


def constant_tensor(node: ir.Node) -> ir.TensorProtocol | None:
    """Return the tensor of a Constant node that holds one."""
    if node.op_type != "Constant" or node.domain not in ("", "ai.onnx") or "value" not in node.attributes:
        return None
    attribute = node.attributes["value"]
    if attribute.is_ref() or attribute.type != ir.AttributeType.TENSOR:
        return None
    return attribute.as_tensor()


def serialize(source: SourceModel, extra_outputs: Sequence[str] = ()) -> bytes:
    """Return the model as bytes that onnxruntime loads with :func:`session_options`.

    Node names are those of ``source.ir``; external weights stay external.

    Parameters
    ----------
    source : SourceModel
    extra_outputs : sequence of str
        Values to expose as additional outputs; onnxruntime infers their types.

    Raises
    ------
    InputError
        If the model does not fit into one protobuf message.
    """
    proto = ir.to_proto(source.ir)
    present = {output.name for output in proto.graph.output}
    for name in extra_outputs:
        if name not in present:
            proto.graph.output.add(name=name)
    try:
        return bytes(proto.SerializeToString())
    except Exception as error:
        raise InputError(source.path, f"the model cannot be serialised: {_root_cause(error)}") from error


def shell(source: SourceModel) -> onnx.ModelProto:
    """Return the model without its graph: versions, operator sets, metadata and all local functions."""
    model = source.ir
    proto = onnx.ModelProto(
        ir_version=model.ir_version,
        producer_name=model.producer_name or "",
        producer_version=model.producer_version or "",
        domain=model.domain or "",
        model_version=model.model_version or 0,
        doc_string=model.doc_string or "",
    )
    for domain, version in model.opset_imports.items():
        proto.opset_import.add(domain=domain, version=version)
    for key, text in model.metadata_props.items():
        proto.metadata_props.add(key=key, value=text)
    proto.functions.extend(ir.to_proto(function) for function in model.functions.values())
    proto.graph.name = model.graph.name or "graph"
    proto.graph.doc_string = model.graph.doc_string or ""
    for key, text in model.graph.metadata_props.items():
        proto.graph.metadata_props.add(key=key, value=text)
    return proto


def session_options(source: SourceModel) -> onnxruntime.SessionOptions:
    """Return options for a session made from :func:`serialize`'s bytes: where the external weights are.

    Warnings are silenced: they are about the source model, which the user did not ask us to judge.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.add_session_config_entry(
        "session.model_external_initializers_file_folder_path", str(source.data_dir)
    )
    return options


def _read(path: Path) -> bytes:
    if path.is_dir():
        raise InputError(path, "this is a directory; give the .onnx file in it")
    try:
        if path.stat().st_size > MAX_PROTO_BYTES:
            raise InputError(path, "an ONNX file cannot exceed 2 GiB; save its weights as external data")
        data = path.read_bytes()
    except OSError as error:
        raise InputError(path, error.strerror or str(error)) from error
    if not data:
        raise InputError(path, "the file is empty")
    return data


def _root_cause(error: BaseException) -> str:
    while error.__cause__ is not None:
        error = error.__cause__
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def _describe(node: onnx.NodeProto) -> str:
    name = node.name or next((o for o in node.output if o), "")
    return f"node {name!r} ({node.op_type})"


def _subgraphs(node: onnx.NodeProto) -> Iterator[onnx.GraphProto]:
    for attribute in node.attribute:
        if attribute.HasField("g"):
            yield attribute.g
        yield from attribute.graphs


def _check_structure(path: Path, proto: onnx.ModelProto) -> bool:
    """Check names and domains; return whether the nodes are in topological order."""
    if not proto.HasField("graph"):
        raise InputError(path, "this is not an ONNX model: it has no graph")
    if not proto.opset_import:
        raise InputError(path, "the model imports no operator set, it may be truncated")
    if not proto.graph.output:
        raise InputError(path, "the model has no outputs")
    outputs = [output.name for output in proto.graph.output]
    if len(set(outputs)) < len(outputs):
        twice = next(name for name in outputs if outputs.count(name) > 1)
        raise InputError(path, f"output {twice!r} is listed twice")
    domains = {o.domain if o.domain != "ai.onnx" else "" for o in proto.opset_import}
    free, is_sorted = _scan(path, proto.graph, domains)
    for name, reader in free.items():
        raise InputError(path, f"{reader} reads {name!r}, which nothing produces")
    for function in proto.functions:
        inside = {o.domain if o.domain != "ai.onnx" else "" for o in function.opset_import}
        body = onnx.GraphProto(name=function.name, node=function.node)
        body.input.extend(onnx.ValueInfoProto(name=name) for name in function.input)
        body.output.extend(onnx.ValueInfoProto(name=name) for name in function.output)
        free, _ = _scan(path, body, inside | domains)
        for name, reader in free.items():
            where = f"in function {function.name!r}"
            raise InputError(path, f"{where}: {reader} reads {name!r}, which nothing produces")
    return is_sorted


def _scan(path: Path, graph: onnx.GraphProto, domains: set[str]) -> tuple[dict[str, str], bool]:
    """Return the names that a graph reads from outside, each with a reader, and whether it is sorted."""
    if graph.sparse_initializer:
        raise InputError(path, "sparse initializers are not supported; store them as dense tensors")
    seen: set[str] = set()
    defined = [v.name for v in graph.input]
    if len(set(defined)) < len(defined):
        raise InputError(path, f"graph {graph.name!r} has two inputs of the same name")
    initializers = [t.name for t in graph.initializer]
    if len(set(initializers)) < len(initializers):
        raise InputError(path, f"graph {graph.name!r} has two initializers of the same name")
    seen.update(defined, initializers)
    free: dict[str, str] = {}
    early: dict[str, str] = {}
    is_sorted = True
    for node in graph.node:
        if (node.domain if node.domain != "ai.onnx" else "") not in domains:
            raise InputError(path, f"{_describe(node)} uses domain {node.domain!r}, which is not imported")
        reads = {name: _describe(node) for name in node.input if name}
        for sub in _subgraphs(node):
            inner, inner_sorted = _scan(path, sub, domains)
            reads.update(inner)
            is_sorted &= inner_sorted
        early.update((name, reader) for name, reader in reads.items() if name not in seen)
        for name in node.output:
            if name and name in seen:
                raise InputError(
                    path, f"value {name!r} is defined twice, the second time by {_describe(node)}"
                )
            seen.add(name)
    for name, reader in early.items():
        if name in seen:
            is_sorted = False
        else:
            free[name] = reader
    for output in graph.output:
        if output.name not in seen:
            free.setdefault(output.name, f"the output list of graph {graph.name!r}")
    return free, is_sorted


def _node_on_cycle(graph: onnx.GraphProto) -> str:
    """Describe a node that never becomes ready; called for cyclic graphs only."""
    seen = {v.name for v in graph.input} | {t.name for t in graph.initializer}
    produced = {name for node in graph.node for name in node.output}
    waiting = list(graph.node)
    while True:
        stuck = [n for n in waiting if any(x in produced and x not in seen for x in _reads(n))]
        if len(stuck) == len(waiting):
            return _describe(_walk_back(stuck))
        for node in waiting:
            if not any(x in produced and x not in seen for x in _reads(node)):
                seen.update(node.output)
        waiting = stuck


def _reads(node: onnx.NodeProto) -> set[str]:
    """Names that a node or anything nested in it reads; a superset of what it captures."""
    inner = {x for sub in _subgraphs(node) for n in sub.node for x in _reads(n)}
    return {x for x in node.input if x} | inner


def _walk_back(stuck: Sequence[onnx.NodeProto]) -> onnx.NodeProto:
    """Follow producers among stuck nodes until one repeats: that one is on a cycle."""
    producer = {x: node for node in stuck for x in node.output if x}
    visited: list[onnx.NodeProto] = []
    node = stuck[0]
    while all(node is not other for other in visited):
        visited.append(node)
        node = next((producer[x] for x in sorted(_reads(node)) if x in producer), node)
    return node


def tensor_protos(message: Any) -> Iterator[onnx.TensorProto]:
    """Yield every tensor in a model, graph, function or node, nested ones included."""
    if isinstance(message, onnx.ModelProto):
        yield from tensor_protos(message.graph)
        for function in message.functions:
            yield from tensor_protos(function)
        return
    if isinstance(message, onnx.GraphProto):
        yield from message.initializer
    nodes = [message] if isinstance(message, onnx.NodeProto) else message.node
    for node in nodes:
        for attribute in node.attribute:
            if attribute.HasField("t"):
                yield attribute.t
            yield from attribute.tensors
            if attribute.HasField("g"):
                yield from tensor_protos(attribute.g)
            for graph in attribute.graphs:
                yield from tensor_protos(graph)


def external_entries(tensor: onnx.TensorProto) -> dict[str, str]:
    """Return the external data fields of a tensor, empty for one that holds its own data."""
    if tensor.data_location != onnx.TensorProto.EXTERNAL:
        return {}
    return {entry.key: entry.value for entry in tensor.external_data}


def _resolve_external_data(path: Path, proto: onnx.ModelProto) -> Path:
    """Check every external tensor; rewrite its location relative to the returned real folder.

    A link is followed when it ends in the model's folder, or in the folder where the model file itself
    really lies: caches of model hubs link model and weights into one folder of blobs.
    """
    allowed = {path.parent.resolve(), path.resolve().parent}
    real: dict[str, Path] = {}
    tensors = [t for t in tensor_protos(proto) if t.data_location == onnx.TensorProto.EXTERNAL]
    for tensor in tensors:
        fields = external_entries(tensor)
        location = fields.get("location", "")
        if location not in real:
            real[location] = _data_file(path, tensor.name, location, allowed)
        _check_range(path, tensor, fields, real[location])
    if not tensors:
        return path.parent.resolve()
    base = Path(os.path.commonpath([file.parent for file in real.values()]))
    for tensor in tensors:
        for entry in tensor.external_data:
            if entry.key == "location":
                entry.value = str(real[entry.value].relative_to(base))
    return base


def _data_file(path: Path, tensor: str, location: str, allowed: set[Path]) -> Path:
    where = f"external data of tensor {tensor!r}"
    if not location:
        raise InputError(path, f"{where} has no location")
    parts = Path(location.replace("\\", "/"))
    if parts.is_absolute() or Path(location).is_absolute() or ".." in parts.parts or ":" in parts.parts[0]:
        raise InputError(path, f"{where} is at {location!r}, outside the model's folder")
    file = path.parent / location
    try:
        target = file.resolve(strict=True)
    except (OSError, RuntimeError, ValueError):
        raise InputError(path, f"{where} is missing: no file {location!r} in the model's folder") from None
    if not any(target.is_relative_to(folder) for folder in allowed):
        raise InputError(path, f"{where}: the link {location!r} leads outside the model's folder")
    if not target.is_file():
        raise InputError(path, f"{where}: {location!r} is not a regular file")
    return target


def _check_range(path: Path, tensor: onnx.TensorProto, fields: dict[str, str], file: Path) -> None:
    where = f"external data of tensor {tensor.name!r}"
    try:
        offset = int(fields.get("offset", 0))
        count = _num_bytes(tensor)
        length = int(fields.get("length", count))
    except (ValueError, KeyError):
        raise InputError(path, f"{where} has a malformed offset, length, type or shape") from None
    if offset < 0 or length != count:
        raise InputError(path, f"{where} has {length} bytes at {offset}, its type and shape need {count}")
    if offset + length > file.stat().st_size:
        raise InputError(path, f"{where} ends at byte {offset + length}, beyond the end of {file.name!r}")


def _num_bytes(tensor: onnx.TensorProto) -> int:
    elements = 1
    for dim in tensor.dims:
        if dim < 0:
            raise ValueError("negative dimension")
        elements *= dim
    return nbytes(ir.DataType(tensor.data_type), elements)


def nbytes(dtype: ir.DataType, elements: int) -> int:
    """Return the bytes of packed elements; strings and undefined types count 16 and 0 bytes an element."""
    if dtype == ir.DataType.STRING:
        return 16 * elements
    if dtype == ir.DataType.UNDEFINED:
        return 0
    return -(-elements * int(dtype.bitwidth) // 8)


def _external_tensors(model: ir.Model) -> Iterator[ir.ExternalTensor]:
    graphs: list[ir.Graph | ir.Function] = [model.graph, *model.functions.values()]
    for owner in graphs:
        graph = owner.graph if isinstance(owner, ir.Function) else owner
        subgraphs = [g for node in graph.all_nodes() for g in node_graphs(node)]
        for each in (graph, *subgraphs):
            for value in each.initializers.values():
                if isinstance(value.const_value, ir.ExternalTensor):
                    yield value.const_value
        for node in graph.all_nodes():
            for attribute in node.attributes.values():
                if attribute.type == ir.AttributeType.TENSOR and not attribute.is_ref():
                    tensor = attribute.as_tensor()
                    if isinstance(tensor, ir.ExternalTensor):
                        yield tensor


def _check_writable(source: SourceModel) -> None:
    """Fail now for what could be read but not written again: text that is not UTF-8, absurd types."""
    shell(source)
    for value in (*source.ir.graph.inputs, *source.ir.graph.outputs):
        ir.to_proto(value)
    for node in source.ir.graph:
        if constant_tensor(node) is None:
            ir.to_proto(node)
    for value in source.ir.graph.initializers.values():
        if value.const_value is not None:
            nbytes(value.const_value.dtype, value.const_value.size)


def _name_nodes(graph: ir.Graph) -> None:
    taken = {node.name for node in graph if node.name}
    seen: set[str] = set()
    for index, node in enumerate(graph):
        if not node.name or node.name in seen:
            stem = node.name or f"{node.op_type}_{index}"
            name, suffix = stem, 0
            while name in taken:
                suffix += 1
                name = f"{stem}_{suffix}"
            node.name = name
            taken.add(name)
        seen.add(node.name)
