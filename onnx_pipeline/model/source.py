"""Loading an ONNX model safely: one clear line for whatever is wrong with it.

Weights stay where they are: external tensors are opened lazily and never gathered in memory.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import onnx
import onnx_ir as ir
from onnx_ir import Value

from onnx_pipeline.errors import InputError
from onnx_pipeline.manifest import DATA_FOLDER_OPTION
from onnx_pipeline.model.external import Stamp, nbytes, resolve_external_data, tensor_protos
from onnx_pipeline.model.limits import MAX_PROTO_BYTES, check_elements
from onnx_pipeline.model.quantised import clone_dequantize
from onnx_pipeline.model.structure import check_structure, node_on_cycle
from onnx_pipeline.model.tensors import check_tensor, densify, graph_protos

if TYPE_CHECKING:
    import onnxruntime

#: Key of a value's type among its metadata where onnx_ir has no class for it.
_TYPE = "onnx_pipeline.type"


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
    stamps : mapping of Path to (int, int)
        Size and time of last change of every external data file when the model was loaded.
    custom_ops : tuple of Path
        Libraries of custom operators that onnxruntime needs to run the model.
    """

    path: Path
    ir: ir.Model
    sha256: str
    data_dir: Path
    stamps: Mapping[Path, Stamp] = field(default_factory=dict)
    custom_ops: tuple[Path, ...] = ()

    @property
    def inputs(self) -> list[Value]:
        """What a caller must feed: graph inputs without a default value."""
        return [v for v in self.ir.graph.inputs if not v.is_initializer()]

    @property
    def outputs(self) -> list[Value]:
        """The graph outputs."""
        return list(self.ir.graph.outputs)


def load(path: str | os.PathLike[str], custom_ops: Sequence[str | os.PathLike[str]] = ()) -> SourceModel:
    """Load a model and check what every later step relies on.

    Nodes that are not in topological order are sorted, unnamed nodes and later nodes of the same name are
    named.

    Raises
    ------
    InputError
        If the file cannot be read or parsed, exceeds a limit of :mod:`onnx_pipeline.model.limits`, or if the
        model is cyclic, not in single static assignment form, reads values that nothing produces, or has
        external data that is missing or outside its folder.
    """
    path = Path(path)
    data = _read(path)
    check_elements(path, data)
    proto = onnx.ModelProto()
    try:
        proto.ParseFromString(data)
    except Exception:  # protobuf's DecodeError has no typed home
        raise InputError(path, "this is not an ONNX model, or it is truncated") from None
    digest = hashlib.sha256(data).hexdigest()
    del data
    try:
        return _build(path, proto, digest, check_libraries(custom_ops))
    except InputError:
        raise
    except Exception as error:  # whatever a malformed message provokes
        raise InputError(path, f"the model is malformed: {_root_cause(error)}") from error


def _build(path: Path, proto: onnx.ModelProto, digest: str, custom_ops: tuple[Path, ...]) -> SourceModel:
    densify(path, proto)
    is_sorted = check_structure(path, proto)
    for tensor in tensor_protos(proto):
        check_tensor(path, tensor)
    data_dir, stamps = resolve_external_data(path, proto)
    maps = _set_maps_aside(proto)
    _forget_negative_dims(proto)
    model = ir.serde.deserialize_model(proto)
    for value in (*model.graph.inputs, *model.graph.outputs):
        if value.name in maps:
            value.meta[_TYPE] = maps[value.name]
    for outside in _external_tensors(model):
        outside.base_dir = data_dir
    if not is_sorted:
        try:
            model.graph.sort()
        except ValueError:
            raise InputError(path, f"the graph has a cycle through {node_on_cycle(proto.graph)}") from None
    clone_dequantize(model.graph)
    _name_nodes(model.graph)
    source = SourceModel(path, model, digest, data_dir, stamps, custom_ops)
    _check_writable(source)
    return source


def _set_maps_aside(proto: onnx.ModelProto) -> dict[str | None, onnx.TypeProto]:
    """Clear the types that onnx_ir cannot hold; return those of graph inputs and outputs, by name."""
    maps: dict[str | None, onnx.TypeProto] = {}
    for graph in graph_protos(proto):
        for value in (*graph.input, *graph.output, *graph.value_info):
            if _has_map(value.type):
                if graph is proto.graph:
                    maps[value.name] = onnx.TypeProto.FromString(value.type.SerializeToString())
                value.ClearField("type")
    return maps


def _forget_negative_dims(proto: onnx.ModelProto) -> None:
    """Some exporters write -1 where a dimension is not known."""
    for graph in graph_protos(proto):
        for value in (*graph.input, *graph.output, *graph.value_info):
            for dim in value.type.tensor_type.shape.dim if value.type.HasField("tensor_type") else ():
                if dim.dim_value < 0:
                    dim.ClearField("dim_value")


def _has_map(kind: onnx.TypeProto) -> bool:
    for holder in ("sequence_type", "optional_type"):
        if kind.HasField(holder):
            return _has_map(getattr(kind, holder).elem_type)
    return bool(kind.HasField("map_type") or kind.HasField("opaque_type"))


def describe(value: ir.Value) -> onnx.ValueInfoProto:
    """Return name, type, documentation and metadata of a value; maps included, which onnx_ir cannot write."""
    proto = ir.to_proto(value)
    if _TYPE in value.meta:
        proto.type.CopyFrom(value.meta[_TYPE])
    return proto


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
    for values, protos in (
        (source.ir.graph.inputs, proto.graph.input),
        (source.ir.graph.outputs, proto.graph.output),
    ):
        for value, info in zip(values, protos, strict=True):
            info.CopyFrom(describe(value))
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
    options.add_session_config_entry(DATA_FOLDER_OPTION, str(source.data_dir))
    register(options, source.custom_ops)
    return options


def check_libraries(paths: Sequence[str | os.PathLike[str]]) -> tuple[Path, ...]:
    """Return the libraries of custom operators as absolute paths.

    Raises
    ------
    InputError
        If onnxruntime cannot load one.
    """
    libraries = tuple(Path(path).absolute() for path in paths)
    if libraries:
        import onnxruntime

        register(onnxruntime.SessionOptions(), libraries)
    return libraries


def register(options: Any, libraries: Sequence[Path]) -> None:
    """Make libraries of custom operators known to the sessions of ``options``."""
    for library in libraries:
        if not library.is_file():
            raise InputError(library, "no such custom-operator library")
        try:
            options.register_custom_ops_library(str(library))
        except Exception as error:
            reason = " ".join(str(error).split())[:200]
            raise InputError(library, f"onnxruntime cannot load custom operators from it: {reason}") from None


def _read(path: Path) -> bytes:
    if path.is_dir():
        raise InputError(path, "this is a directory; give the .onnx file in it")
    try:
        if path.exists() and not path.is_file():
            raise InputError(path, "this is not a regular file; an ONNX model is read from one")
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
