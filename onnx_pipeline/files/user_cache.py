"""The user's cache folder: whatever lies there may be deleted at any time."""

from __future__ import annotations

import os
import sys
from pathlib import Path

#: Names the folder instead of the platform's convention.
CACHE_VARIABLE = "ONNX_PIPELINE_CACHE"


def user_cache() -> Path | None:
    """Return the folder, which need not exist, or None for a user without one.

    ``$ONNX_PIPELINE_CACHE``, or ``onnx-pipeline`` below the platform's cache directory:
    ``$XDG_CACHE_HOME`` or ``~/.cache``, ``~/Library/Caches`` on macOS, ``%LOCALAPPDATA%`` on Windows.
    """
    given = os.environ.get(CACHE_VARIABLE)
    if given:
        return Path(given)
    try:
        home = Path.home()
    except RuntimeError:  # neither HOME nor an entry in the list of users: a container
        return None
    if sys.platform == "win32":
        base = Path(os.environ.get("LOCALAPPDATA") or home / "AppData" / "Local")
    elif sys.platform == "darwin":
        base = home / "Library" / "Caches"
    else:
        xdg = os.environ.get("XDG_CACHE_HOME", "")
        base = Path(xdg) if os.path.isabs(xdg) else home / ".cache"  # the standard ignores relative paths
    return base / "onnx-pipeline"
