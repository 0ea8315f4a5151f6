"""Numbers and nesting of files: one check for JSON and TOML."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from onnx_pipeline.errors import InputError
from onnx_pipeline.files.json import read_json
from onnx_pipeline.files.toml import read_toml


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"a": NaN}', "NaN is not a number"),
        ('{"a": [1, -Infinity]}', "-Infinity is not a number"),
        ('{"a": [1, 1e300]}', r"a\[1\]: not a number from"),
        ('{"a": {"b": 1e999}}', r"a\.b: not a number from"),
        ('{"a": -1' + "0" * 40 + "}", "a: not a number from"),
        ('{"a": ' + "1" * 5000 + "}", "not valid JSON"),
        ('{"a": ' + "[" * 100 + "]" * 100 + "}", "nested too deeply"),
        ("[" * 100_000, "nested too deeply"),
    ],
)
def test_json_that_nothing_can_count_with(text: str, message: str, tmp_path: Path) -> None:
    """One line with the file and the place."""
    path = tmp_path / "a.json"
    path.write_text(text)
    with pytest.raises(InputError, match=message) as caught:
        read_json(path)
    assert str(caught.value).startswith(str(path))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("text", ["a = nan", "a = 1e300", "a = 1" + "0" * 40, "a = " + "[" * 100 + "]" * 100])
def test_toml_that_nothing_can_count_with(text: str, tmp_path: Path) -> None:
    """The same, except that TOML has a word for infinity."""
    path = tmp_path / "a.toml"
    path.write_text(text)
    with pytest.raises(InputError, match=r"not a number|too deeply"):
        read_toml(path, "anything")
    path.write_text("a = inf")
    assert read_toml(path, "anything") == {"a": math.inf}
