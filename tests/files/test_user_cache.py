"""Where the user's cache is."""

from __future__ import annotations

from pathlib import Path

import pytest

from onnx_pipeline.files.user_cache import user_cache


def test_place_follows_the_conventions(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The variable wins, then XDG unless it is relative, then the home directory."""
    monkeypatch.setattr("sys.platform", "linux")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("ONNX_PIPELINE_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    assert user_cache() == tmp_path / ".cache" / "onnx-pipeline"
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert user_cache() == tmp_path / "xdg" / "onnx-pipeline"
    monkeypatch.setattr("sys.platform", "darwin")
    assert user_cache() == tmp_path / "Library" / "Caches" / "onnx-pipeline"
    monkeypatch.setenv("ONNX_PIPELINE_CACHE", str(tmp_path / "own"))
    assert user_cache() == tmp_path / "own"


def test_a_user_without_a_home_has_none(monkeypatch: pytest.MonkeyPatch) -> None:
    """A container's user id without an entry in the list of users, and no HOME."""

    def fail() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("ONNX_PIPELINE_CACHE")
    monkeypatch.setattr(Path, "home", fail)
    assert user_cache() is None
