"""Choosing where the stages work."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence

from onnx_pipeline.errors import UsageError
from onnx_pipeline.manifest import Manifest
from onnx_pipeline.ort.providers import CPU, provider_name
from onnx_pipeline.runtime.layout import Layout
from onnx_pipeline.runtime.placement import StageSpec, usable_cores
from onnx_pipeline.runtime.request import Backend, Finish
from onnx_pipeline.runtime.wiring import Wiring

#: Seconds that a request holds the interpreter lock per stage, hand-over included; measured by
#: ``benchmarks/runtime.py``. Stages on threads cannot be faster than k times this.
LOCK_SECONDS = 30e-6
NAMES = ("auto", "threads", "processes")


def make_backend(
    name: str,
    specs: Sequence[StageSpec],
    wiring: Wiring,
    document: Manifest,
    depth: int,
    limit: int,
    finish: Finish,
    restart: bool,
) -> Backend:
    """Start the stages.

    Raises
    ------
    UsageError
        If there is no such backend, or it cannot take the session options.
    InputError
        If a stage cannot be loaded.
    """
    if name not in NAMES:
        raise UsageError(f"backend must be one of {', '.join(NAMES)}, got {name!r}")
    if name == "auto":
        name = choose(specs, document, restart)
    layout = Layout.of(document)
    if name == "threads":
        from onnx_pipeline.runtime.threads import Threads

        return Threads(specs, wiring, layout, depth, finish)
    problem = obstacle(specs)
    if problem:
        raise UsageError(f"backend 'processes': {problem}")
    from onnx_pipeline.runtime.processes.backend import Processes

    return Processes(specs, wiring, layout, depth, limit, finish, restart)


def choose(specs: Sequence[StageSpec], document: Manifest, restart: bool = False) -> str:
    """Return the backend that ``"auto"`` stands for.

    Threads, which copy nothing, unless the stages are so short that the interpreter lock would be what they
    wait for (and every stage has a core of its own), or the caller wants dead workers replaced: only
    processes can be.
    """
    if obstacle(specs):
        return "threads"
    if restart:
        return "processes"
    bottleneck = max(stage.cost["total_seconds"] for stage in document.stages)
    short = 0 < bottleneck < LOCK_SECONDS * len(specs)
    roomy = len(usable_cores()) > len(specs)  # one more for the caller
    on_cpu = all(provider_name(spec.settings.providers[0]) == CPU for spec in specs)
    return "processes" if len(specs) > 1 and short and roomy and on_cpu else "threads"


def obstacle(specs: Sequence[StageSpec]) -> str:
    """Return why the stages cannot work in processes; empty if they can."""
    if os.name != "posix":
        return "only on POSIX systems"
    given = (spec.settings.options for spec in specs)
    if any(options is not None and not isinstance(options, Mapping) for options in given):
        return (
            "a SessionOptions object cannot be sent to another process; "
            'give a mapping such as {"intra_op_num_threads": 2}'
        )
    return ""
