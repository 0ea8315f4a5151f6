"""Many plans at once: bottleneck, rate, latency and memory for every number of stages and kind of device."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any

from onnx_pipeline.errors import Advice, InputError, UsageError
from onnx_pipeline.goals import Answer, Goals, answer
from onnx_pipeline.graph.constraints import NO_DEMANDS, Demands
from onnx_pipeline.parameters import ModelLike, PathLike, SearchParams, TargetParams, the_one
from onnx_pipeline.progress import Phases, Progress, ProgressLike, shows_progress, silent
from onnx_pipeline.rows import DeviceRow, Row, Setup, front
from onnx_pipeline.settings import check

if TYPE_CHECKING:
    from onnx_pipeline.costmodel.devices import Device
    from onnx_pipeline.graph.costgraph import CostGraph
    from onnx_pipeline.graph.target import Target

__all__ = ["Exploration", "Row", "Setup", "explore", "is_costs", "writer"]
FORMAT = "onnx-pipeline/exploration"
FORMAT_VERSION = 1
Quantity = float | str


@dataclass(frozen=True, eq=False)
class Exploration:
    """What :func:`explore` found.

    Attributes
    ----------
    graph : CostGraph
    rows : tuple of Row
        By target in the order given, then by number of stages.
    goals : Goals
    answers : tuple of (Setup, Answer)
        For each target, if there are goals.
    interrupted : bool
        Whether Ctrl-C ended the search: rows that it left without any partition are missing.
    front : bool
        Whether tables, documents and plots leave out rows that bring nothing over fewer devices.
    """

    graph: CostGraph
    rows: tuple[Row, ...]
    goals: Goals
    answers: tuple[tuple[Setup, Answer], ...] = ()
    interrupted: bool = False
    front: bool = False

    def __repr__(self) -> str:
        """Return the figures that matter, in one line."""
        from onnx_pipeline.brief import of_exploration

        return of_exploration(self)

    def __iter__(self) -> Iterator[Row]:
        """Iterate over the rows."""
        return iter(self.rows)

    def __len__(self) -> int:
        """Return the number of rows."""
        return len(self.rows)

    def groups(self) -> list[tuple[Row, ...]]:
        """Return the rows of each target."""
        setups = list(dict.fromkeys(row.setup for row in self.rows))
        return [tuple(row for row in self.rows if row.setup is setup) for setup in setups]

    def shown(self, rows: Sequence[Row]) -> Sequence[Row]:
        """Return those of a target's rows that are shown."""
        return front(rows) if self.front else rows

    def to_json(self) -> dict[str, Any]:
        """Return the document: times in seconds, sizes in bytes, null for what is unknown or unlimited."""
        from onnx_pipeline import __version__
        from onnx_pipeline.planfile import target_fields

        rows = [row.to_json() for group in self.groups() for row in self.shown(group)]
        answers = []
        for setup, found in self.answers:
            fields = target_fields(setup.target, 0)
            limits = {"memory_limit_bytes": fields["memory_bytes"]}
            limits["bandwidth_bytes_per_second"] = fields["bandwidth_bytes_per_second"]
            own = found.to_json()
            if isinstance(self.rows[0], DeviceRow):
                own = {"devices": own.pop("stages"), **own}
            answers.append({**limits, **own})
        return {
            "format": FORMAT,
            "format_version": FORMAT_VERSION,
            "tool": {"name": "onnx-pipeline", "version": __version__},
            "graph": {"name": self.graph.name, "nodes": self.graph.num_nodes, "tensors": self.graph.num_nets},
            "goals": self.goals.to_json(),
            "answers": answers,
            "interrupted": self.interrupted,
            "rows": rows,
        }

    def write(self, path: PathLike) -> None:
        """Write a table (``.csv``), the document (``.json``) or a plot (``.png``, ``.svg``, ``.pdf``).

        Raises
        ------
        UsageError
            If the suffix is none of these, or a plot needs matplotlib, which is not installed.
        """
        writer(path)(self, Path(path))


def writer(path: PathLike) -> Callable[[Exploration, Path], None]:
    """Return what writes an exploration to a file of this name, before there is any.

    Raises
    ------
    UsageError
        See :meth:`Exploration.write`.
    """
    from onnx_pipeline import plotting

    suffix = Path(path).suffix.lower()
    if suffix in plotting.SUFFIXES:
        plotting.check_matplotlib()
        return plotting.plot
    if suffix in (".csv", ".json"):
        return _write_csv if suffix == ".csv" else _write_json
    known = ", ".join((".csv", ".json", *plotting.SUFFIXES))
    raise UsageError(f"{str(path)!r} names no format: its suffix must be one of {known}")


