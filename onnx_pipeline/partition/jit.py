"""How kernels are compiled.

``kernel`` is called from Python and cached on disk; ``inner`` is called from kernels only and lives in their
cache, which halves what the first run after installation has to compile.
"""

from __future__ import annotations

from typing import Any

from numba import njit

# The stubs leave this option out.
_NO_WRAPPER: dict[str, Any] = {"no_cpython_wrapper": True}

kernel = njit(cache=True, nogil=True)
inner = njit(nogil=True, **_NO_WRAPPER)
