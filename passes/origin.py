"""From an ``onnx_ir.Model`` in a pass pipeline back to what the plain functions take."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import onnx_ir as ir

from onnx_pipeline.errors import InputError
from onnx_pipeline.model.digest import content_digest
from onnx_pipeline.model.external import external_tensors
from onnx_pipeline.model.memory import name_of
from onnx_pipeline.model.source import SourceModel


def origin(model: ir.Model, source: SourceModel | None) -> SourceModel:
    """Return ``model`` as a SourceModel: ``source`` with the passes so far applied, or one made up.

    A model that did not come from a file gets the name of its graph; its external weights, if any, must lie
    in one folder. An earlier pass may have replaced the model object, so ``source.ir`` is never used as such.

    Raises
    ------
    InputError
        If the external weights of a model without ``source`` lie in several folders.
    """
    if source is not None:
        return replace(source, ir=model)
    name = name_of(model)
    folders = {Path(tensor.base_dir).resolve() for tensor in external_tensors(model)}
    if len(folders) > 1:
        raise InputError(name, "external weights lie in several folders; load with onnx_pipeline.model.load")
    data_dir = folders.pop() if folders else Path.cwd()
    return SourceModel(name, model, "", data_dir)


def with_digest(source: SourceModel) -> SourceModel:
    """Fill in the hash of a model that did not come from a file."""
    if source.sha256:
        return source
    return replace(source, sha256=content_digest(source.ir))
