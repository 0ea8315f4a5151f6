"""peak(S): the largest sum of live activation bytes while a stage runs, and the order it runs in.

The plain reference, written to be believed rather than to be fast. A stage's inputs are there when it
starts; a tensor is live from its production to its last use in the stage, and to the end of the stage if
another stage or the host gets it. A tensor without any reader counts for nothing: onnxruntime never
materialises it beyond the node that makes it.

References
----------
Archer et al. 2024, section 2 defines peak(S); the paper's mixed-integer programs leave it out.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Sequence
from typing import NamedTuple

from onnx_pipeline.graph.costgraph import HOST, CostGraph, IntArray

#: Nodes of a stage up to which every order is looked at before a limit is said to be broken.
SMALL = 12


class Schedule(NamedTuple):
    """A stage's nodes in execution order, and the bytes live at its worst moment."""

    order: tuple[int, ...]
    peak: int


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
        Bytes. While a node runs, its operands and its results are all live.
    """
    position = {int(v): step for step, v in enumerate(order)}
    steps = len(position)
    change = [0] * (steps + 1)
    for t in {t for v in position for t in graph.node_nets[v]}:
        producer = int(graph.net_producer[t])
        readers = graph.readers[t]
        inside = [position[v] for v in readers if v in position]
        made_here = producer != HOST and producer in position
        leaves = made_here and (bool(graph.net_to_host[t]) or len(inside) < len(readers))
        if made_here and not readers and not leaves:
            continue
        begin = position[producer] if made_here else 0
        end = steps if leaves or not inside else max(inside) + 1
        change[begin] += int(graph.net_bytes[t])
        change[end] -= int(graph.net_bytes[t])
    live = peak = 0
    for delta in change:
        live += delta
        peak = max(peak, live)
    return peak


def schedule(graph: CostGraph, nodes: Sequence[int], room: float = math.inf) -> Schedule:
    """Choose the order in which a stage runs its nodes.

    Parameters
    ----------
    graph : CostGraph
    nodes : sequence of int
        The stage's nodes in the graph's own order.
    room : float
        Bytes that activations may take.

    Returns
    -------
    Schedule
        The graph's own order if its peak fits, else the better of it and :func:`frugal_order`; where neither
        fits and the stage is small, an order that fits if there is one.
    """
    own = Schedule(tuple(nodes), peak_bytes(graph, nodes))
    if own.peak <= room:
        return own
    order = frugal_order(graph, nodes)
    best = min(own, Schedule(order, peak_bytes(graph, order)), key=lambda found: found.peak)
    fitting = fitting_order(graph, nodes, room) if best.peak > room and len(nodes) <= SMALL else None
    return best if fitting is None else Schedule(fitting, peak_bytes(graph, fitting))


def fitting_order(graph: CostGraph, nodes: Sequence[int], room: float) -> tuple[int, ...] | None:
    """Return an order of a small stage whose peak fits, or None if there is none; looks at all sets of nodes.

    What is live depends on the set of nodes that have run, not on their order.
    """
    index = {int(v): i for i, v in enumerate(nodes)}
    everything = (1 << len(index)) - 1
    before, makes = [0] * len(index), [0] * len(index)
    held: list[tuple[int, int, int]] = []  # bytes, producer inside, readers that end it (0: stays)
    for t in {t for v in index for t in graph.node_nets[v]}:
        producer, size = index.get(int(graph.net_producer[t])), int(graph.net_bytes[t])
        readers = graph.readers[t]
        inside = sum(1 << index[v] for v in readers if v in index)
        leaves = producer is not None and (bool(graph.net_to_host[t]) or inside.bit_count() < len(readers))
        if producer is not None and (readers or leaves):
            makes[producer] += size
            for v in readers:
                if v in index:
                    before[index[v]] |= 1 << producer
        if producer is None or readers or leaves:
            held.append((size, 0 if producer is None else 1 << producer, 0 if leaves else inside))

    def live(done: int) -> int:
        return sum(size for size, made, ends in held if done & made == made and (not ends or ends & ~done))

    came: dict[int, tuple[int, int]] = {0: (0, -1)}
    waiting = [0]
    while waiting:
        done = waiting.pop()
        now = live(done)
        for i in range(len(index)):
            after = done | 1 << i
            if after != done and not before[i] & ~done and now + makes[i] <= room and after not in came:
                came[after] = (done, i)
                waiting.append(after)
    if everything not in came:
        return None
    order: list[int] = []
    while everything:
        everything, i = came[everything]
        order.append(int(nodes[i]))
    return tuple(order[::-1])


def frugal_order(graph: CostGraph, nodes: Sequence[int]) -> tuple[int, ...]:
    """List-schedule a stage: of the nodes that can run, the one that leaves the fewest bytes behind.

    Ties go to the node that comes first in ``nodes``.
    """
    position = {int(v): step for step, v in enumerate(nodes)}
    waiting = dict.fromkeys(position, 0)
    unread: dict[int, set[int]] = {}  # readers inside that have not run, of each tensor that will be freed
    growth = dict.fromkeys(position, 0)  # live bytes after the node minus before
    outs: dict[int, list[int]] = {v: [] for v in position}
    for t in sorted({t for v in position for t in graph.node_nets[v]}):
        producer = int(graph.net_producer[t])
        readers = graph.readers[t]
        inside = {v for v in readers if v in position}
        made_here = producer in position
        leaves = made_here and (bool(graph.net_to_host[t]) or len(inside) < len(readers))
        if made_here:
            growth[producer] += int(graph.net_bytes[t]) if readers or leaves else 0
            outs[producer] += inside
            for v in inside:
                waiting[v] += 1
        if not leaves:
            unread[t] = inside
            if len(inside) == 1:
                growth[min(inside)] -= int(graph.net_bytes[t])
    ready = [(growth[v], position[v], v) for v in position if not waiting[v]]
    heapq.heapify(ready)
    done: set[int] = set()
    order: list[int] = []
    while ready:
        key, _, v = heapq.heappop(ready)
        if v in done or key != growth[v]:
            continue  # an entry from before its growth changed
        done.add(v)
        order.append(v)
        for t in graph.node_nets[v]:
            left = unread.get(t)
            if left is None or v not in left:
                continue
            left.remove(v)
            if len(left) == 1:  # its last reader frees it
                (last,) = left
                growth[last] -= int(graph.net_bytes[t])
                if not waiting[last]:
                    heapq.heappush(ready, (growth[last], position[last], last))
        for w in outs[v]:
            waiting[w] -= 1
            if not waiting[w]:
                heapq.heappush(ready, (growth[w], position[w], w))
    return tuple(order)


def stage_schedules(
    graph: CostGraph, stage_of: Sequence[int] | IntArray, stages: int, rooms: Sequence[float] | None = None
) -> list[Schedule]:
    """Return the order and peak(S) of every stage.

    Parameters
    ----------
    graph : CostGraph
    stage_of : sequence of int, length n
    stages : int
    rooms : sequence of float, length k, optional
        Bytes that the activations of each stage may take; beyond them another order is tried.
    """
    inside: list[list[int]] = [[] for _ in range(stages)]
    for v in graph.order:
        inside[int(stage_of[v])].append(v)
    rooms = [math.inf] * stages if rooms is None else rooms
    return [schedule(graph, nodes, room) for nodes, room in zip(inside, rooms, strict=True)]


def stage_peaks(
    graph: CostGraph, stage_of: Sequence[int] | IntArray, stages: int, rooms: Sequence[float] | None = None
) -> list[int]:
    """Return peak(S) of every stage in bytes; parameters as for :func:`stage_schedules`."""
    return [found.peak for found in stage_schedules(graph, stage_of, stages, rooms)]
