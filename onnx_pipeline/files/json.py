"""JSON files, with errors that name the place."""

from __future__ import annotations

import json
import os
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

from onnx_pipeline.errors import InputError
from onnx_pipeline.files.values import check_values


def read_json(path: str | os.PathLike[str]) -> Any:
    """Read any JSON file; an unreadable or malformed one is an InputError with the place."""
    try:
        text = Path(path).read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise InputError(path, "not a text file; expected JSON") from None
    except OSError as error:
        raise InputError(path, f"cannot be read: {(error.strerror or str(error)).lower()}") from None
    try:
        document = json.loads(text, parse_constant=_refuse)
    except json.JSONDecodeError as error:
        raise InputError(path, f"not valid JSON: {error.msg} at line {error.lineno}") from None
    except RecursionError:
        raise InputError(path, "nested too deeply") from None
    except ValueError as error:  # a constant, or Python's own limit on the digits of a number
        raise InputError(path, f"not valid JSON: {str(error).partition(';')[0]}") from None
    check_values(document, path)
    return document


def check_schema(document: object, name: str, source: str | os.PathLike[str] | None) -> None:
    """Check a document against one of the published schemas.

    Raises
    ------
    InputError
        On the most relevant violation, with its place.
    """
    import jsonschema

    error = jsonschema.exceptions.best_match(_validator(name).iter_errors(document))
    if error is not None:
        place = error.json_path.removeprefix("$").removeprefix(".")
        raise InputError(source, f"{place[:200]}: {error.message[:200]}" if place else error.message[:200])


@cache
def _validator(name: str) -> Any:
    import jsonschema

    base = jsonschema.Draft202012Validator
    # The standard calls 1.0 an integer, Python's indices and ranges do not.
    strict = base.TYPE_CHECKER.redefine("integer", lambda _, value: type(value) is int)
    text = resources.files("onnx_pipeline.schemas").joinpath(f"{name}.schema.json").read_text("utf-8")
    return jsonschema.validators.extend(base, type_checker=strict)(json.loads(text))


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is not a number that JSON has")
