"""What was demanded of a graph's partition: documents say which problem their certificate is about."""

from __future__ import annotations

from typing import Any

from onnx_pipeline.graph.costgraph import CostGraph


def groups(graph: CostGraph) -> list[list[str]]:
    """Return the names of the nodes that must share a stage, group by group."""
    members: dict[int, list[str]] = {}
    for name, colour in zip(graph.node_names, graph.colocation.tolist(), strict=True):
        if colour >= 0:
            members.setdefault(colour, []).append(name)
    return sorted(sorted(names) for names in members.values() if len(names) > 1)


def constraints(
    graph: CostGraph, natural: CostGraph | None = None, *, exactly: bool = False
) -> dict[str, Any] | None:
    """Return what was demanded beyond the graph as it was derived; None if nothing was.

    Parameters
    ----------
    graph : CostGraph
    natural : CostGraph, optional
        The same graph without demands; by default nothing counts as natural.
    exactly : bool
        Whether no stage was to stay empty.

    Returns
    -------
    dict or None
        ``pins`` (stage by node), ``together`` (groups of nodes) and, where demanded, ``exactly``.
    """
    own = [] if natural is None else groups(natural)
    together = [group for group in groups(graph) if group not in own]
    pins = {
        name: stage for name, stage in zip(graph.node_names, graph.pinned.tolist(), strict=True) if stage >= 0
    }
    if not (pins or together or exactly):
        return None
    return {"pins": pins, "together": together, **({"exactly": True} if exactly else {})}


def lost_groups(graph: CostGraph, natural: CostGraph) -> list[list[str]]:
    """Return the groups of the graph as it was derived that its constraints no longer keep together."""
    kept = [set(group) for group in groups(graph)]
    return [group for group in groups(natural) if not any(kept_by.issuperset(group) for kept_by in kept)]
