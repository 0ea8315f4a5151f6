"""TOML files: one line for whatever cannot be read."""

from __future__ import annotations

from pathlib import Path

import pytest

from onnx_pipeline.errors import InputError
from onnx_pipeline.files.toml import read_toml


@pytest.mark.parametrize(
    "text", ["a = " + "[" * 50_000 + "]" * 50_000, "a = " + "9" * 5_000, "a = ", "a = '\x00'", "[a]\n[a]"]
)
def test_one_line(text: str, tmp_path: Path) -> None:
    """Deep nesting, long numbers, half a file."""
    path = tmp_path / "x.toml"
    path.write_text(text)
    with pytest.raises(InputError, match=r"not valid TOML|nested too deeply") as caught:
        read_toml(path, "a table")
    assert "\n" not in str(caught.value)
