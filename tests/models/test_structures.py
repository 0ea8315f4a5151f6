"""Every awkward structure, split at every k: stages valid alone, and equal to the whole."""

from __future__ import annotations

from pathlib import Path

import onnx
import pytest

from models import structures
from onnx_pipeline.model import source as models
from onnx_pipeline.model.roles import executable_nodes
from onnx_pipeline.verification.checks import inspect
from tests.splitting import split

#: onnxruntime computes half precision in single precision, and rounds at each border; products with one
#: 4-bit weight become one kernel in a stage and not in the whole. The stated tolerances hold.
ROUNDED = {"half_precision", "int4_weights"}


def counts(path: Path) -> list[int]:
    """All k up to the number of nodes; of larger models a few small ones, and the largest."""
    nodes = len(executable_nodes(models.load(path)))
    return list(range(2, nodes + 1)) if nodes <= 12 else [2, 3, 5, 8, nodes]


@pytest.mark.parametrize("name", structures.SMALL)
def test_every_structure_at_every_k(name: str, tmp_path: Path) -> None:
    """Bit for bit, or so without the optimisations that the runtime makes of a whole model only."""
    path = tmp_path / "model.onnx"
    onnx.save(structures.SMALL[name](), path)
    for k in counts(path):
        split(path, tmp_path / f"k{k}", k)
        report = inspect(tmp_path / f"k{k}", model=path)
        assert report.problems == ()
        equal = all(check.equal for check in report.outputs)
        assert equal or name in ROUNDED or "are bitwise equal" in report.notes[0]


@pytest.mark.parametrize("name", structures.RANDOM)
def test_random_models_agree_in_distribution(name: str, tmp_path: Path) -> None:
    """Means and scatters agree, and the report says that no more can be compared."""
    path = tmp_path / "model.onnx"
    onnx.save(structures.RANDOM[name](), path)
    split(path, tmp_path / "out", 2)
    report = inspect(tmp_path / "out", model=path)
    assert report.problems == ()
    assert "uses random numbers" in report.notes[0]
