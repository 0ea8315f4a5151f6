"""How kernels are compiled, and where compiled ones are kept.

``kernel`` is called from Python and cached on disk; ``inner`` is called from kernels only and lives in their
cache, which halves what the first run after installation has to compile.

To tell whether a kept kernel is stale, numba looks at the file of the kernel only: not at the ``inner``
functions of other files that were compiled into it, nor at the types that its index names, which an upgrade
may have removed. So kept kernels lie in a folder named after all of this package's sources. It is beside them
if they can be written, else in the user's cache. Where neither can be, kernels that lie there are copied for
the process, since numba only reads what it could write; without any, every process compiles them anew.

Both kinds stand without annotations, ``type: ignore[no-untyped-def]``: numba infers the types of the arrays
and tuples that they take, and annotations could only repeat or contradict it. What calls them is typed.
"""

from __future__ import annotations

import atexit
import hashlib
import os
import shutil
import sys
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import numba
from numba import njit
from numba.core import config as _config

from onnx_pipeline.files.scratch import scratch_folder
from onnx_pipeline.files.user_cache import user_cache

_SOURCES = Path(__file__).parent


def _fingerprint() -> str:
    digest = hashlib.sha256(f"{sys.version} {numba.__version__}".encode())
    for path in sorted(_SOURCES.rglob("*.py")):
        digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


def _places() -> Iterator[Path]:
    yield _SOURCES / "__pycache__"
    home = user_cache()
    if home is not None:
        yield home


def _folder() -> Path | None:
    """Return where compiled kernels are kept, or None where nothing can be."""
    name = f"kernels-{_fingerprint()}"
    for place in _places():
        with suppress(OSError):
            (place / name).mkdir(parents=True, exist_ok=True)
            if os.access(place / name, os.W_OK):
                return place / name
    for place in _places():
        with suppress(OSError):
            return _copied(place / name)
    return None


def _copied(kept: Path) -> Path:
    """Return a copy, for this process, of kernels that only others may write."""
    with ExitStack() as stack:
        if not any(kept.iterdir()):
            raise FileNotFoundError(kept)
        copy = Path(shutil.copytree(kept, stack.enter_context(scratch_folder()) / kept.name))
        for folder in (copy, *filter(Path.is_dir, copy.iterdir())):
            folder.chmod(0o700)  # copied, too, was that nobody writes there
        atexit.register(stack.pop_all().close)
        return copy


FOLDER = _folder()
config: Any = _config  # its attributes are made at run time


def kernel(function: Any) -> Any:
    """Compile a function that Python calls, or take it from the cache."""
    before, config.CACHE_DIR = config.CACHE_DIR, str(FOLDER or "")
    try:  # numba asks for the folder while it decorates
        return njit(cache=FOLDER is not None, nogil=True)(function)
    finally:
        config.CACHE_DIR = before


# The stubs leave this option out.
_NO_WRAPPER: dict[str, Any] = {"no_cpython_wrapper": True}

inner = njit(nogil=True, **_NO_WRAPPER)
