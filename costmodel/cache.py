"""Measured costs, cached in the user's cache directory.

A profile is found again only under everything that it depends on: the model's bytes, the versions of this
package and of onnxruntime, provider, threads, dimensions, inputs, effort and the processor. A file that
cannot be used is ignored and measured again: a cache may be deleted at any time.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from onnx_pipeline.costmodel.request import CostModel, CostRequest, NodeCosts
from onnx_pipeline.errors import Advice
from onnx_pipeline.files.user_cache import user_cache

_FORMAT = 3


def cached(measure: CostModel) -> CostModel:
    """Return a cost model that looks in ``request.cache`` first and stores there what it measures."""

    def lookup(request: CostRequest) -> NodeCosts:
        """Read the cached costs or measure."""
        if request.cache is None:
            return measure(request)
        path = request.cache / "profiles" / f"{_key(request)}.json"
        kept = _read(path, [str(node.name) for node in request.nodes])
        if kept is not None:
            request.progress("profile", 1.0, Advice("from the cache ({cache} measures again)", cache=False))
            return kept
        costs = measure(request)
        _write(path, costs)
        return costs

    return lookup


def clear(folder: Path | None = None) -> tuple[int, int]:
    """Remove all cached profiles; return their number and size in bytes."""
    count = size = 0
    for path in _kept(folder):
        with suppress(FileNotFoundError):
            size += path.stat().st_size
            path.unlink()
            count += 1
    return count, size


def usage(folder: Path | None = None) -> tuple[int, int]:
    """Return number and size in bytes of the cached profiles."""
    sizes = [path.stat().st_size for path in _kept(folder)]
    return len(sizes), sum(sizes)


def _kept(folder: Path | None) -> list[Path]:
    folder = folder or user_cache()
    return [] if folder is None else sorted(folder.glob("profiles/*.json"))


def _key(request: CostRequest) -> str:
    import onnxruntime

    from onnx_pipeline import __version__

    document = {
        "format": _FORMAT,
        "model": request.source.sha256,
        "weights": _external_files(request),
        "custom_ops": _libraries(request),
        "versions": [__version__, onnxruntime.__version__],
        "provider": request.provider,
        "threads": request.threads,
        "dims": dict(sorted(request.dims.items())),
        "inputs": request.seed if request.feeds is None else _digest(request.feeds),
        "effort": [request.runs, request.seconds],
        "processor": processor(),
    }
    return hashlib.sha256(json.dumps(document, sort_keys=True).encode()).hexdigest()


def _external_files(request: CostRequest) -> list[tuple[str, int, int]]:
    """Identify external weights by name, size and time: reading gigabytes would cost more than profiling."""
    return sorted((file.name, *stamp) for file, stamp in request.source.stamps.items())


def _libraries(request: CostRequest) -> list[tuple[str, int, int]]:
    from onnx_pipeline.model.external import stamp

    return [(library.name, *stamp(library)) for library in request.source.custom_ops]


def _digest(feeds: Mapping[str, Any]) -> str:
    digest = hashlib.sha256()
    for name, value in sorted(feeds.items()):
        digest.update(repr(name).encode())
        _add_value(digest, value)
    return digest.hexdigest()


def _add_value(digest: hashlib._Hash, value: Any) -> None:
    """Add an array, or a list or a map of values; what is told apart has another text in front."""
    import numpy as np

    if isinstance(value, Mapping):
        digest.update(f"map {len(value)}".encode())
        for key, each in sorted(value.items()):
            digest.update(repr(key).encode())
            _add_value(digest, each)
    elif isinstance(value, (list, tuple)):
        digest.update(f"list {len(value)}".encode())
        for each in value:
            _add_value(digest, each)
    elif not isinstance(value, (np.ndarray, np.generic)):
        digest.update(f"{type(value).__name__} {value!r}".encode())
    elif value.dtype.kind in "OT":  # the memory has addresses
        digest.update(f"strings {value.shape} {value.tolist()!r}".encode())
    else:
        digest.update(f"{value.dtype}{value.shape}".encode())
        digest.update(value.tobytes())


def processor() -> str:
    """Describe what the times of a profile depend on: architecture, processor and number of cores."""
    name = platform.processor()
    with suppress(OSError):  # Linux says more here than anywhere else
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                name = line.partition(":")[2].strip()
                break
    return f"{platform.machine()} {name} x{os.cpu_count()}"


def _read(path: Path, names: list[str]) -> NodeCosts | None:
    try:
        costs = NodeCosts.from_json(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError):
        return None
    if set(costs.work_ns) != set(names):
        return None
    return replace(costs, meta={**costs.meta, "cached": True})


def _write(path: Path, costs: NodeCosts) -> None:
    from onnx_pipeline.files.atomic import new_file

    # A full or read-only disk costs the next run its time, not this run its result.
    with suppress(OSError), new_file(path) as temporary:
        temporary.write_text(json.dumps(costs.to_json()), encoding="utf-8")
