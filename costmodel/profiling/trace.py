"""onnxruntime's profiling files: which kernels ran, and for how long.

Events come in the order in which they *end*: a node with subgraphs follows its children, and a run's
``model_run`` follows its kernels. Times are whole microseconds.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from onnx_pipeline.errors import InputError

_SUFFIX = "_kernel_time"


@dataclass(frozen=True, slots=True)
class KernelEvent:
    """One execution of one kernel: operator type, node name, start, duration (microseconds), provider."""

    op: str
    name: str
    start: int
    duration: int
    provider: str = field(default="", compare=False)


def read_trace(path: str | os.PathLike[str]) -> list[list[KernelEvent]]:
    """Return the outermost kernels of every run in a profiling file, in execution order.

    Raises
    ------
    InputError
        If the file is not an onnxruntime profile.
    """
    try:
        document = json.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(path, f"not an onnxruntime profile: {error}") from None
    if not isinstance(document, list):
        raise InputError(path, "not an onnxruntime profile: expected a list of events")
    return parse_trace(document)


def parse_trace(events: Sequence[Mapping[str, Any]]) -> list[list[KernelEvent]]:
    """Return the outermost kernels of every run, in execution order; see :func:`read_trace`."""
    runs: list[list[KernelEvent]] = []
    current: list[KernelEvent] = []
    for event in events:
        name = event.get("name", "")
        if event.get("cat") == "Node" and name.endswith(_SUFFIX):
            args = event.get("args", {})
            op, provider = args.get("op_name", ""), args.get("provider", "")
            name = name.removesuffix(_SUFFIX)
            current.append(KernelEvent(op, name, int(event["ts"]), int(event["dur"]), provider))
        elif name == "model_run":
            runs.append(_outermost(current))
            current = []
    return runs


def _outermost(kernels: Sequence[KernelEvent]) -> list[KernelEvent]:
    """Drop what ran inside an If, Loop or Scan: it precedes its parent in the file and starts after it."""
    kept: list[KernelEvent] = []
    for kernel in reversed(kernels):
        if not kept or kernel.start + kernel.duration <= kept[-1].start:
            kept.append(kernel)
    return kept[::-1]
