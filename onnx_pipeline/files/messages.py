"""Values in the standard's own files: ``input_0.pb``, ``input_1.pb``, ..., as the conformance suite has."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from onnx_pipeline.errors import InputError
from onnx_pipeline.figures import format_count


def is_messages(path: str | os.PathLike[str]) -> bool:
    """Return whether a path is a folder of such files, or one of them."""
    return Path(path).is_dir() or Path(path).suffix == ".pb"


def load_messages(path: str | os.PathLike[str], kinds: Iterable[tuple[str, str]]) -> dict[str, Any]:
    """Read the inputs of a model.

    Parameters
    ----------
    path : path-like
        A folder with a file for each input in the model's order, or the only input's file.
    kinds : iterable of (str, str)
        Name and type of every input in that order: ``"sequence(...)"``, ``"map(...)"``, ``"optional(...)"``,
        anything else for a tensor. The last ones may have no file.

    Raises
    ------
    InputError
        If there is no file, one too many, or one that is not of its type.
    """
    folder, known = Path(path), list(kinds)
    files = [folder / f"input_{index}.pb" for index in range(len(known))] if folder.is_dir() else [folder]
    found = {name: (file, kind) for (name, kind), file in zip(known, files, strict=False) if file.exists()}
    given = len(list(folder.glob("input_*.pb"))) if folder.is_dir() else 1
    if not found or given > len(found):
        count, wanted = format_count(given, "file"), format_count(len(known), "input")
        message = f"{count} input_0.pb, input_1.pb, ... for {wanted}"
        raise InputError(path, f"cannot read inputs: {message}")
    return {name: _read(file, kind) for name, (file, kind) in found.items()}


def _read(file: Path, kind: str) -> Any:
    import onnx
    from onnx import numpy_helper

    readers = {
        "sequence": (onnx.SequenceProto, numpy_helper.to_list),
        "map": (onnx.MapProto, numpy_helper.to_dict),
        "optional": (onnx.OptionalProto, numpy_helper.to_optional),
    }
    container = kind.partition("(")[0] if "(" in kind else ""
    message, convert = readers.get(container, (onnx.TensorProto, numpy_helper.to_array))
    try:
        return _plain(convert(message.FromString(file.read_bytes())))
    except OSError as error:
        raise InputError(file, error.strerror or str(error)) from error
    except Exception as error:  # protobuf's DecodeError and what numpy makes of absurd shapes
        raise InputError(file, f"is not a {message.__name__} as the model's input needs it") from error


def _plain(value: Any) -> Any:
    """Return the values of maps as numbers and strings, which is how onnxruntime takes them."""
    if isinstance(value, list):
        return [_plain(each) for each in value]
    if not isinstance(value, dict):
        return value
    return {key: each.item() if each.size == 1 else each for key, each in value.items()}
