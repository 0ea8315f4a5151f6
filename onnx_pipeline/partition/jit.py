"""How kernels are compiled.

``kernel`` is called from Python and cached on disk; ``inner`` is called from kernels only and lives in their
cache, which halves what the first run after installation has to compile.
"""

from __future__ import annotations

from numba import njit

kernel = njit(cache=True, nogil=True)
inner = njit(nogil=True, no_cpython_wrapper=True)
