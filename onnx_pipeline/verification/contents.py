"""The files of an output directory: hashes, stage models."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

from onnx_pipeline.manifest import Manifest


def check_files(folder: Path, document: Manifest) -> Iterator[str]:
    """Check that every file is there and has the recorded hash; weights in place, size and time of change."""
    for stage in document.stages:
        entries = [(stage.file, stage.sha256)]
        if stage.data is not None:
            entries.append((stage.data.file, stage.data.sha256))
        for name, digest in entries:
            path = folder / name
            if not path.is_file():
                yield f"{name} is missing"
                continue
            with path.open("rb") as file:
                if hashlib.file_digest(file, "sha256").hexdigest() != digest:
                    yield f"{name} is not the file that was written: its SHA-256 differs"

    yield from _check_shared(folder, document)


def _check_shared(folder: Path, document: Manifest) -> Iterator[str]:
    """Check size and time of change of linked or referenced weights; they may be too large to hash."""
    weights = document.weights
    if weights is None:
        return
    base = Path(weights["folder"]) if weights["mode"] == "reference" else folder
    for entry in weights["files"]:
        name = entry["file"]
        if Path(name).is_absolute() or ".." in Path(name).parts:
            continue  # a contradiction already
        try:
            found = (base / name).stat()
        except OSError:
            yield f"weights {name!r} are missing in {base}"
            continue
        if (found.st_size, found.st_mtime_ns) != (entry["bytes"], entry.get("modified_ns")):
            yield f"weights {name!r} changed since the model was split"


def check_stages(folder: Path, document: Manifest) -> Iterator[str]:
    """Check that each stage is a valid model with the boundary that the manifest says."""
    import onnx

    from onnx_pipeline.model.typenames import type_text

    for stage in document.stages:
        path = folder / stage.file
        try:
            free = [p.name for p in (*stage.inputs, *stage.outputs) if p.shape is None]
            if document.weights is not None or free:  # the checker refuses links and other folders
                model = _without_weights(onnx.load(path, load_external_data=False))
                onnx.checker.check_model(_with_shapes(model, free))
            else:
                onnx.checker.check_model(str(path))
        except onnx.checker.ValidationError as error:
            reason = " ".join(str(error).split())
            if "No Op registered" not in reason:  # operators that only the runtime knows
                yield f"{stage.file} is not a valid ONNX model: {reason[:300]}"
                continue
        graph = onnx.load(path, load_external_data=False).graph
        weights = {tensor.name for tensor in graph.initializer}
        for label, ports, values in (
            ("inputs", stage.inputs, [v for v in graph.input if v.name not in weights]),
            ("outputs", stage.outputs, list(graph.output)),
        ):
            expected = [(p.name, p.dtype) for p in ports]
            if expected != [(v.name, type_text(v.type)) for v in values]:
                yield f"{stage.file}: its {label} are not those of the manifest"


def _with_shapes(model: Any, names: Collection[str]) -> Any:
    """Give tensors at the border that may have any rank one: the checker wants it, onnxruntime does not."""
    for value in (*model.graph.input, *model.graph.output):
        if value.name in names and value.type.HasField("tensor_type"):
            value.type.tensor_type.shape.SetInParent()
    return model


def _without_weights(model: Any) -> Any:
    """Turn external initializers into inputs: the checker looks for them beside the stage."""
    import onnx

    external = [t for t in model.graph.initializer if t.data_location == onnx.TensorProto.EXTERNAL]
    for tensor in external:
        model.graph.initializer.remove(tensor)
        if model.ir_version >= 4:
            model.graph.input.append(
                onnx.helper.make_tensor_value_info(tensor.name, tensor.data_type, list(tensor.dims))
            )
    return model
