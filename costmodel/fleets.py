"""Fleets: devices that differ, read from TOML files.

A fleet file lists devices, each entry one kind of device and how many there are of it::

    [[device]]
    device = "gpu"
    count = 2

    [[device]]
    device = "cpu"
    count = 6

Where the costs of a kind's nodes come from is decided in :mod:`onnx_pipeline.costmodel.kinds`.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from onnx_pipeline.costmodel.devices import Device, load_device
from onnx_pipeline.errors import InputError, PipelineError, UsageError, did_you_mean
from onnx_pipeline.figures import fleet_text, format_count
from onnx_pipeline.files.toml import read_toml
from onnx_pipeline.graph.fleet import FleetTarget, Kind
from onnx_pipeline.settings import MOST_STAGES, SETTINGS

if TYPE_CHECKING:
    from onnx_pipeline.graph.costgraph import CostGraph

#: What people may look for at the top of a fleet file: links belong to devices.
_LINKS = {"link", "links", "matrix", "topology", "bandwidth", "bandwidths", "network", "interconnect"}
#: Figures of the device that a fleet file may override.
_FIGURES = ("bandwidth", "memory", "transfer_latency", "stage_overhead")
_TOP = ("device", "order", "stages_per_device")


@dataclass(frozen=True)
class DeviceKind:
    """Devices of a fleet that are alike, and how to find out what they take.

    Attributes
    ----------
    name : str
    device : str, path-like or Device
        Links, memory and overheads, and the rates of computed costs.
    speed : float, optional
        Its work is that of the cost graph divided by this number.
    provider : str, optional
        Execution provider of onnxruntime that runs its stages.
    provider_options : mapping
    threads : int, optional
        Intra-op threads of its sessions.
    memory_mode : {"overflow", "hard"}
    activations : bool
        As of :class:`~onnx_pipeline.Target`.
    costs : str, optional
        ``"profile"``, ``"analytic"`` or a COSTS.json or CSV file: where its work comes from.
    unsupported : tuple of str
        What it cannot run: operator types, names of nodes, or patterns of names.

    Raises
    ------
    UsageError
        If a value is out of its range.
    InputError
        If the device's file is wrong.
    """

    name: str
    device: str | os.PathLike[str] | Device = "cpu"
    speed: float | None = None
    provider: str | None = None
    provider_options: Mapping[str, Any] = field(default_factory=dict)
    threads: int | None = None
    memory_mode: str = "overflow"
    activations: bool = True
    costs: str | None = None
    unsupported: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Load the device, and check every value once."""
        object.__setattr__(self, "device", load_device(self.device))
        for key, read in _READERS.items():
            value = getattr(self, key)
            if value is not None:
                object.__setattr__(self, key, read(value, key))
        if self.speed is not None and self.costs is not None:
            raise UsageError("speed and costs are two ways to say how long nodes take", "give one of them")
        if self.provider_options and self.provider is None:
            raise UsageError("provider_options without a provider", "name the provider they are for")

    @property
    def figures(self) -> Device:
        """The device as loaded."""
        assert isinstance(self.device, Device)
        return self.device

    def kind(self, *, host_io: bool = True) -> Kind:
        """Return the partitioner's view."""
        target = replace(
            self.figures.target(host_io), memory_mode=self.memory_mode, activations=self.activations
        )
        return Kind(self.name, replace(target, name=self.name))