def _write_csv(found: Exploration, path: Path) -> None:
    import csv

    from onnx_pipeline.files.atomic import new_file

    rows = found.to_json()["rows"]
    with new_file(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        table = csv.DictWriter(file, fieldnames=list(rows[0]) if rows else ["stages"])
        table.writeheader()
        table.writerows(rows)


def _write_json(found: Exploration, path: Path) -> None:
    import json

    from onnx_pipeline.files.atomic import new_file

    with new_file(path) as temporary:
        text = json.dumps(found.to_json(), indent=1, allow_nan=False)
        temporary.write_text(text + "\n", encoding="utf-8")


@shows_progress("planning")
def explore(
    graph: CostGraph | ModelLike,
    *,
    stages: int | str | Iterable[int] | None = None,
    devices: int | str | Iterable[int] | None = None,
    front: bool = False,
    device: str | PathLike | Device | None = None,
    bandwidth: Quantity | Sequence[Quantity] | None = None,
    memory: Quantity | Sequence[Quantity] | None = None,
    memory_mode: str = "overflow",
    activations: bool = True,
    for_rate: float | None = None,
    for_latency: Quantity | None = None,
    fit: Quantity | None = None,
    ignore_colocation: bool = False,
    time_limit: float = 10.0,
    gap: float = 0.0,
    seed: int = 0,
    threads: int | None = None,
    demands: Demands = NO_DEMANDS,
    pins: Mapping[str, int] | None = None,
    together: Iterable[Collection[str]] = (),
    no_cut: Collection[str] = (),
    profile: Mapping[str, Any] | None = None,
    progress: ProgressLike = silent,
    phases: Phases | None = None,
) -> Exploration:
    """Plan for many numbers of stages and kinds of devices in one search, and say how many devices suffice.

    Parameters
    ----------
    graph : CostGraph, path-like, onnx.ModelProto or onnx_ir.Model
        COSTS.json, an MSR workload, or an ONNX model, which is profiled first.
    stages : int, str or iterable of int
        Numbers of stages: ``8``, ``"2-16"``, ``"1,2,4,8"``; by default ``range(1, 65)``.
    devices : int, str or iterable of int, optional
        Numbers of devices instead, for stages with replicas: see :func:`replicate`.
    front : bool
        Show only numbers of devices that bring a shorter period or latency than all fewer ones. One number
        stands for all up to it then.
    device : str, path-like or Device, optional
        As in :func:`onnx_pipeline.plan`.
    bandwidth, memory : float, str or sequence of these, optional
        One or more of each; every combination is explored.
    for_rate, for_latency, fit : optional
        Requests per second, seconds per request, and bytes per device to find the fewest stages for, see
        :class:`onnx_pipeline.goals.Goals`. ``fit`` is a hard limit in place of ``memory``.
    time_limit : float
        Seconds of search for each row, beyond what all rows share. Most rows need none of it.
    profile : mapping of str, optional
        Parameters of :func:`onnx_pipeline.profile` for a model: ``{"dims": {"batch": 8}}``.

    Returns
    -------
    Exploration
        Rows with genuine partitions and certificates. After Ctrl-C those found so far.

    Raises
    ------
    UsageError
        If a value is out of range, or ``fit`` is given next to ``memory``.
    InputError
        If a file cannot be used.

    Notes
    -----
    Other parameters as in :func:`onnx_pipeline.plan`.

    Examples
    --------
    >>> found = explore("costs.json", stages="1-16", for_rate=100)  # doctest: +SKIP
    >>> found.answers[0][1].stages  # doctest: +SKIP
    6
    """
    goals = Goals(for_rate, for_latency, fit)
    numbers, counted = _numbers(stages, devices, front)
    if goals.fit is not None:
        if memory is not None:
            raise UsageError("fit is a memory limit: leave out memory")
        memory, memory_mode = goals.fit, "hard"
    demands = demands.joined(pins, together, no_cut)
    search = SearchParams(time_limit, gap, seed, threads, demands.exactly, demands.bounds)
    choices = [
        TargetParams(device, each_bandwidth, each_memory, memory_mode, activations)
        for each_bandwidth, each_memory in product(_several(bandwidth), _several(memory))
    ]
    phases = Phases() if phases is None else phases
    costs = demands.apply(_costs(graph, device, ignore_colocation, profile or {}, progress, phases))
    rows: list[Row] = []
    interrupted = False
    with phases.measure("partition", progress):
        for choice in dict.fromkeys(choice.target(costs) for choice in choices):
            found, interrupted = counted(costs, numbers, choice, search, progress)
            rows += found
            if interrupted:
                break
    result = Exploration(costs, tuple(rows), goals, interrupted=interrupted, front=front)
    if not goals:
        return result
    return replace(result, answers=tuple((group[0].setup, answer(goals, group)) for group in result.groups()))


def _several(value: Quantity | Sequence[Quantity] | None) -> Sequence[Quantity | None]:
    return (
        [value] if value is None or isinstance(value, str) or not hasattr(value, "__iter__") else list(value)
    )


#: Returns the rows of one target, and whether Ctrl-C cut them short.
_Explorer = Callable[["CostGraph", Sequence[int], "Target", SearchParams, Progress], tuple[list[Row], bool]]


def _numbers(stages: Any, devices: Any, front: bool) -> tuple[Sequence[int], _Explorer]:
    """Return the numbers to plan for, and what plans."""
    if stages is None and devices is None:
        stages = range(1, 65)
    if the_one(stages=stages, devices=devices) == "stages":
        if front:
            raise UsageError("front is for devices, not for stages", Advice("give {devices}", devices=...))
        return check("stages_list", stages), _stages
    numbers = check("devices", devices)
    return (range(1, numbers[0] + 1) if front and len(numbers) == 1 else numbers), _devices


def _setup(graph: CostGraph, target: Target) -> Setup:
    import numpy as np

    from onnx_pipeline.partition.result import Certificate, Partition, PartitionResult, SearchRecord
    from onnx_pipeline.sizing import Whole

    one = Partition(graph, target, 1, np.zeros(graph.num_nodes, dtype=np.int64))
    return Setup(graph, target, Whole.of(PartitionResult(one, Certificate(), SearchRecord())))


def _devices(
    graph: CostGraph, numbers: Sequence[int], target: Target, search: SearchParams, progress: Progress
) -> tuple[list[Row], bool]:
    """Plan stages with replicas for numbers of devices."""
    from onnx_pipeline.partition.sweep import Refusal
    from onnx_pipeline.replication import replicate

    if search.exactly or search.bounds is not None:
        raise UsageError("exactly and bounds are for stages, not for devices")
    limit, gap = search.time_limit, search.gap
    found = replicate(graph, numbers, target, time_limit=limit, gap=gap, seed=search.seed, progress=progress)
    setup, rows = _setup(graph, target), list[Row]()
    for number, plan in found.plans.items():
        lacking = number in found.infeasible
        if plan is None and found.interrupted and not lacking:
            continue
        refusal = Refusal(number, "memory", lacking) if plan is None else None
        rows.append(DeviceRow(number, setup, plan, refusal))
    return rows, found.interrupted


def _stages(
    graph: CostGraph, numbers: Sequence[int], target: Target, search: SearchParams, progress: Progress
) -> tuple[list[Row], bool]:
    """Plan stages, one on each device."""
    from onnx_pipeline.partition.sweep import Refusal, sweep

    setup = _setup(graph, target)
    found = sweep(graph, numbers, target, search, progress)
    rows = [
        Row(row.stages, setup, None, row) if isinstance(row, Refusal) else Row(row.stages, setup, row)
        for row in found.rows
    ]
    return rows, found.interrupted


def _costs(
    graph: CostGraph | ModelLike,
    device: str | PathLike | Device | None,
    ignore_colocation: bool,
    options: Mapping[str, Any],
    progress: Progress,
    phases: Phases,
) -> CostGraph:
    """Return the costs that are given, read from a file, or measured of a model."""
    from onnx_pipeline import pipeline
    from onnx_pipeline.graph.costgraph import CostGraph
    from onnx_pipeline.graph.costs_json import read_graph

    if isinstance(graph, CostGraph):
        return graph
    if isinstance(graph, str | os.PathLike) and is_costs(graph):
        with phases.measure("load", progress):
            return read_graph(graph, ignore_colocation=ignore_colocation)
    chosen = {} if device is None else {"device": device}
    return pipeline.profile(graph, **{**chosen, **options}, progress=progress, phases=phases)


def is_costs(path: PathLike) -> bool:
    """Whether a file holds costs, which are JSON, and not a model.

    Raises
    ------
    InputError
        If it cannot be read.
    """
    try:
        with Path(path).open("rb") as file:
            return file.read(256).lstrip(b"\xef\xbb\xbf \t\r\n").startswith((b"{", b"["))
    except IsADirectoryError:
        return False  # who loads models knows what to say of it
    except FileNotFoundError:
        raise InputError(path, "no such file", Advice("give a model or COSTS.json")) from None
    except OSError as error:
        raise InputError(path, f"cannot be read: {(error.strerror or str(error)).lower()}") from None
