"""Typed access to the objects of a JSON document, with errors that say where."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from onnx_pipeline.errors import InputError
from onnx_pipeline.files.values import MOST_BYTES
from onnx_pipeline.settings import MOST_STAGES


class Fields:
    """Typed access to JSON objects, with errors that say where."""

    def __init__(self, source: str | None) -> None:
        self.source = source
        self._bytes = 0

    def fail(self, where: str, what: str) -> InputError:
        """Return the error to raise."""
        return InputError(self.source, f"{where}: {what}")

    def items(self, document: Mapping[str, Any], key: str) -> list[tuple[str, dict[str, Any]]]:
        """Return the objects of a list with their places."""
        values = document.get(key)
        if not isinstance(values, list):
            raise self.fail(key, "expected a list")
        for i, value in enumerate(values):
            if not isinstance(value, dict):
                raise self.fail(f"{key}[{i}]", "expected an object")
        return [(f"{key}[{i}]", value) for i, value in enumerate(values)]

    def text(self, entry: Mapping[str, Any], key: str, where: str) -> str:
        """Return a string."""
        value = entry.get(key)
        if not isinstance(value, str):
            raise self.fail(where, f"{key!r} must be a string, got {value!r}")
        return value

    def number(self, entry: Mapping[str, Any], key: str, where: str) -> float:
        """Return a number of at least 0."""
        value = entry.get(key)
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise self.fail(where, f"{key!r} must be a number, got {value!r}")
        if not 0 <= value < 2**62 or math.isnan(value):
            raise self.fail(where, f"{key!r} must be a finite number >= 0, got {value!r}")
        return value

    def count(self, entry: Mapping[str, Any], key: str, where: str) -> int:
        """Return an integer of at least 0."""
        value = self.number(entry, key, where)
        if not isinstance(value, int):
            raise self.fail(where, f"{key!r} must be an integer, got {value!r}")
        return value

    def size(self, entry: Mapping[str, Any], key: str, where: str, *, fraction: bool = False) -> int:
        """Return bytes; all sizes of a document together can still be counted."""
        value = int(self.number(entry, key, where)) if fraction else self.count(entry, key, where)
        self._bytes += value
        if self._bytes > MOST_BYTES:
            raise self.fail(where, f"{key!r}: the sizes add up to more than can be counted")
        return value

    def stage(self, entry: Mapping[str, Any], key: str, where: str) -> int:
        """Return a stage, counted from 0."""
        value = self.count(entry, key, where)
        if value >= MOST_STAGES:
            raise self.fail(where, f"{key!r} must be below {MOST_STAGES}, got {value}")
        return value
