"""Inputs in the standard's own files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from onnx import numpy_helper

import onnx_pipeline as op
from onnx_pipeline.errors import InputError
from onnx_pipeline.files import npz
from onnx_pipeline.verification.checks import verify
from tests.splitting import save

TEXT = """m (seq(float[N]) s, float[K] x, map(int64, float) d) => (float[M] y, float[1,2] z) {
    c = ConcatFromSequence <axis = 0> (s)
    a = Neg(c)
    b = Add(a, x)
    y = Abs(b)
    z = ai.onnx.ml.DictVectorizer <int64_vocabulary = [7, 9]> (d)
}"""


def messages(folder: Path) -> Path:
    """Write a sequence, a tensor and a map."""
    folder.mkdir()
    arrays = [np.array([1, 2], np.float32), np.array([3], np.float32)]
    number = {key: np.array(value, np.float32) for key, value in ((7, 0.5), (9, 2.0))}
    (folder / "input_0.pb").write_bytes(numpy_helper.from_list(arrays, "s").SerializeToString())
    (folder / "input_1.pb").write_bytes(numpy_helper.from_array(np.ones(3, np.float32)).SerializeToString())
    (folder / "input_2.pb").write_bytes(numpy_helper.from_dict(number, "d").SerializeToString())
    return folder


def test_a_folder_of_messages(tmp_path: Path) -> None:
    """Split, verified and run with inputs that no .npz file holds."""
    path, folder, out = save(tmp_path, TEXT), messages(tmp_path / "set"), tmp_path / "out"
    op.split(path, stages=2, output=out, inputs=folder, cache=False, time_limit=0.2, threads=1)
    assert verify(out, model=path, inputs=folder).ok
    found = npz.run_file(out, folder)
    np.testing.assert_array_equal(found["y"], [0, 1, 2])
    np.testing.assert_array_equal(found["z"], [[0.5, 2]])


def test_bad_messages(tmp_path: Path) -> None:
    """None, too many, or of another type: one line."""
    path, folder = save(tmp_path, TEXT), messages(tmp_path / "set")
    (folder / "input_0.pb").write_bytes(b"\x08\x07\xff")
    with pytest.raises(InputError, match=r"input_0\.pb: is not a SequenceProto"):
        op.profile(path, inputs=folder)
    (folder / "input_3.pb").touch()
    with pytest.raises(InputError, match=r"4 files .* for 3 inputs"):
        op.profile(path, inputs=folder)
    (tmp_path / "none").mkdir()
    with pytest.raises(InputError, match=r"0 files .* for 3 inputs"):
        op.profile(path, inputs=tmp_path / "none")
