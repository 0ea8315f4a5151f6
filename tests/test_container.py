"""A container: a user without a home or an entry in the list of users, who may not write the package."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
import pytest

import onnx_pipeline
from models import builders
from onnx_pipeline.partition import jit, kernels
from onnx_pipeline.partition.search import slicing
from onnx_pipeline.progress import silent

PACKAGE = Path(onnx_pipeline.__file__).parent
#: Another user, who still may read whatever root may: Python itself may lie in root's home.
NOBODY = (
    *("setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups"),
    *("--inh-caps", "-all,+dac_read_search", "--ambient-caps", "-all,+dac_read_search"),
)


pytestmark = pytest.mark.skipif(
    os.name != "posix" or (os.geteuid() == 0 and shutil.which("setpriv") is None), reason="needs setpriv"
)


@pytest.fixture(scope="module")
def image() -> Iterator[Path]:
    """Make a folder that everybody reads and only ``work`` takes files from everybody: package and model."""
    kernels.ensure_compiled(silent)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        site, work = folder / "site", folder / "work"
        shutil.copytree(PACKAGE, site / PACKAGE.name, ignore=shutil.ignore_patterns("__pycache__"))
        work.mkdir()
        onnx.save(builders.mlp(2), work / "mlp.onnx")
        for path in (folder, *folder.rglob("*")):
            path.chmod(0o555 if path.is_dir() else 0o444)
        work.chmod(0o777)
        yield folder
        for path in (folder, *folder.rglob("*")):
            path.chmod(0o777)


def ship_kernels(site: Path) -> None:
    """Put the compiled kernels where the copy of the package looks for them, readable only."""
    assert jit.FOLDER is not None
    places = {source.parent for source in PACKAGE.rglob("*.py")}
    name = slicing.evaluate._cache._impl.locator.get_suitable_cache_subpath  # depends on the source's folder
    beside = site / PACKAGE.name / "partition"
    beside.chmod(0o755)
    for place in places:
        there = site / PACKAGE.name / place.relative_to(PACKAGE)
        kept, new = (name(str(folder / "x.py")) for folder in (place, there))
        if (jit.FOLDER / kept).is_dir():
            shutil.copytree(jit.FOLDER / kept, beside / "__pycache__" / jit.FOLDER.name / new)
    for path in (beside, *(beside / "__pycache__").rglob("*"), beside / "__pycache__"):
        path.chmod(0o555 if path.is_dir() else 0o444)


def run(image: Path, *command: str) -> subprocess.CompletedProcess[str]:
    """Run Python there: as nobody if this is root, else as a user whose home cannot be written."""
    root = os.geteuid() == 0
    taken = {"HOME", "ONNX_PIPELINE_CACHE", "XDG_CACHE_HOME", "PYTHONPATH"}
    environment = {name: value for name, value in os.environ.items() if name not in taken}
    environment |= {"PYTHONPATH": str(image / "site"), "PYTHONDONTWRITEBYTECODE": "1"}
    if not root:
        environment["HOME"] = os.devnull
    return subprocess.run(
        [*(NOBODY if root else ()), sys.executable, *command],
        cwd=image / "work",
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
    )


def test_split_verify_and_run(image: Path) -> None:
    """With profiles that cannot be kept, and kernels that root has compiled."""
    ship_kernels(image / "site")
    program = ("-m", "onnx_pipeline")
    out = image / "work" / "out"
    for command in (
        ("split", "mlp.onnx", "-k", "2", "-o", "out", "--time-limit", "1", "--profile-runs", "2"),
        ("verify", "out", "--model", "mlp.onnx"),
        ("run", "out", "--inputs", "x.npz", "-o", "y.npz"),
        ("cache", "info"),
        ("cache", "clear"),
    ):
        if command[0] == "run":
            np.savez(out.parent / "x.npz", x=np.ones((1, 16), np.float32))
        done = run(image, *program, *command)
        assert done.returncode == 0, done.stderr
        assert "Traceback" not in done.stderr
        assert "compiling" not in done.stderr
    assert sorted(path.name for path in out.parent.iterdir() if path.name.startswith(".")) == []


def test_without_compiled_kernels(image: Path) -> None:
    """A kernel is compiled within the process."""
    script = (
        "from onnx_pipeline.partition import jit\n"
        "jit.FOLDER = None\n"
        "from onnx_pipeline.files.user_cache import user_cache\n"
        "def add(a, b):\n"
        "    return a + b\n"
        "print(jit.kernel(add)(1, 2), user_cache())\n"
    )
    (image / "work" / "tiny.py").write_text(script)
    done = run(image, "tiny.py")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("3 ")
