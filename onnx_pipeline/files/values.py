"""What a value in a file may be, whatever its format: the one check behind JSON and TOML.

Numbers are finite and small enough to be counted with, and nesting ends: no reader meets anything else.
"""

from __future__ import annotations

import math
import os
from typing import Any

from onnx_pipeline.errors import InputError

#: Nothing is larger; files that want to say "no limit" often write this number.
LARGEST = 1e30
#: All sizes in a file together: sums and products with a few stages fit into 64 bits.
MOST_BYTES = 1 << 56
#: Lists and objects inside each other.
MOST_NESTING = 64


def check_values(document: object, source: str | os.PathLike[str] | None, *, unlimited: bool = False) -> None:
    """Refuse numbers that nothing can count with, and deep nesting.

    Parameters
    ----------
    document : object
        What a parser returned.
    source : path-like or None
        The file to name.
    unlimited : bool
        Whether the format has a word for infinity.

    Raises
    ------
    InputError
        On the first such value; the message says where it is.
    """
    waiting: list[tuple[str, int, Any]] = [("", 0, document)]
    while waiting:
        where, depth, value = waiting.pop()
        if depth > MOST_NESTING:
            raise InputError(source, "nested too deeply")
        if isinstance(value, dict):
            waiting += [(f"{where}.{key}", depth + 1, each) for key, each in value.items()]
        elif isinstance(value, list):
            waiting += [(f"{where}[{index}]", depth + 1, each) for index, each in enumerate(value)]
        elif isinstance(value, int | float) and not _counts(value, unlimited):
            place = f"{where.removeprefix('.')[:200]}: " if where else ""
            raise InputError(source, f"{place}not a number from {-LARGEST:g} to {LARGEST:g}")


def _counts(value: float, unlimited: bool) -> bool:
    return -LARGEST <= value <= LARGEST or (unlimited and value in (math.inf, -math.inf))
