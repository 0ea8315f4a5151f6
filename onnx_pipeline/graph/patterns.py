"""Names of nodes and tensors, also as patterns such as ``encoder/*``."""

from __future__ import annotations

import re
from collections.abc import Collection
from fnmatch import fnmatchcase

from onnx_pipeline.errors import UsageError, did_you_mean

_WILD = re.compile(r"[*?\[\]]")


def unknown(name: str, known: Collection[str], kind: str) -> UsageError:
    """Return the error for a name that nothing has, with names close to it."""
    return UsageError(f"the graph has no {kind} {name!r}", did_you_mean(name, known))


def matching(pattern: str, known: Collection[str], kind: str) -> list[str]:
    """Return the names that are meant: the very name if there is one, else all that match the pattern.

    Parameters
    ----------
    pattern : str
        A name, or one with ``*``, ``?`` and ``[...]`` as in a shell; ``*`` matches slashes, too.
    known : collection of str
        All names.
    kind : str
        What they name, for errors.

    Raises
    ------
    UsageError
        If there is none; the message has close names.
    """
    if pattern in known:
        return [pattern]
    if not _WILD.search(pattern):
        raise unknown(pattern, known, kind)
    found = [name for name in known if fnmatchcase(name, pattern)]
    if not found:
        raise UsageError(f"no {kind} of the graph matches {pattern!r}", _near(pattern, known))
    return found


def _near(pattern: str, known: Collection[str]) -> str | None:
    """Return a hint at names that begin or end almost as the pattern does."""
    longest = max(_WILD.split(pattern), key=len)
    first = reversed([*known])
    ends = {end: name for name in first for end in (name[-len(longest) :], name[: len(longest)])}
    return did_you_mean(longest, ends, ends.__getitem__) if longest else None