@dataclass(frozen=True)
class Fleet:
    """Devices that differ.

    Attributes
    ----------
    kinds : tuple of DeviceKind
        With names of their own.
    devices : tuple of int
        Kind of every device, in their order.
    free : bool
        Whether stages may take the devices in any order; else later stages are on later devices.
    stages_per_device : int or None
        At most so many stages on one device, None for any number.
    source : Path, optional
        The file.

    Raises
    ------
    UsageError
        If there is no device, two kinds have one name, or a value is out of its range.

    Examples
    --------
    >>> Fleet.from_table({"device": [{"device": "gpu"}, {"device": "cpu", "count": 2}]}).devices
    (0, 1, 1)
    """

    kinds: tuple[DeviceKind, ...]
    devices: tuple[int, ...]
    free: bool = False
    stages_per_device: int | None = 1
    source: Path | None = None

    def __post_init__(self) -> None:
        """Check that everything fits together."""
        if len(self.devices) > MOST_STAGES:
            raise UsageError(f"a fleet has at most {MOST_STAGES} devices, got {len(self.devices)}")
        self.target()

    def __repr__(self) -> str:
        """Return the devices in one line."""
        return f"<Fleet {self.text}>"

    @property
    def text(self) -> str:
        """What the fleet is, in words: ``2 gpu and 6 cpu, in any order``."""
        return fleet_text([kind.name for kind in self.kinds], self.devices, free=self.free)

    @classmethod
    def read(cls, path: str | os.PathLike[str]) -> Fleet:
        """Read a fleet file.

        Parameters
        ----------
        path : path-like
            TOML with a table ``[[device]]`` for each kind. Files that it names are beside it, or where they
            are from the working directory.

        Raises
        ------
        InputError
            If the file is missing or wrong; the message names the entry and the key.
        """
        try:
            found = cls.from_table(read_toml(path, "a TOML description of a fleet"), Path(path).parent)
        except InputError as error:
            if error.source is not None:
                raise
            raise InputError(path, error.message, error.hint) from None
        except UsageError as error:
            raise InputError(path, error.message, error.hint) from None
        return replace(found, source=Path(path))

    @classmethod
    def from_table(cls, table: Mapping[str, Any], folder: Path | None = None) -> Fleet:
        """Return the fleet of a table with the keys of a fleet file.

        Parameters
        ----------
        table : mapping
        folder : Path, optional
            Where files may be that it names.

        Raises
        ------
        UsageError
            If a key or a value is wrong.
        """
        _check_keys(table, _TOP, "a fleet", _links_hint)
        entries = table.get("device")
        if not isinstance(entries, Sequence) or isinstance(entries, str) or not entries:
            raise UsageError("a fleet lists its devices", "begin each with a line [[device]]")
        kinds: dict[str, DeviceKind] = {}
        line: list[str] = []
        counted: dict[str, int] = {}
        for number, entry in enumerate(entries, start=1):
            kind, count = _entry(entry, number, folder or Path())
            known = kinds.setdefault(kind.name, kind)
            if known != kind:
                raise UsageError(_not_alike(known, kind, number), "give each kind a name of its own")
            counted[kind.name] = counted.get(kind.name, 0) + (count or 0)
            line += [kind.name] * (count or 1)
        free, line = _ordered(table.get("order", "fixed"), line, counted)
        numbers = {name: number for number, name in enumerate(kinds)}
        share = stages_per_device(table.get("stages_per_device", 1))
        return cls(tuple(kinds.values()), tuple(numbers[name] for name in line), free, share)

    @property
    def running(self) -> tuple[dict[str, Any], ...]:
        """By kind: its device, and what its stages run with, as manifests have it."""
        return tuple(
            {
                "device": kind.figures.name,
                **({} if kind.provider is None else {"provider": kind.provider}),
                **({"provider_options": dict(kind.provider_options)} if kind.provider_options else {}),
                **({} if kind.threads is None else {"threads": kind.threads}),
            }
            for kind in self.kinds
        )

    def target(self, graph: CostGraph | None = None) -> FleetTarget:
        """Return the partitioner's view of the fleet.

        Parameters
        ----------
        graph : CostGraph, optional
            Says whether model inputs and outputs are paid for.
        """
        host_io = graph is None or graph.meta.get("host_io", True) is not False
        kinds = tuple(kind.kind(host_io=host_io) for kind in self.kinds)
        return FleetTarget(kinds, self.devices, self.free, self.stages_per_device)

    def priced(self, graph: CostGraph, progress: Any = None) -> CostGraph:
        """Return a cost graph with the work that its nodes are for every kind.

        Parameters
        ----------
        graph : CostGraph
        progress : Progress, optional
            Is told where a kind's times are only guessed.

        Raises
        ------
        UsageError
            If a kind's costs need the model.
        InputError
            If a file of costs is wrong, or is one of another model.
        InfeasibleError
            If no kind can run some node.
        """
        from onnx_pipeline.costmodel.kinds import price_kinds
        from onnx_pipeline.progress import silent

        return price_kinds(graph, self, progress=progress or silent)


def load_fleet(given: Fleet | Mapping[str, Any] | str | os.PathLike[str]) -> Fleet:
    """Return a fleet by the path of its file or as a table with the same keys; a Fleet as it is.

    Raises
    ------
    UsageError
        If it is something else, or a table is wrong.
    InputError
        If the file is missing or wrong.
    """
    if isinstance(given, Fleet):
        return given
    if isinstance(given, Mapping):
        return Fleet.from_table(given)
    if isinstance(given, str | os.PathLike) and os.fspath(given):
        return Fleet.read(given)
    raise UsageError(f"fleet must be a Fleet, a table or a TOML file, got {given!r}")


def stages_per_device(value: object) -> int | None:
    """Return how many stages a device may hold; None for any number, which is written ``"any"``.

    Raises
    ------
    UsageError
        If it is neither a whole number from 1 nor ``"any"``.
    """
    if value is None or value == "any":
        return None
    if isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= MOST_STAGES:
        return value
    raise UsageError(f'stages_per_device must be a whole number from 1 or "any", got {value!r}')


