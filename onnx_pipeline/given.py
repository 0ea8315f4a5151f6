"""Partitions that users bring: an array, stages by name of the node, or a file of either."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import numpy.typing as npt

from onnx_pipeline.errors import Advice, InputError, UsageError, did_you_mean
from onnx_pipeline.graph.costgraph import CostGraph, IntArray
from onnx_pipeline.graph.objective import check_partition
from onnx_pipeline.settings import check

#: A partition in one of the forms that :meth:`GivenPartition.load` takes.
Given = Sequence[int] | npt.NDArray[Any] | Mapping[str, int] | str | os.PathLike[str]

_CANNOT_TELL = "not a partition: expected JSON (stages by node, a list, or a plan) or CSV (name,stage)"
#: Documents that list the nodes of every stage.
_PLANS = ("onnx-pipeline/plan", "onnx-pipeline/manifest")


@dataclass(frozen=True, eq=False)
class GivenPartition:
    """A partition that somebody brought, read but not yet held against a graph.

    Attributes
    ----------
    values : mapping of str to int, or sequence of int
    source : path, optional
        The file that it came from, to name in errors.
    """

    values: Any
    source: Path | None = None

    @classmethod
    def load(cls, given: Given) -> GivenPartition:
        """Take a partition in any form; of a file, read it.

        Parameters
        ----------
        given : sequence of int, ndarray, mapping of str to int, or path-like
            The stage of every node in the graph's order, or by name. A file is JSON (a mapping, a list,
            PLAN.json or a manifest) or CSV with the columns ``name,stage``; a folder is that of a split.

        Raises
        ------
        InputError
            If the file cannot be read or is something else.
        """
        if not isinstance(given, str | os.PathLike):
            return cls(given)
        path = Path(given)
        if path.is_dir():
            path /= "manifest.json"
        with _naming(path):
            return cls(_read(path), path)

    @property
    def stages(self) -> int:
        """As many stages as the partition has, as far as that can be told without a graph."""
        values = self.values.values() if isinstance(self.values, Mapping) else self.values
        known = values if isinstance(values, Iterable) else ()
        return 1 + max((value for value in known if isinstance(value, int) and value >= 0), default=0)

    def of(self, graph: CostGraph, stages: int | None = None) -> tuple[IntArray, int]:
        """Return the stage of every node and k, which by default is as many as the partition has.

        Raises
        ------
        UsageError, InputError
            If it is not a partition of this graph: a node is missing or unknown, a stage is out of range, a
            tensor flows backwards, or a pin or a group is not kept. InputError where it came from a file.
        """
        with _naming(self.source):
            named = isinstance(self.values, Mapping)
            stage_of = _by_name(self.values, graph) if named else _in_order(self.values, graph)
            stages = max(stage_of.tolist(), default=0) + 1 if stages is None else stages
            _check(graph, stage_of, stages)
        return stage_of, stages


def given(partition: Given | None) -> GivenPartition | None:
    """Return what a caller gave for ``partition``, read; None for nothing.

    Raises
    ------
    UsageError, InputError
        If it is nothing of the kind, or a file that cannot be read.
    """
    partition = check("partition", partition)
    return None if partition is None else GivenPartition.load(partition)


@contextmanager
def _naming(source: Path | None) -> Iterator[None]:
    """Let errors name the file, where there is one."""
    try:
        yield
    except UsageError as error:
        if source is None:
            raise
        raise InputError(source, error.message, error.hint) from None


def _fail(message: str, hint: str | None = None) -> NoReturn:
    raise UsageError(message, hint)


def _in_order(given: Any, graph: CostGraph) -> IntArray:
    """Read one stage per node."""
    values = given.tolist() if isinstance(given, np.ndarray) else given
    if not isinstance(values, Sequence) or isinstance(values, str):
        _fail(f"a partition is stages by node, a list of them or a file, got {type(given).__name__}")
    if len(values) != graph.num_nodes:
        _fail(f"the partition has {len(values)} entries for {graph.num_nodes} nodes")
    pairs = zip(values, graph.node_names, strict=True)
    return np.array([_stage(value, name) for value, name in pairs], dtype=np.int64)


def _by_name(given: Mapping[Any, Any], graph: CostGraph) -> IntArray:
    """Look every node up, under its own name or those of the ONNX nodes that it stands for."""
    home = {name: _stage(value, name) for name, value in given.items()}
    known: set[str] = set()
    stage_of, missing = [], []
    for name, members in zip(graph.node_names, graph.onnx_nodes, strict=True):
        named = [each for each in dict.fromkeys((name, *members)) if each in home]
        if len({home[each] for each in named}) > 1:
            apart = next(each for each in named if home[each] != home[named[0]])
            _fail(f"nodes {named[0]!r} and {apart!r} are one node of the graph: give them one stage")
        known.update(named)
        stage_of.append(home[named[0]] if named else -1)
        missing += [] if named else [name]
    for name in home:
        if name not in known:
            _fail(f"the graph has no node {name!r}", did_you_mean(str(name), missing) or "leave it out")
    if missing:
        lacking = f"{len(missing)} of {graph.num_nodes} nodes"
        _fail(f"the partition has no stage for {lacking}, {missing[0]!r} for one", "give every node a stage")
    return np.array(stage_of, dtype=np.int64)


def _stage(value: Any, name: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < 0:
        _fail(f"the stage of node {name!r} must be a whole number from 0, got {value!r}")
    return int(value)


def _check(graph: CostGraph, stage_of: IntArray, stages: int) -> None:
    last = int(stage_of.max(initial=-1))
    if last >= stages:
        name = graph.node_names[int(stage_of.argmax())]
        hint = Advice("stages count from 0; give {stages}", stages=last + 1)
        _fail(f"node {name!r} is in stage {last}, beyond {stages - 1}", hint)
    problems = check_partition(graph, stage_of, stages)
    if problems:
        more = f" (the first of {len(problems)} problems)" if len(problems) > 1 else ""
        _fail(f"not a partition: {problems[0]}{more}", "move the nodes that are named to other stages")


def _read(path: Path) -> Any:
    """Read a file: what begins like JSON is JSON, all else CSV."""
    from onnx_pipeline.files.json import read_json

    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        raise InputError(path, _CANNOT_TELL) from None
    except OSError as error:
        raise InputError(path, f"cannot be read: {(error.strerror or str(error)).lower()}") from None
    if text.lstrip()[:1] not in ("{", "["):
        return _from_csv(text)
    document = read_json(path)
    kind = document.get("format") if isinstance(document, dict) else None
    if kind in _PLANS:
        return _from_plan(document)
    if isinstance(kind, str):
        _fail(f"{_CANNOT_TELL}, this is {kind!r}")
    return document


def _from_plan(document: Mapping[str, Any]) -> dict[str, int]:
    """Return the stages of a plan or manifest."""
    try:
        return {name: stage["index"] for stage in document["stages"] for name in stage["node_names"]}
    except (KeyError, TypeError):
        _fail("its stages do not list their nodes (node_names)", "plan or split again")


def _from_csv(text: str) -> dict[str, int]:
    """Return the stages in a table with the columns ``name`` (or ``node``) and ``stage``."""
    rows = csv.reader(io.StringIO(text, newline=""), strict=True)
    home: dict[str, int] = {}
    try:
        header = [title.strip().lower() for title in next(rows, [])]
        key = "node" if "node" in header else "name"
        if header.count(key) != 1 or header.count("stage") != 1:
            _fail(f"{_CANNOT_TELL}, which begins with the line name,stage")
        for row in filter(None, rows):
            where = f"line {rows.line_num}"
            if len(row) != len(header):
                _fail(f"{where}: {len(row)} values for {len(header)} columns")
            name, stage = row[header.index(key)], row[header.index("stage")].strip()
            if not (stage.isascii() and stage.isdigit() and len(stage) < 10):
                _fail(f"{where}: the stage of node {name!r} must be a whole number from 0, got {stage!r}")
            if home.setdefault(name, int(stage)) != int(stage):
                _fail(f"{where}: node {name!r} is in two stages")
    except csv.Error as error:
        _fail(f"line {rows.line_num}: {error}")
    return home
