"""Devices: built-in ones, users' TOML files and installed plug-ins."""

from __future__ import annotations

import math
import os
import sys
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

from onnx_pipeline.costmodel.plugins import load_plugin, plugin_names
from onnx_pipeline.errors import InputError, UsageError
from onnx_pipeline.files.toml import read_toml
from onnx_pipeline.graph.target import Target
from onnx_pipeline.graph.units import parse_bandwidth, parse_bytes, parse_seconds

#: How the source of a device begins that this package measured.
CALIBRATED = "measured by onnx-pipeline calibrate"
DEVICE_GROUP = "onnx_pipeline.devices"


@dataclass(frozen=True)
class Device:
    """One of k identical devices and its link to the others.

    Quantities may be given as text with a unit, as in files: ``Device("board", bandwidth="1GB/s")``.

    Attributes
    ----------
    name : str
    bandwidth : float
        Bytes/second between devices; may be infinite.
    memory : float
        Bytes of fast memory; may be infinite.
    transfer_latency : float
        Fixed seconds per transferred tensor (lambda).
    stage_overhead : float
        Fixed seconds per stage and inference (alpha).
    peak_flops : mapping of str to float
        Operations/second by element type (``"float32"``, ``"float16"``, ``"int8"``, ...).
    memory_bandwidth : float
        Bytes/second between a device and its own memory.
    launch_overhead : float
        Fixed seconds per operator.
    operator_rates : mapping of str to float
        Operations/second of operators that stay below both peaks, bytes/second of those that only move data.
        Keys are ONNX operators, with ``.depthwise`` or ``.int8`` for those forms.
    source : str
        Where the figures come from.

    Raises
    ------
    UsageError
        If a figure is no number or quantity, or out of its range.
    """

    name: str
    bandwidth: float = math.inf
    memory: float = math.inf
    transfer_latency: float = 0.0
    stage_overhead: float = 0.0
    peak_flops: Mapping[str, float] = field(default_factory=lambda: {"float32": 1e11})
    memory_bandwidth: float = 1e10
    launch_overhead: float = 0.0
    operator_rates: Mapping[str, float] = field(default_factory=dict)
    source: str = ""

    def __post_init__(self) -> None:
        """Read every figure once."""
        for key, read in _READERS.items():
            value = getattr(self, key)
            if value != {} or key == "peak_flops":
                object.__setattr__(self, key, read(value, key))

    def __repr__(self) -> str:
        """Return the figures that matter, in one line."""
        from onnx_pipeline.brief import of_device

        return of_device(self)

    def target(self, host_io: bool = True) -> Target:
        """Return the partitioner's view of this device."""
        return Target(
            bandwidth=self.bandwidth,
            memory=self.memory,
            transfer_latency=self.transfer_latency,
            stage_overhead=self.stage_overhead,
            host_io=host_io,
            name=self.name,
        )

    def flops(self, dtype: str) -> float:
        """Operations/second for an element type; one that is not listed runs at the slowest rate listed."""
        return self.peak_flops.get(dtype, min(self.peak_flops.values()))


def built_in_devices() -> list[str]:
    """Names of the devices that come with the package."""
    return list(_built_in())


def load_device(name_or_path: str | os.PathLike[str] | Device) -> Device:
    """Return a device by built-in name, installed plug-in name or path of a TOML file; a Device as it is.

    Parameters
    ----------
    name_or_path : str, path-like or Device
        ``"cpu"``, ``"gpu"``, ``"edge"``, ``"ideal"``, a name of the entry-point group
        ``onnx_pipeline.devices`` (a :class:`Device` or a function that returns one), or a file such as
        ``my-device.toml``.

    Raises
    ------
    UsageError
        If it is neither a known name nor a path.
    InputError
        If the file is missing or wrong; the message names the key.
    """
    if isinstance(name_or_path, Device):
        return name_or_path
    name = os.fspath(name_or_path)
    if name in _built_in():
        return _device(_built_in()[name], name, source=None)
    plugin = load_plugin(DEVICE_GROUP, name)
    if plugin is not None:
        device = plugin() if callable(plugin) and not isinstance(plugin, Device) else plugin
        if not isinstance(device, Device):
            raise UsageError(f"the installed plug-in {name!r} gives a {type(device).__name__}, not a Device")
        return device
    path = Path(name_or_path)
    if path.exists() or path.suffix or len(path.parts) > 1:
        return _device(read_toml(path, "a TOML device description"), path.stem, source=path)
    known = ", ".join((*built_in_devices(), *plugin_names(DEVICE_GROUP)))
    raise UsageError(f"unknown device {name!r}: give {known}, or the path of a TOML file")


def measured_elsewhere(meta: Mapping[str, Any], device: Device) -> str | None:
    """Say that the work of nodes is not that of the device, where the costs tell so.

    Parameters
    ----------
    meta : mapping
        Of a cost graph: ``cost_model``, and the ``provider`` or ``device`` that it timed or computed.
    device : Device
        Whose links and memory are priced. The built-in ``cpu`` and a calibrated device are what a CPU's
        timings are about; ``ideal`` is no device at all.
    """
    kind, name = meta.get("cost_model"), device.name
    if kind == "profile" and meta.get("provider") == "CPUExecutionProvider":
        if name in ("cpu", "ideal") or device.source.startswith(CALIBRATED):
            return None
        made = f"timed on CPUExecutionProvider, not on {name}"
    elif kind == "analytic" and name not in (meta.get("device", name), "ideal"):
        made = f"computed for {meta['device']}, not for {name}"
    else:
        return None
    return f"the work of nodes was {made}: only links and memory are those of {name}"


@cache
def _built_in() -> dict[str, dict[str, Any]]:
    return tomllib.loads(files(__package__).joinpath("devices.toml").read_text(encoding="utf-8"))


def _device(table: Mapping[str, Any], name: str, source: Path | None) -> Device:
    for key in table:
        if key not in _READERS:
            raise InputError(source, f"unknown key {key!r}: a device has {', '.join(sorted(_READERS))}")
    try:
        return Device(**{"name": name, **table})
    except UsageError as error:
        raise InputError(source, error.message, error.hint) from None


def _rates(value: object, key: str) -> Mapping[str, float]:
    if not isinstance(value, Mapping) or not value:
        raise UsageError(f"{key} must be a table such as {{ float32 = 1e12 }}, got {value!r}")
    for dtype, rate in value.items():
        if isinstance(rate, bool) or not isinstance(rate, int | float):
            raise UsageError(f"{key}.{dtype} must be a number of operations/second, got {rate!r}")
        if not 0 < rate <= sys.float_info.max:
            raise UsageError(f"{key}.{dtype} must be positive and finite, got {rate!r}")
    return {str(dtype): float(rate) for dtype, rate in value.items()}


def _text(value: object, key: str) -> str:
    if isinstance(value, Mapping):
        return "; ".join(f"{figure}: {_text(text, f'{key}.{figure}')}" for figure, text in value.items())
    if not isinstance(value, str):
        raise UsageError(f"{key} must be text, got {value!r}")
    return value


_READERS: dict[str, Callable[[Any, str], Any]] = {
    "name": _text,
    "bandwidth": parse_bandwidth,
    "memory": parse_bytes,
    "transfer_latency": parse_seconds,
    "stage_overhead": parse_seconds,
    "peak_flops": _rates,
    "memory_bandwidth": parse_bandwidth,
    "launch_overhead": parse_seconds,
    "operator_rates": _rates,
    "source": _text,
}
assert set(_READERS) == {item.name for item in fields(Device)}