def _entry(entry: object, number: int, folder: Path) -> tuple[DeviceKind, int | None]:
    """Return the kind of one ``[[device]]`` and how many there are, None where it does not say."""
    if not isinstance(entry, Mapping):
        raise UsageError(f"device {number} is no table", "begin each with a line [[device]]")
    given = dict(entry)
    where = f"device {number}" + (f" ({given['name']})" if isinstance(given.get("name"), str) else "")
    try:
        _check_keys(given, _KEYS, "a device")
        count = given.pop("count", None)
        if count is not None and not (type(count) is int and 1 <= count <= MOST_STAGES):
            raise UsageError(f"count must be a whole number from 1 to {MOST_STAGES}, got {count!r}")
        device = load_device(_beside(given.pop("device", "cpu"), folder, "device"))
        if "costs" in given and given["costs"] not in ("profile", "analytic"):
            given["costs"] = _beside(given["costs"], folder, "costs")
        overrides = {key: given.pop(key) for key in _FIGURES if key in given}
        device = replace(device, **overrides)
        return DeviceKind(**{"name": device.name, **given}, device=device), count
    except PipelineError as error:
        if isinstance(error, InputError) and error.source is not None:
            raise
        raise UsageError(f"{where}: {error.message}", error.hint) from None


def _beside(value: object, folder: Path, key: str) -> str:
    """Return a name or path; a file beside the fleet's is meant first."""
    if not isinstance(value, str) or not value:
        raise UsageError(f"{key} must be a name or a file, got {value!r}")
    return str(folder / value) if (folder / value).is_file() else value


def _check_keys(
    table: Mapping[str, Any],
    known: Sequence[str],
    what: str,
    hint: Callable[[str], str | None] = lambda _: None,
) -> None:
    for key in table:
        if key not in known:
            advice = hint(key) or did_you_mean(key, known)
            raise UsageError(f"unknown key {key!r}: {what} has {', '.join(known)}", advice)


def _links_hint(key: str) -> str | None:
    if key in _LINKS:
        return "links belong to devices: give bandwidth and transfer_latency of a [[device]]"
    return "it belongs to a [[device]]" if key in _KEYS else None


def _not_alike(known: DeviceKind, other: DeviceKind, number: int) -> str:
    keys = [f.name for f in fields(DeviceKind) if getattr(known, f.name) != getattr(other, f.name)]
    return f"device {number} is called {other.name!r} like one before, but differs in {', '.join(keys)}"


def _ordered(order: object, line: Sequence[str], counted: Mapping[str, int]) -> tuple[bool, list[str]]:
    """Return whether the order is free, and the kinds of the devices in their order."""
    if order in ("fixed", "any"):
        return order == "any", list(line)
    if not isinstance(order, list) or not order or not all(isinstance(name, str) for name in order):
        raise UsageError(f'order must be "fixed", "any" or a list of names, got {order!r}')
    for name in order:
        if name not in counted:
            raise UsageError(f"order has {name!r}, which no device is called", did_you_mean(name, counted))
    for name, count in counted.items():
        times = order.count(name)
        if times != count and (count or not times):
            listed = f"order has {name!r} {format_count(times, 'time')}"
            raise UsageError(f"{listed}, but there are {format_count(max(count, 1), 'device')} of it")
    return False, list(order)


def _speed(value: object, key: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 1e-6 <= value <= 1e6:
        raise UsageError(f"{key} must be a number from 1e-6 to 1e6, such as 2.5 for 2.5 times as fast")
    return float(value)


def _options(value: object, key: str) -> dict[str, Any]:
    if not isinstance(value, Mapping):
        raise UsageError(f'{key} must be a table such as {{ device_id = "0" }}, got {value!r}')
    return {str(name): option for name, option in value.items()}


def _texts(value: object, key: str) -> tuple[str, ...]:
    if not isinstance(value, list | tuple) or not all(isinstance(each, str) and each for each in value):
        raise UsageError(f'{key} must be a list such as ["LayerNormalization", "head/*"], got {value!r}')
    return tuple(value)


def _text(value: object, key: str) -> str:
    if not isinstance(value, str) or not value.strip():
        raise UsageError(f"{key} must be text, got {value!r}")
    return value


_READERS: dict[str, Callable[[Any, str], Any]] = {
    "name": _text,
    "speed": _speed,
    "provider": SETTINGS["provider"].check,
    "provider_options": _options,
    "threads": SETTINGS["threads"].check,
    "memory_mode": SETTINGS["memory_mode"].check,
    "activations": SETTINGS["activations"].check,
    "costs": _text,
    "unsupported": _texts,
}
_KEYS = ("name", "device", "count", *list(_READERS)[1:], *_FIGURES)
