"""peak(S): the largest sum of live activation bytes while a stage runs.

The plain reference, written to be believed rather than to be fast. A stage's inputs are there when it
starts; a tensor is live from its production to its last use in the stage, and to the end of the stage if
another stage or the host gets it.
"""

from __future__ import annotations

from collections.abc import Sequence

from onnx_pipeline.graph import HOST, CostGraph, IntArray, topological_order


def peak_bytes(graph: CostGraph, order: Sequence[int]) -> int:
    """Return the peak of a stage whose nodes run in ``order``.

    Parameters
    ----------
    graph : CostGraph
    order : sequence of int
        The stage's nodes in execution order: producers before consumers.

    Returns
    -------
    int
        Bytes. While a node runs, its operands and its results are all live. A tensor without any reader
        counts for nothing: onnxruntime never materialises it beyond the node that makes it.

    References
    ----------
    Archer et al. 2024, section 2 defines peak(S); the paper's mixed-integer programs leave it out.
    """
    position = {int(v): step for step, v in enumerate(order)}
    steps = len(position)
    change = [0] * (steps + 1)
    for t in range(graph.num_nets):
        producer = int(graph.net_producer[t])
        readers = [int(v) for v in graph.consumers(t)]
        inside = [position[v] for v in readers if v in position]
        made_here = producer != HOST and producer in position
        if not made_here and not inside:
            continue
        leaves = made_here and (bool(graph.net_to_host[t]) or len(inside) < len(readers))
        begin = position[producer] if made_here else 0
        end = steps if leaves or not inside else max(inside) + 1
        if made_here and not readers and not leaves:
            continue
        change[begin] += int(graph.net_bytes[t])
        change[end] -= int(graph.net_bytes[t])
    live = peak = 0
    for delta in change:
        live += delta
        peak = max(peak, live)
    return peak


def stage_peaks(
    graph: CostGraph, stage_of: Sequence[int] | IntArray, stages: int, order: Sequence[int] | None = None
) -> list[int]:
    """Return peak(S) of every stage, run in ``order`` (the graph's own topological order by default)."""
    order = topological_order(graph) if order is None else order
    inside: list[list[int]] = [[] for _ in range(stages)]
    for v in order:
        inside[int(stage_of[v])].append(int(v))
    return [peak_bytes(graph, nodes) for nodes in inside]
