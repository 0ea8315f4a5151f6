"""Output files that are complete or absent, and checks of where they go before any work is done."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from onnx_pipeline.errors import Advice, InputError, PipelineError, UsageError
from onnx_pipeline.files.scratch import PREFIX, scratch_folder

#: No space, no quota, a limit on the size of files.
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def check_file(output: Path, *, force: bool) -> None:
    """Refuse an output file that must not or cannot be written.

    Raises
    ------
    UsageError
        If it exists and ``force`` is off, or is a directory.
    InputError
        If nothing can be written next to it.
    """
    if output.is_dir():
        raise UsageError(f"{output}: is a directory", "name a file")
    if output.is_file() and not force:
        replace = Advice("give another file, or {force} to replace it", force=True)
        raise UsageError(f"{output}: already exists", replace)
    if not _is_device(output):
        check_writable(output)


def check_writable(output: Path) -> None:
    """Make and remove a temporary directory where ``output`` will appear; permission bits alone may lie.

    Raises
    ------
    InputError
        If the nearest existing parent takes no files.
    PipelineError
        If the disk is full.
    """
    try:
        with scratch_beside(output):
            pass
    except OSError as error:
        raise write_error(output, error, f"{_existing_parent(output)}: ") from None


def write_error(output: Path, error: OSError, where: str = "") -> PipelineError:
    """Return what to raise when ``output`` cannot be written: a full disk is nobody's wrong input."""
    reason = f"cannot be written: {where}{(error.strerror or str(error)).lower()}"
    if error.errno in _FULL:
        return PipelineError(f"{output}: {reason}", "free some space or write elsewhere")
    return InputError(output, reason)


@contextmanager
def scratch_beside(output: Path) -> Iterator[Path]:
    """Yield a temporary folder on the file system where ``output`` will appear."""
    with scratch_folder(_existing_parent(output), f".{PREFIX}") as folder:
        yield folder


def _existing_parent(output: Path) -> Path:
    folder = output.absolute().parent
    while not os.path.lexists(folder):
        folder = folder.parent
    return folder


@contextmanager
def new_file(output: Path) -> Iterator[Path]:
    """Yield a temporary sibling that takes the place of ``output`` when the block succeeds.

    Missing parents are created. A device such as /dev/stdout is written directly.
    """
    if _is_device(output):
        yield output
        return
    output.parent.mkdir(parents=True, exist_ok=True)
    with scratch_folder(output.parent, f".{output.name}.") as folder:
        yield folder / output.name
        os.replace(folder / output.name, output)


def _is_device(path: Path) -> bool:
    return _is_descriptor(path) or (path.exists() and not path.is_file() and not path.is_dir())


def _is_descriptor(path: Path) -> bool:
    """Whether a path is an open file of a process, as /dev/stdout is, whatever that is redirected to.

    Replacing it would take /dev/stdout away from every process of the machine.
    """
    ends = [path, path.parent / path.readlink()] if path.is_symlink() else [path]
    return any(end.parent.resolve().is_relative_to("/proc") for end in ends)
