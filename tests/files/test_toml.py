"""TOML files: one line for whatever cannot be read, and texts that can be."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

from onnx_pipeline.errors import InputError
from onnx_pipeline.files.toml import quoted, read_toml


@pytest.mark.parametrize(
    "text", ["a = " + "[" * 50_000 + "]" * 50_000, "a = " + "9" * 5_000, "a = ", "a = '\x00'", "[a]\n[a]"]
)
def test_one_line(text: str, tmp_path: Path) -> None:
    """Deep nesting, long numbers, half a file."""
    path = tmp_path / "x.toml"
    path.write_text(text)
    with pytest.raises(InputError, match="not valid TOML") as caught:
        read_toml(path, "a table")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "text", ["", "plain", 'a"b\\c', "\t\n\r\b\f\x00\x1f\x7f\x80", "é 🎉 \u2028", "'''", '"""']
)
def test_quoted_reads_back(text: str) -> None:
    """Whatever is in the text."""
    assert tomllib.loads(f"a = {quoted(text)}") == {"a": text}
