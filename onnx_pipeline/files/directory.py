"""A directory that appears complete or not at all."""

from __future__ import annotations

import ctypes
import glob
import os
import shutil
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from onnx_pipeline.errors import Advice, InputError, UsageError
from onnx_pipeline.files.atomic import write_error
from onnx_pipeline.files.scratch import scratch_folder
from onnx_pipeline.manifest import FILE_NAME, file_names, read

_AT_FDCWD = -100
_RENAME_EXCHANGE = 2


def check_output(
    output: str | os.PathLike[str], *, force: bool = False, keep: Iterable[str | os.PathLike[str]] = ()
) -> None:
    """Check early that an output directory may be created, before any long work.

    Parameters
    ----------
    output : path-like
    force : bool
        Replace an output of this package that exists, and nothing else.
    keep : iterable of path-like
        Files that are still needed, such as the model itself.

    Raises
    ------
    UsageError
        If it exists and ``force`` is off, or it is something that ``force`` must not delete.
    InputError
        If its parent is not a writable directory.
    """
    path = Path(output)
    if os.path.lexists(path):
        if not force:
            replace = Advice("give another directory, or {force} to replace it", force=True)
            raise UsageError(f"{path}: already exists", replace)
        _check_ours(path, keep)
    parent = path.absolute().parent
    while not parent.exists():
        parent = parent.parent
    if not parent.is_dir():
        raise InputError(path, f"cannot be created: {parent} is not a directory")
    if not os.access(parent, os.W_OK | os.X_OK):
        raise InputError(path, f"cannot be created: no write permission for {parent}")


def _check_ours(path: Path, keep: Iterable[str | os.PathLike[str]]) -> None:
    """Refuse to delete anything but a whole output of this package."""
    foreign = f"{path}: exists and is not an output of this tool"
    if path.is_symlink() or not path.is_dir():
        raise UsageError(foreign, "give another directory")
    found = sorted(entry.name for entry in path.iterdir())
    if not found:
        return
    if FILE_NAME not in found:
        raise UsageError(foreign, "give another directory")
    try:
        listed = file_names(read(path))
    except InputError as error:
        raise UsageError(f"{foreign} ({error.message})", "give another directory") from None
    for name in found:
        if name not in listed or (path / name).is_dir():
            raise UsageError(
                f"{path}: holds {name!r}, which is not part of the output",
                "move it, or give another directory",
            )
    for file in keep:
        if path.resolve() in Path(file).resolve().parents:
            raise UsageError(
                f"{path}: holds {os.fspath(file)!r}, which is still needed", "give another directory"
            )


@contextmanager
def new_directory(
    output: str | os.PathLike[str], *, force: bool = False, keep: Iterable[str | os.PathLike[str]] = ()
) -> Iterator[Path]:
    """Yield a temporary sibling directory that takes the place of ``output`` when the block succeeds.

    If the block ends early, Ctrl-C included, everything is removed and ``output`` stays as it was.
    Parameters are those of :func:`check_output`.

    Raises
    ------
    UsageError, InputError
        See :func:`check_output`; InputError also when nothing can be written there.
    PipelineError
        When the disk is full.
    """
    keep = tuple(keep)
    path = Path(output).absolute()
    prefix = f".{path.name}."
    _restore(path, prefix)
    check_output(path, force=force, keep=keep)
    made = _make_parents(path.parent)
    done = False
    try:
        with scratch_folder(path.parent, prefix) as temporary:
            yield temporary
            temporary.chmod(0o777 & ~_umask())
            if force and os.path.lexists(path):
                _check_ours(path, keep)  # what appeared there meanwhile stays
            _install(temporary, path, force)
            done = True
    except OSError as error:
        raise write_error(path, error) from error
    finally:
        for folder in () if done else reversed(made):
            with suppress(OSError):
                folder.rmdir()


def _restore(path: Path, prefix: str) -> None:
    """Put back what a run moved aside before it was killed; only where there is no atomic exchange."""
    if os.path.lexists(path) or not path.parent.is_dir():
        return
    for aside in sorted(path.parent.glob(f"{glob.escape(prefix)}*.old")):
        if (aside / FILE_NAME).is_file():
            with suppress(OSError):
                os.rename(aside, path)
            return


def _install(temporary: Path, path: Path, force: bool) -> None:
    if not os.path.lexists(path):
        os.rename(temporary, path)
        return
    if not force:
        raise UsageError(f"{path}: appeared while its replacement was being written")
    if _exchange(temporary, path):
        return
    # Without an atomic exchange there is a moment without the directory, never one with half of it.
    aside = temporary.with_suffix(".old")
    os.rename(path, aside)
    try:
        os.rename(temporary, path)
    except BaseException:
        os.rename(aside, path)
        raise
    shutil.rmtree(aside, ignore_errors=True)


def _exchange(first: Path, second: Path) -> bool:
    """Swap two directories in one step where the system can; return whether it did."""
    if not sys.platform.startswith("linux"):
        return False
    rename = getattr(ctypes.CDLL(None), "renameat2", None)
    if rename is None:
        return False
    return bool(
        rename(_AT_FDCWD, os.fsencode(first), _AT_FDCWD, os.fsencode(second), ctypes.c_uint(_RENAME_EXCHANGE))
        == 0
    )


def _make_parents(folder: Path) -> list[Path]:
    missing: list[Path] = []
    while not folder.exists():
        missing.append(folder)
        folder = folder.parent
    missing.reverse()
    try:
        for each in missing:
            each.mkdir(exist_ok=True)
    except OSError as error:
        raise InputError(missing[-1], f"cannot be created: {error.strerror}") from error
    return missing


def _umask() -> int:
    current = os.umask(0)
    os.umask(current)
    return current
