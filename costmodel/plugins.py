"""Objects that other installed packages register under this package's entry-point groups."""

from __future__ import annotations

from typing import Any

from onnx_pipeline.errors import UsageError


def plugin_names(group: str) -> list[str]:
    """Names registered under an entry-point group, sorted."""
    from importlib.metadata import entry_points

    return sorted({point.name for point in entry_points(group=group)})


def plugin_version(group: str, name: str) -> str | None:
    """Version of the package that registers ``name``, or None if it is not known."""
    from importlib.metadata import entry_points

    versions = [point.dist.version for point in entry_points(group=group, name=name) if point.dist]
    return versions[0] if versions else None


def load_plugin(group: str, name: str) -> Any:
    """Return the object registered as ``name``, or None if there is none.

    Raises
    ------
    UsageError
        If the plug-in is installed but cannot be imported.
    """
    from importlib.metadata import entry_points

    for point in entry_points(group=group, name=name):
        try:
            return point.load()
        except Exception as error:  # a plug-in may fail in any way while it is imported
            raise UsageError(
                f"the installed plug-in {name!r} ({point.value}, group {group}) cannot be loaded: {error}"
            ) from error
    return None
