"""What the nodes of a cost graph take on every kind of device of a fleet.

Without a model, the work of a kind is, in this order: what its file of costs says, the graph's work divided
by its speed, what the graph has for a kind of this name, the graph's own work. What a kind cannot run is
marked last.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt

from onnx_pipeline.costmodel.devices import measured_elsewhere
from onnx_pipeline.errors import Advice, InfeasibleError, InputError, UsageError
from onnx_pipeline.figures import format_count
from onnx_pipeline.graph.costgraph import CostGraph
from onnx_pipeline.graph.patterns import matching
from onnx_pipeline.graph.target import INFEASIBLE
from onnx_pipeline.graph.ticks import NS, choose_ticks, whole
from onnx_pipeline.progress import Progress, silent

if TYPE_CHECKING:
    from onnx_pipeline.costmodel.fleets import DeviceKind, Fleet

FloatArray = npt.NDArray[np.float64]


class KindCosts(NamedTuple):
    """What a kind takes, as found out from the model.

    Attributes
    ----------
    work_ns : mapping of str to float
        Nanoseconds by ONNX node.
    origin : str
        Where they come from, in words.
    unsupported : tuple of str
        ONNX nodes that the kind cannot run.
    """

    work_ns: Mapping[str, float]
    origin: str
    unsupported: tuple[str, ...] = ()


def price_kinds(
    graph: CostGraph,
    fleet: Fleet,
    found: Mapping[str, KindCosts] | None = None,
    progress: Progress = silent,
) -> CostGraph:
    """Return a cost graph with the work of its nodes for every kind; ``meta["kinds"]`` says where it is from.

    Parameters
    ----------
    graph : CostGraph
    fleet : Fleet
    found : mapping of str to KindCosts, optional
        What is known from the model, by kind; all others follow from the graph.
    progress : Progress
        Is told where times are only guessed.

    Raises
    ------
    UsageError
        If a kind's costs need the model.
    InputError
        If a file of costs is wrong, or is one of another model.
    InfeasibleError
        If no kind can run some node.
    """
    works: dict[str, FloatArray] = {}
    origins: dict[str, str] = {}
    for kind in fleet.kinds:
        costs = (found or {}).get(kind.name)
        if costs is None:
            works[kind.name], origins[kind.name] = _from_graph(graph, kind, fleet, progress)
        else:
            works[kind.name], origins[kind.name] = _by_node(graph, costs.work_ns, None), costs.origin
        lacking = {*_unsupported(graph, kind, progress), *(() if costs is None else costs.unsupported)}
        members = enumerate(graph.onnx_nodes)
        marked = [v for v, names in members if not lacking.isdisjoint((graph.node_names[v], *names))]
        works[kind.name][marked] = math.inf
        already = int(np.isinf(works[kind.name]).sum())
        if already:
            origins[kind.name] += f"; cannot run {format_count(already, 'node')}"
    _check_runnable(graph, works)
    return _with_work(graph, works, origins)


def stored_costs(path: Path, kind: str) -> KindCosts | None:
    """Return what a COSTS.json has of a kind, by ONNX node; None if it has nothing, or is another file.

    Raises
    ------
    InputError
        If the file is malformed.
    """
    from onnx_pipeline.graph.costs_json import read_graph

    if path.suffix.lower() != ".json" or not path.is_file():
        return None
    graph = read_graph(path)
    work = (graph.work_on or {}).get(kind)
    if work is None:
        return None
    ns = NS / graph.ticks_per_second
    by_node: dict[str, float] = {}
    lacking: list[str] = []
    for names, ticks in zip(graph.onnx_nodes, work.tolist(), strict=True):
        if ticks >= INFEASIBLE:
            lacking += names
        by_node |= {name: (0 if ticks >= INFEASIBLE else ticks * ns / len(names)) for name in names}
    return KindCosts(by_node, _origin(graph.meta, kind), tuple(lacking))


def _origin(meta: Mapping[str, Any], kind: str) -> str:
    """Return where a graph says that a kind's work is from."""
    own = meta.get("kinds")
    origin = own.get(kind) if isinstance(own, Mapping) else None
    return str(origin).partition("; cannot run")[0] if origin else "from the graph's file"


