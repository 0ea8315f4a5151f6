"""Files of arrays whose headers lie."""

from __future__ import annotations

import zipfile
from pathlib import Path

import onnx
import pytest

from models import builders
from onnx_pipeline.errors import InputError
from onnx_pipeline.files.npz import load_arrays
from onnx_pipeline.model.inputs import load_feeds
from onnx_pipeline.model.source import load

SHAPES = [f"{10**30},", f"{10**12},", "-3,", f"{10**10}, {10**10}", f"{2**62}, 4", "True,", "'a',"]
HEADERS = [f"{{'descr': '<f4', 'fortran_order': False, 'shape': ({shape}), }}" for shape in SHAPES]


@pytest.mark.parametrize("header", [*HEADERS, "{", 3000 * "[" + 3000 * "]", 9000 * "1+" + "1"])
def test_one_line(header: str, tmp_path: Path) -> None:
    """Sizes beyond all memory and texts that Python cannot parse; for every reader."""
    text = header.encode() + b"\n"
    content = b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text + bytes(16)
    with zipfile.ZipFile(tmp_path / "x.npz", "w") as archive:
        archive.writestr("x.npy", content)
    with pytest.raises(InputError, match="cannot read arrays"):
        load_arrays(tmp_path / "x.npz")
    onnx.save(builders.mlp(2), tmp_path / "model.onnx")
    with pytest.raises(InputError, match="cannot read inputs"):
        load_feeds(tmp_path / "x.npz", load(tmp_path / "model.onnx"))
