"""Compiled kernels are kept where they can be, and never used after a change of the sources."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import onnx_pipeline

SOURCES = Path(onnx_pipeline.__file__).parent
PROGRAM = """
import onnx_pipeline.partition.kernels  # decorates every kernel; nothing is compiled yet
from onnx_pipeline.partition import jit
from onnx_pipeline.partition.search import slicing
print(jit.FOLDER)
print(slicing.evaluate.stats.cache_path)
"""


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An installation of its own, without kept kernels."""
    folder = tmp_path_factory.mktemp("site")
    ignore = shutil.ignore_patterns("__pycache__")
    shutil.copytree(SOURCES, folder / "onnx_pipeline", ignore=ignore)
    return folder


def kept(folder: Path, **environment: str) -> list[str]:
    """Return where the installation in ``folder`` keeps kernels, and what numba makes of that."""
    path = {key: value for key, value in os.environ.items() if key in ("PATH", "SYSTEMROOT")}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        env={**path, "PYTHONPATH": str(folder), **environment},
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_another_source_is_another_folder(copy: Path, tmp_path: Path) -> None:
    """Kernels lie beside the sources; a changed source of an inner function does not find them."""
    place, used = kept(copy, HOME=str(tmp_path))
    assert Path(place).parent == copy / "onnx_pipeline" / "partition" / "__pycache__"
    assert Path(used).is_relative_to(place)
    orders = copy / "onnx_pipeline" / "partition" / "search" / "orders.py"
    orders.write_text(orders.read_text() + "\n")
    assert kept(copy, HOME=str(tmp_path))[0] != place


def test_beside_the_sources_nothing_can_be_written(copy: Path, tmp_path: Path) -> None:
    """Then the user's cache takes the kernels, and without one they are compiled in every process."""
    blocked = copy / "onnx_pipeline" / "partition" / "__pycache__"
    shutil.rmtree(blocked, ignore_errors=True)
    blocked.write_text("a file where the folder would be")
    try:
        assert Path(kept(copy, ONNX_PIPELINE_CACHE=str(tmp_path))[0]).parent == tmp_path
        assert kept(copy, ONNX_PIPELINE_CACHE=str(blocked / "below")) == ["None", "None"]
    finally:
        blocked.unlink()


def test_no_kernel_returns_a_named_tuple() -> None:
    """Making one calls Python, where Ctrl-C may raise; numba does not notice and crashes."""
    import importlib
    import pkgutil

    import numba

    import onnx_pipeline.partition
    from onnx_pipeline.partition.kernels import ensure_compiled
    from onnx_pipeline.progress import silent

    ensure_compiled(silent)
    returned = {}
    for found in pkgutil.walk_packages(onnx_pipeline.partition.__path__, "onnx_pipeline.partition."):
        for name, value in vars(importlib.import_module(found.name)).items():
            if getattr(value, "targetoptions", {}).get("no_cpython_wrapper"):
                continue  # called from kernels only
            for overload in getattr(value, "overloads", {}).values():
                returned[f"{found.name}.{name}"] = overload.signature.return_type
    assert len(returned) > 10
    assert not [name for name, kind in returned.items() if isinstance(kind, numba.types.BaseNamedTuple)]
