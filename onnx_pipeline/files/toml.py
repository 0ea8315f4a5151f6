"""TOML files with one-line errors."""

from __future__ import annotations

import os
import tomllib
from pathlib import Path
from typing import Any

from onnx_pipeline.errors import InputError
from onnx_pipeline.files.values import check_values


def read_toml(path: str | os.PathLike[str], what: str) -> dict[str, Any]:
    """Return the table that a file holds.

    Parameters
    ----------
    path : path-like
    what : str
        What the file should be, for errors.

    Raises
    ------
    InputError
        If the file cannot be read or is not TOML.
    """
    try:
        table = tomllib.loads(Path(path).read_text(encoding="utf-8"))
    except UnicodeDecodeError:
        raise InputError(path, f"not a text file; expected {what}") from None
    except RecursionError:
        raise InputError(path, "nested too deeply") from None
    except ValueError as error:  # besides TOMLDecodeError, Python's own limit on the digits of a number
        raise InputError(path, f"not valid TOML: {str(error).partition(';')[0]}") from None
    except OSError as error:
        raise InputError(path, f"cannot be read: {(error.strerror or str(error)).lower()}") from None
    check_values(table, path, unlimited=True)
    return table
