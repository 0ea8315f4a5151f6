"""Costs from a file: COSTS.json as this package writes it, CSV, or another tool's profile."""

from __future__ import annotations

import csv
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from onnx_pipeline.costmodel.imported.foreign import read_foreign
from onnx_pipeline.costmodel.request import CostModel, CostRequest, NodeCosts
from onnx_pipeline.errors import InputError
from onnx_pipeline.figures import format_count
from onnx_pipeline.graph.costs_json import read_graph
from onnx_pipeline.graph.ticks import NS

_NS_PER_US = 1000
_SHOWN = 5


def read_costs(path: str | os.PathLike[str]) -> CostModel:
    """Read a file of costs and return the cost model that looks nodes up in it.

    Parameters
    ----------
    path : path-like
        ``.csv`` with the columns ``node`` and ``work_us`` (others are ignored), COSTS.json, or the profile of
        another tool, see :mod:`~onnx_pipeline.costmodel.imported.foreign`.

    Raises
    ------
    InputError
        Here if the file is missing or malformed; later, from the cost model, if the model has other nodes
        than the file.
    """
    path = Path(path)
    foreign = read_foreign(path)
    if foreign is not None:
        return foreign
    costs = file_costs(path)

    def imported(request: CostRequest) -> NodeCosts:
        """Look every node up in the file."""
        names = [str(node.name) for node in request.nodes]
        _check_names(path, names, costs.work_ns)
        work = {name: costs.work_ns[name] for name in names}
        return replace(costs, work_ns=work, meta={**costs.meta, "file": path.name})

    return imported


def file_costs(path: Path) -> NodeCosts:
    """Return the costs in a CSV file or COSTS.json, by ONNX node.

    Raises
    ------
    InputError
        If the file is missing or malformed.
    """
    return _read_csv(path) if path.suffix.lower() == ".csv" else _read_json(path)


def _read_json(path: Path) -> NodeCosts:
    graph = read_graph(path)
    ns = NS / graph.ticks_per_second
    work: dict[str, float] = {}
    for v, members in enumerate(graph.onnx_nodes):
        for name in members:
            if name in work:
                raise InputError(path, f"two entries cost the ONNX node {name!r}")
            work[name] = int(graph.work[v]) * ns / len(members)  # a node may stand for several
    meta = dict(graph.meta)
    spread = meta.pop("node_spread", {})
    extra = [0] * graph.num_nets if graph.net_extra is None else graph.net_extra.tolist()
    return NodeCosts(
        "file",
        work,
        meta,
        spread=spread if isinstance(spread, dict) else {},
        border_ns={name: ticks * ns for name, ticks in zip(graph.net_names, extra, strict=True) if ticks},
        parameter_bytes=dict(zip(graph.group_names, graph.group_bytes.tolist(), strict=True)),
    )


def _read_csv(path: Path) -> NodeCosts:
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            return NodeCosts("file", _parse_csv(path, csv.reader(file, strict=True)))
    except UnicodeDecodeError:
        raise InputError(path, "not a text file; expected CSV with the columns node,work_us") from None
    except OSError as error:
        raise InputError(path, f"cannot be read: {(error.strerror or str(error)).lower()}") from None


def _parse_csv(path: Path, rows: Any) -> dict[str, float]:
    work: dict[str, float] = {}
    try:
        header = [title.strip() for title in next(rows, [])]
        for column in ("node", "work_us"):
            if header.count(column) != 1:
                raise InputError(path, f"line 1: expected one column {column!r} in the header node,work_us")
        for row in rows:
            if row:
                name, value = _cells(path, rows.line_num, header, row)
                if name in work:
                    raise InputError(path, f"line {rows.line_num}: node {name!r} repeats")
                work[name] = value
    except csv.Error as error:
        raise InputError(path, f"line {rows.line_num}: {error}") from None
    return work


def _cells(path: Path, line: int, header: Sequence[str], row: Sequence[str]) -> tuple[str, float]:
    if len(row) < len(header):
        raise InputError(path, f"line {line}: {format_count(len(row), 'value')} for {len(header)} columns")
    text = row[header.index("work_us")]
    try:
        microseconds = float(text)
    except ValueError:
        microseconds = math.nan
    if not 0 <= microseconds < 1e15:
        raise InputError(path, f"line {line}: work_us must be a finite number >= 0, got {text!r}")
    return row[header.index("node")], microseconds * _NS_PER_US


def _check_names(path: Path, names: Sequence[str], work: Mapping[str, float]) -> None:
    """Require exactly the model's nodes: a name that does not fit tells of another model."""
    expected = set(names)
    problems = [
        (
            f"no cost for {{}} of the model's {len(names)} nodes",
            [name for name in names if name not in work],
        ),
        ("{} that the model does not have", [name for name in work if name not in expected]),
    ]
    texts = []
    for text, found in problems:
        if found:
            more = f" and {len(found) - _SHOWN} more" if len(found) > _SHOWN else ""
            count = str(len(found)) if text.startswith("no") else format_count(len(found), "node")
            texts.append(f"{text.format(count)}: {', '.join(found[:_SHOWN])}{more}")
    if texts:
        raise InputError(path, "; ".join(texts))
