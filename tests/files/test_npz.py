"""Outputs of ``run`` as arrays by name."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx

from models import structures
from onnx_pipeline.files import npz
from tests.splitting import save, split

#: A sequence of tensors of two shapes, or of one.
RAGGED = """m (float[N] x, float[K] z) => (seq(float[M]) s, float[N] y) {
    a = Neg(x)
    b = Abs(z)
    y = Abs(a)
    s = SequenceConstruct(a, b)
}"""


def test_sequences_of_unequal_shapes(tmp_path: Path) -> None:
    """Elements of one shape are stacked; others are arrays of their own, also where requests are many."""
    split(save(tmp_path, RAGGED), tmp_path / "out", 2)

    def run(x: int, z: int, batch: tuple[int, ...] = ()) -> dict[str, tuple[int, ...]]:
        arrays = {"x": np.ones((*batch, x), np.float32), "z": np.ones((*batch, z), np.float32)}
        npz.save_arrays(arrays, tmp_path / "x.npz")
        found = npz.run_file(tmp_path / "out", tmp_path / "x.npz", batched=bool(batch))
        npz.save_arrays(found, tmp_path / "y.npz")
        assert npz.load_arrays(tmp_path / "y.npz").keys() == found.keys()
        return {name: array.shape for name, array in found.items()}

    assert run(2, 2) == {"s": (2, 2), "y": (2,)}
    assert run(2, 3) == {"s[0]": (2,), "s[1]": (3,), "y": (2,)}
    assert run(2, 2, (3,)) == {"s": (3, 2, 2), "y": (3, 2)}
    ragged = {"s[0][0]": (2,), "s[0][1]": (3,), "s[1][0]": (2,), "s[1][1]": (3,)}
    assert run(2, 3, (2,)) == {**ragged, "y": (2, 2)}


def test_maps_are_written_by_their_keys(tmp_path: Path) -> None:
    """One array per key."""
    path = tmp_path / "m.onnx"
    onnx.save(structures.SMALL["map"](), path)
    split(path, tmp_path / "out", 1)
    npz.save_arrays({"x": np.arange(3)}, tmp_path / "x.npz")
    found = npz.run_file(tmp_path / "out", tmp_path / "x.npz")
    assert found
    assert all(array.dtype.kind in "fiu" for array in found.values())
