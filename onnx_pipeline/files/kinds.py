"""What a file or folder is that a user gave to a command for another kind."""

from __future__ import annotations

import os
import re
from contextlib import suppress
from pathlib import Path

from onnx_pipeline.errors import InputError

#: What it is, and what takes it; the commands and the functions of the library have the same names.
_TEXTS = {
    "model": ("this is an ONNX model", "run `profile` or `split`"),
    "split": ("this is the output of a split", "run `show`, `verify`, `run` or `bench`"),
    "plan": ("this is a plan", "run `show` or `verify`"),
    "costs": ("this holds the costs of a model", "run `plan`"),
    "manifest": ("this is the manifest of a split", "give the folder that it is in"),
}
_FORMAT = re.compile(rb'\s*\{\s*"format"\s*:\s*"onnx-pipeline/(\w+)"')
_BEGINNING = 200


def refuse_other(path: str | os.PathLike[str], wanted: str) -> None:
    """Refuse what is recognisably of another kind, and say what takes it.

    Parameters
    ----------
    path : path-like
        What is missing, unreadable or unknown is let through: who reads it knows what to say.
    wanted : str
        ``"model"``, ``"split"`` (a folder), ``"plan"``, ``"costs"`` or ``"manifest"``.

    Raises
    ------
    InputError
        With the command to run as its hint.
    """
    found = _kind(Path(path))
    if found != wanted and found in _TEXTS:
        raise InputError(path, *_TEXTS[found])


def _kind(path: Path) -> str | None:
    if path.is_dir():
        return "split" if (path / "manifest.json").is_file() else None
    if path.suffix.lower() == ".onnx":
        return "model" if path.is_file() else None
    with suppress(OSError):
        if path.is_file():
            with path.open("rb") as file:
                match = _FORMAT.match(file.read(_BEGINNING))
            return match[1].decode() if match else None
    return None
