"""How kernels are compiled.

``kernel`` is called from Python and cached on disk; ``inner`` is called from kernels only and lives in their
cache, which halves what the first run after installation has to compile.

Both kinds stand without annotations, ``type: ignore[no-untyped-def]``: numba infers the types of the arrays
and tuples that they take, and annotations could only repeat or contradict it. What calls them is typed.
"""

from __future__ import annotations

from typing import Any

from numba import njit

# The stubs leave this option out.
_NO_WRAPPER: dict[str, Any] = {"no_cpython_wrapper": True}

kernel = njit(cache=True, nogil=True)
inner = njit(nogil=True, **_NO_WRAPPER)
