"""Execution providers: which there are, and whether a session runs on the one that was asked for."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from onnx_pipeline.errors import UsageError

#: Name and options.
Provider = tuple[str, Mapping[str, Any]]
CPU = "CPUExecutionProvider"


def provider_name(provider: str | Provider) -> str:
    """Return the name of a provider that is given with options or without."""
    return provider if isinstance(provider, str) else provider[0]


def check_providers(names: Iterable[str]) -> None:
    """Refuse execution providers that this onnxruntime does not have.

    Raises
    ------
    UsageError
    """
    import onnxruntime

    available = onnxruntime.get_available_providers()
    for name in names:
        if name not in available:
            raise UsageError(f"unknown provider {name!r}: this onnxruntime has {', '.join(available)}")
