"""Fixtures that every test may use."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
DATA = Path(os.environ.get("ONNX_PIPELINE_DATA", ROOT.parent / "shared" / "data"))


def _data_dir(name: str) -> Path:
    folder = DATA / name
    if not folder.is_dir():
        pytest.skip(f"{name} data is not beside this checkout (set ONNX_PIPELINE_DATA)")
    return folder


@pytest.fixture(scope="session")
def msr_dir() -> Path:
    """Folder of the public workloads with known optima."""
    return _data_dir("msr")


@pytest.fixture(scope="session")
def zoo_dir() -> Path:
    """Folder of the real exported topologies."""
    return _data_dir("zoo")


@pytest.fixture(scope="session")
def light_dir() -> Path:
    """Folder of the light models that the onnx package carries."""
    import onnx

    return Path(onnx.__file__).parent / "backend" / "test" / "data" / "light"


@pytest.fixture(autouse=True, scope="session")
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Keep the tests' profiles out of the user's cache, in this process and in those it starts."""
    os.environ["ONNX_PIPELINE_CACHE"] = str(tmp_path_factory.mktemp("cache"))
