"""The unsplit model, reassembled from its stages: what a pipeline is compared with."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import onnx

from onnx_pipeline.errors import Advice, InputError
from onnx_pipeline.manifest import Manifest
from onnx_pipeline.model.limits import MAX_PROTO_BYTES
from onnx_pipeline.model.protos import serialize
from onnx_pipeline.model.source import SourceModel
from onnx_pipeline.ort.session import SessionSettings, open_session
from onnx_pipeline.parameters import PathLike
from onnx_pipeline.runtime.placement import weights_folder


def reassemble(directory: Path, document: Manifest) -> bytes:
    """Join the stages into one model; external weights stay in the stages' files.

    A node or weight that several stages have a copy of is there once.

    Raises
    ------
    InputError
        If a stage cannot be read, or the model does not fit into one protobuf message.
    """
    whole = onnx.ModelProto()
    made: set[str] = set()
    functions: set[tuple[str, str, str]] = set()
    values: dict[str, onnx.ValueInfoProto] = {}
    for stage in document.stages:
        part = _read(directory / stage.file)
        if not whole.graph.name:
            whole.CopyFrom(part)
            for field in ("node", "initializer", "sparse_initializer", "input", "output", "value_info"):
                whole.graph.ClearField(field)
            whole.ClearField("functions")
        graph = part.graph
        values.update((value.name, value) for value in (*graph.input, *graph.output))
        for tensor in graph.initializer:
            if tensor.name not in made:
                whole.graph.initializer.append(tensor)
                made.add(tensor.name)
        whole.graph.sparse_initializer.extend(graph.sparse_initializer)
        for node in graph.node:
            outputs = {name for name in node.output if name}
            if not outputs or not outputs <= made:
                whole.graph.node.append(node)
                made |= outputs
        for function in part.functions:
            key = (function.domain, function.name, getattr(function, "overload", ""))
            if key not in functions:
                whole.functions.append(function)
                functions.add(key)
        known = {entry.domain for entry in whole.opset_import}
        whole.opset_import.extend(entry for entry in part.opset_import if entry.domain not in known)
    ports = (*document.model.inputs, *document.model.defaults)
    whole.graph.input.extend(values[p.name] for p in ports if p.name in values)
    whole.graph.output.extend(values[p.name] for p in document.model.outputs if p.name in values)
    if whole.ByteSize() > MAX_PROTO_BYTES:
        message = "the stages do not fit into one model file"
        raise InputError(directory, message, Advice("give the unsplit one as {model}", model=...))
    return bytes(whole.SerializeToString())


def load_whole(
    directory: Path,
    document: Manifest,
    model: PathLike | SourceModel | None,
    threads: int,
    provider: Any,
    custom_ops: Sequence[str | os.PathLike[str]] = (),
    allow_reference: str | os.PathLike[str] | None = None,
) -> Any:
    """Load the unsplit model.

    Parameters
    ----------
    directory : Path
        Of the split.
    document : Manifest
    model : path-like or SourceModel, optional
        The model's file, or a model in memory; reassembled from the stages by default.
    threads : int
        Intra-op threads.
    provider : str or (str, mapping)
    custom_ops : sequence of path-like
        Libraries of custom operators.
    allow_reference : path-like, optional
        As for :class:`~onnx_pipeline.PipelineSession`.

    Returns
    -------
    onnxruntime.InferenceSession

    Raises
    ------
    InputError
        If it cannot be loaded, or a stage cannot be read.
    """
    settings = SessionSettings(
        providers=[provider],
        threads=threads,
        custom_ops=[Path(path).absolute() for path in custom_ops],
    )
    if isinstance(model, SourceModel):
        own = replace(settings, data_folder=model.data_dir)
        whole = serialize(model.ir, model.path)
        return open_session(whole, own, file=model.path, what="the unsplit model")
    if model is not None:
        return open_session(model, settings, what="the unsplit model")
    data = weights_folder(directory, document, allow_reference) or directory.resolve()
    settings = replace(settings, data_folder=data)
    whole = reassemble(directory, document)
    return open_session(whole, settings, file=directory, what="the unsplit model")


def _read(path: Path) -> onnx.ModelProto:
    try:
        return onnx.load(path, load_external_data=False)
    except Exception as error:
        raise InputError(path, f"not a readable ONNX file: {' '.join(str(error).split())}") from error
