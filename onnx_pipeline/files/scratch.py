"""Temporary files and folders that a killed run cannot leave behind for good.

Whoever makes one holds a lock on it for as long as it lives. The system drops the lock with the process, so
the next run recognises what has no owner and removes it.
"""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

try:
    import fcntl
except ImportError:  # a system without these locks: nothing is swept there
    fcntl = None  # type: ignore[assignment]

#: Of folders in the system's temporary directory.
PREFIX = "onnx-pipeline-"
_SUFFIX = ".tmp"
#: What tempfile puts between prefix and suffix.
_MADE = re.compile(r"[a-z0-9_]{8}\.tmp")


@contextmanager
def scratch_folder(parent: Path | None = None, prefix: str = PREFIX) -> Iterator[Path]:
    """Yield a new empty folder, removed at the end; remove first what dead processes left there.

    Parameters
    ----------
    parent : Path, optional
        Where to make it; the system's temporary directory by default.
    prefix : str
        Prefix of its name, and of the names that are swept.

    Raises
    ------
    OSError
        If nothing can be written there.
    """
    parent = Path(tempfile.gettempdir()) if parent is None else parent
    sweep(parent, prefix)
    folder, lock = _make(parent, prefix)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        if lock is not None:
            os.close(lock)


def sweep(parent: Path, prefix: str = PREFIX) -> None:
    """Remove the folders of that prefix whose makers are dead."""
    if fcntl is None:
        return
    with suppress(OSError):
        for path in parent.iterdir():
            if path.name.startswith(prefix) and _MADE.fullmatch(path.name[len(prefix) :]):
                _remove_if_dead(path)


def _make(parent: Path, prefix: str) -> tuple[Path, int | None]:
    while True:
        folder = Path(tempfile.mkdtemp(prefix=prefix, suffix=_SUFFIX, dir=parent))
        if fcntl is None:
            return folder, None
        try:
            lock = os.open(folder, os.O_RDONLY)
        except FileNotFoundError:  # swept by another run before it was locked
            continue
        with suppress(OSError):  # some network file systems lock nothing, and sweep nothing
            fcntl.flock(lock, fcntl.LOCK_EX)
        if folder.exists():
            return folder, lock
        os.close(lock)


def _remove_if_dead(path: Path) -> None:
    with suppress(OSError):
        lock = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(path, ignore_errors=True)
        finally:
            os.close(lock)
