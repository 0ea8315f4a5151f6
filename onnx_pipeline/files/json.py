"""JSON files, with errors that name the place."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from onnx_pipeline.errors import InputError


def read_json(path: str | os.PathLike[str]) -> Any:
    """Read any JSON file; an unreadable or malformed one is an InputError with the place."""
    try:
        text = Path(path).read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise InputError(path, "not a text file; expected JSON") from None
    except OSError as error:
        raise InputError(path, f"cannot be read: {(error.strerror or str(error)).lower()}") from None
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise InputError(path, f"not valid JSON: {error.msg} at line {error.lineno}") from None
    except RecursionError:
        raise InputError(path, "JSON nested too deeply") from None
    except ValueError as error:  # Python's own limit on the digits of a number
        raise InputError(path, f"not valid JSON: {str(error).partition(';')[0]}") from None
