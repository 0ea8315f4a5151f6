"""Measured costs, cached in the user's cache directory.

A profile is found again only under everything that it depends on: the model's bytes, the versions of this
package and of onnxruntime, provider, threads, dimensions, inputs, effort, rates that divide what is measured
as a whole, and the processor. A file that cannot be used, or that is not as it was written, is ignored and
measured again: a cache may be deleted at any time. What a busy machine has measured is not kept.
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
from onnx_pipeline.ort.providers import CPU

_FORMAT = 5
#: Share of a run's time, as a profile's ``noise`` states it, above which the profile is not kept.
NOISY = 0.25


def cached(measure: CostModel) -> CostModel:
    """Return a cost model that looks in ``request.cache`` first and stores there what it measures."""

    def lookup(request: CostRequest) -> NodeCosts:
        """Read the cached costs or measure."""
        if request.cache is None:
            return _warned(request, measure(request), "the costs may be off")
        path = request.cache / "profiles" / f"{_key(request)}.json"
        kept = _read(path, [str(node.name) for node in request.nodes])
        if kept is not None:
            request.progress("profile", 1.0, Advice("from the cache ({cache} measures again)", cache=False))
            return kept
        costs = measure(request)
        if _noise(costs) <= NOISY:
            _write(path, costs)
        return _warned(request, costs, "this profile is not kept")

    return lookup


def _noise(costs: NodeCosts) -> float:
    return float(costs.meta.get("noise") or 0.0)


def _warned(request: CostRequest, costs: NodeCosts, consequence: str) -> NodeCosts:
    """Return costs; say so if a busy machine measured them."""
    if _noise(costs) > NOISY:
        reason = f"other work slowed the runs down by {100 * _noise(costs):.0f} %"
        request.progress("note", None, f"a busy machine: {reason}; {consequence}")
    return costs


def clear(folder: Path | None = None) -> tuple[int, int]:
    """Remove all cached profiles; return their number and size in bytes."""
    count = size = 0
    for path in _kept(folder):
        with suppress(OSError):
            nbytes = path.lstat().st_size
            path.unlink()
            count, size = count + 1, size + nbytes
    return count, size


def usage(folder: Path | None = None) -> tuple[int, int]:
    """Return number and size in bytes of the cached profiles."""
    sizes = []
    for path in _kept(folder):
        with suppress(OSError):
            sizes.append(path.lstat().st_size)
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
        "provider": [request.provider, sorted(map(str, request.provider_options.items()))],
        "threads": request.threads,
        "dims": dict(sorted(request.dims.items())),
        "inputs": request.seed if request.feeds is None else _digest(request.feeds),
        "effort": [request.runs, request.seconds],
        "rates": _rates(request),
        "processor": processor(),
    }
    return hashlib.sha256(json.dumps(document, sort_keys=True).encode()).hexdigest()


def _rates(request: CostRequest) -> list[Any] | None:
    """Return the device's rates where they may divide what is measured as a whole.

    That is a subgraph that a provider compiles, or a fused kernel of a model that is slow for its budget.
    """
    if request.provider == CPU and request.seconds is None:
        return None
    device = request.device
    tables = [sorted(device.peak_flops.items()), sorted(device.operator_rates.items())]
    return [*tables, device.memory_bandwidth, device.launch_overhead]


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
        if not path.is_file():  # nor wait for a pipe
            return None
        digest, _, content = path.read_bytes().partition(b"\n")
        if digest != _checksum(content):
            return None
        costs = NodeCosts.from_json(json.loads(content))
    except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError):
        return None
    if set(costs.work_ns) != set(names):
        return None
    return replace(costs, meta={**costs.meta, "cached": True})


def _write(path: Path, costs: NodeCosts) -> None:
    from onnx_pipeline.files.atomic import new_file

    content = json.dumps(costs.to_json()).encode()
    # A full or read-only disk costs the next run its time, not this run its result.
    with suppress(OSError):
        if not path.is_file():
            path.unlink(missing_ok=True)  # a pipe, which would be written to
        with new_file(path) as temporary:
            temporary.write_bytes(_checksum(content) + b"\n" + content)


def _checksum(content: bytes) -> bytes:
    """Return what tells a damaged file: its numbers may be wrong in ways that no other check finds."""
    return hashlib.sha256(content).hexdigest().encode()
