"""Loading an ONNX model safely: one clear line for anything that is wrong with it.

Weights stay where they are: external tensors are opened lazily and never gathered in memory.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import onnx_ir as ir
from onnx_ir import Value

from onnx_pipeline.errors import InputError, PipelineError
from onnx_pipeline.model import memory, protos
from onnx_pipeline.model.digest import content_digest
from onnx_pipeline.model.external import Stamp, external_tensors, nbytes, resolve_external_data
from onnx_pipeline.model.nodes import constant_tensor
from onnx_pipeline.model.quantised import clone_dequantize
from onnx_pipeline.model.sliced import files_behind
from onnx_pipeline.model.structure import check_structure, node_on_cycle
from onnx_pipeline.model.tensors import densify
from onnx_pipeline.ort.session import check_libraries
from onnx_pipeline.parameters import ModelLike, PathLike


@dataclass(frozen=True, eq=False)
class SourceModel:
    """An ONNX model as loaded from a file or from memory.

    Attributes
    ----------
    path : Path
        The file it came from; of a model in memory the name of a file that it could be in.
    ir : onnx_ir.Model
        The model; external weights are not read. Every node of the main graph has a unique name.
    sha256 : str
        Hash of the model file itself, or of the content of a model in memory; without external data.
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
    def overridable(self) -> list[Value]:
        """What a caller may feed: graph inputs with a default value.

        None before IR version 4, where every initializer had to be listed as an input: onnxruntime takes
        them for constants and refuses to be fed one.
        """
        if (self.ir.ir_version or 0) < 4:
            return []
        return [v for v in self.ir.graph.inputs if v.is_initializer()]

    @property
    def outputs(self) -> list[Value]:
        """The graph outputs."""
        return list(self.ir.graph.outputs)


def load(model: ModelLike, custom_ops: Sequence[PathLike] = ()) -> SourceModel:
    """Load a model and check what every later step relies on.

    Nodes that are not in topological order are sorted, unnamed nodes and later nodes of the same name are
    named.

    Parameters
    ----------
    model : path-like, onnx.ModelProto or onnx_ir.Model
        A file, or a model in memory. That one stays as it is, and its weights are shared, not copied.
    custom_ops : sequence of path-like
        Libraries of custom operators for onnxruntime. Loading one runs its code.

    Raises
    ------
    UsageError
        If it is no model.
    InputError
        If the file cannot be read or parsed, exceeds a limit of :mod:`onnx_pipeline.model.limits`, or if the
        model is cyclic, not in single static assignment form, reads values that nothing produces, or has
        external data that is missing or outside its folder.
    """
    path = Path(model) if isinstance(model, str | os.PathLike) else memory.name_of(model)
    try:
        message = protos.read(path) if isinstance(model, str | os.PathLike) else memory.read(model, path)
        return _build(message, check_libraries(custom_ops))
    except PipelineError:
        raise
    except Exception as error:  # whatever a malformed message provokes
        raise InputError(path, f"the model is malformed: {protos.root_cause(error)}") from error


def _build(message: protos.Message, custom_ops: tuple[Path, ...]) -> SourceModel:
    path, proto = message.path, message.proto
    densify(path, proto)
    is_sorted = check_structure(path, proto)
    data_dir, stamps = resolve_external_data(message.folder / path.name, proto)
    stamps |= files_behind(message.weights.values())
    model = protos.to_ir(proto)
    for outside in external_tensors(model):
        outside.base_dir = data_dir
    for name, tensor in message.weights.items():
        model.graph.initializers[name].const_value = tensor
    if not is_sorted:
        try:
            model.graph.sort()
        except ValueError:
            raise InputError(path, f"the graph has a cycle through {node_on_cycle(proto.graph)}") from None
    clone_dequantize(model.graph)
    _name_nodes(model.graph)
    digest = message.digest or content_digest(model)
    source = SourceModel(path, model, digest, data_dir, stamps, custom_ops)
    _check_writable(source)
    return source


def _check_writable(source: SourceModel) -> None:
    """Fail now for what could be read but not written again: text that is not UTF-8, absurd types."""
    protos.shell(source.ir)
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