def _from_graph(
    graph: CostGraph, kind: DeviceKind, fleet: Fleet, progress: Progress
) -> tuple[FloatArray, str]:
    """Return the work of a kind in ticks of the graph, and where it comes from."""
    plain = graph.work.astype(np.float64)
    known = (graph.work_on or {}).get(kind.name)
    if kind.costs not in (None, "profile", "analytic"):
        from onnx_pipeline.costmodel.imported.files import file_costs

        path = Path(str(kind.costs))
        return _by_node(graph, file_costs(path).work_ns, path), f"from {path.name}"
    if kind.speed is not None:
        return plain / kind.speed, f"the graph's, {kind.speed:g} times as fast"
    if known is not None:
        work = np.where(known >= INFEASIBLE, math.inf, known.astype(np.float64))
        return work, _origin(graph.meta, kind.name)
    if kind.costs is not None:
        raise UsageError(
            f"costs = {kind.costs!r} of {kind.name!r} needs the model",
            Advice("split it, or profile it with this {fleet} first", fleet=...),
        )
    reason = _elsewhere(graph.meta, kind, fleet)
    if reason is not None:
        progress("note", None, f"{kind.name}: {reason}; its own times need speed or costs in the fleet file")
    return plain, "the graph's"


def _elsewhere(meta: Mapping[str, Any], kind: DeviceKind, fleet: Fleet) -> str | None:
    """Say why the work of a graph is not that of a kind, where it tells so."""
    found = measured_elsewhere(meta, kind.figures)
    if found is not None:
        return found
    if meta.get("cost_model") == "profile":
        for key, asked in (("provider", kind.provider), ("threads", kind.threads)):
            made = meta.get(key)
            if asked is not None and made is not None and asked != made:
                return f"the work of nodes was timed with {key} = {made}, not {asked}"
    elif "cost_model" not in meta and kind.figures.name != fleet.kinds[0].figures.name:
        return "the work of nodes is the graph's"
    return None


def _by_node(graph: CostGraph, work_ns: Mapping[str, float], path: Path | None) -> FloatArray:
    """Return ticks of the graph from nanoseconds by ONNX node, or by node of the graph."""
    missing = [
        name
        for name, members in zip(graph.node_names, graph.onnx_nodes, strict=True)
        if name not in work_ns and not all(member in work_ns for member in members)
    ]
    if missing:
        count = f"{len(missing)} of {format_count(graph.num_nodes, 'node')}"
        raise InputError(path, f"no cost for {count}, {missing[0]!r} for one: is it of another model?")
    scale = graph.ticks_per_second / NS
    times = [
        sum(work_ns[member] for member in members)
        if members and all(member in work_ns for member in members)
        else work_ns[name]
        for name, members in zip(graph.node_names, graph.onnx_nodes, strict=True)
    ]
    return np.array(times, dtype=np.float64) * scale


def _unsupported(graph: CostGraph, kind: DeviceKind, progress: Progress) -> Iterable[str]:
    """Yield the nodes that a fleet file calls unsupported: by operator, name or pattern."""
    nodes = dict.fromkeys(graph.node_names)
    operators = graph.operators or ()
    for each in kind.unsupported:
        if each in operators:
            yield from (n for n, op in zip(graph.node_names, operators, strict=True) if op == each)
            continue
        try:
            yield from matching(each, nodes, "node")
        except UsageError:
            progress("note", None, f"{kind.name}: nothing in this graph is {each!r}, which it cannot run")


def _check_runnable(graph: CostGraph, works: Mapping[str, FloatArray]) -> None:
    nowhere = np.flatnonzero(np.all([np.isinf(work) for work in works.values()], axis=0))
    if len(nowhere):
        name = graph.node_names[int(nowhere[0])]
        kind = f" ({graph.operators[int(nowhere[0])]})" if graph.operators else ""
        more = f" and {format_count(len(nowhere) - 1, 'other')}" if len(nowhere) > 1 else ""
        raise InfeasibleError(
            f"no device of the fleet can run node {name!r}{kind}{more}",
            "add a device that can, such as cpu, or correct what is unsupported",
        )


def _with_work(graph: CostGraph, works: Mapping[str, FloatArray], origins: Mapping[str, str]) -> CostGraph:
    """Return the graph with the work of every kind, in ticks so long that the slowest can be counted."""
    longest = max(float(work[np.isfinite(work)].sum()) for work in works.values())
    ticks = min(graph.ticks_per_second, choose_ticks(longest / graph.ticks_per_second))
    longer = graph.ticks_per_second // ticks
    graph = replace(graph, work_on=None).counted(ticks)
    counted = {
        kind: np.where(np.isinf(work), INFEASIBLE, whole(np.where(np.isinf(work), 0.0, work) / longer))
        for kind, work in works.items()
    }
    return replace(graph, work_on=counted, meta={**graph.meta, "kinds": dict(origins)})
