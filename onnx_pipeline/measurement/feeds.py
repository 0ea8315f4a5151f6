"""What a benchmark feeds: the inputs that a profile of the unsplit model would make."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import onnx

from onnx_pipeline.errors import InputError
from onnx_pipeline.manifest import Manifest
from onnx_pipeline.measurement.reassemble import reassemble
from onnx_pipeline.model.dimensions import bound_dims
from onnx_pipeline.model.inputs import make_feeds
from onnx_pipeline.model.protos import to_ir
from onnx_pipeline.model.running import tried_feeds
from onnx_pipeline.model.source import SourceModel
from onnx_pipeline.price import bind
from onnx_pipeline.progress import Progress
from onnx_pipeline.runtime.inputs import blank_feeds, check_feeds


def request_feeds(
    directory: Path,
    document: Manifest,
    dims: Mapping[str, int] | None,
    inputs: Mapping[str, Any] | None,
    progress: Progress,
) -> Mapping[str, Any]:
    """Return one request: the given inputs, or seeded random ones.

    Parameters
    ----------
    directory : Path
        Of the split.
    document : Manifest
        Its symbolic dimensions are those of the profile.
    dims : mapping of str to int, optional
        Other values; they must agree with the inputs.
    inputs : mapping of str to array, optional
    progress : Progress

    Raises
    ------
    UsageError
        If there is no dimension of that name, or the inputs have another value.
    InputError
        If the inputs do not fit the model, or random ones cannot be made.
    """
    if inputs is not None:
        arrays = check_feeds(document, inputs)
        if dims:
            source = _source(directory, document)
            bind(source, dims, {str(value.name): arrays[str(value.name)] for value in source.inputs})
        return inputs
    source = _source(directory, document)
    known = bound_dims(source)
    profiled = {name: size for name, size in document.cost_model.get("dims", {}).items() if name in known}
    try:
        bound, _ = bind(source, profiled | dict(dims or {}), None, progress)
        made = tried_feeds(source, bound, 0, progress) or make_feeds(source, bound, seed=0)
    except (ValueError, TypeError, OverflowError) as error:  # of sizes that only a broken file can state
        raise InputError(directory, f"random inputs cannot be made: {error}") from None
    unread = tuple(port for port in document.model.inputs if port.name not in made)
    return blank_feeds(replace(document, model=replace(document.model, inputs=unread)), bound, seed=0) | made


def _source(directory: Path, document: Manifest) -> SourceModel:
    """Return the unsplit model as far as its inputs and their readers are concerned."""
    proto = onnx.ModelProto.FromString(reassemble(directory, document))
    return SourceModel(Path(document.model.file), to_ir(proto), document.model.sha256, directory)
