"""The objective, written plainly: the only definition there is.

Everything that computes a cost, a bound or a gap agrees with :func:`price_stages`.

References
----------
Archer, Fahrbach, Liu, Prabhu, *Practical Performance Guarantees for Pipelined DNN Inference*,
ICML 2024, section 2 (the MTPP problem).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from onnx_pipeline.errors import UsageError
from onnx_pipeline.figures import format_count, format_seconds
from onnx_pipeline.graph.activations import stage_peaks
from onnx_pipeline.graph.costgraph import HOST, CostGraph, IntArray
from onnx_pipeline.graph.target import Target
from onnx_pipeline.graph.ticks import MOST_TICKS, TICKS
from onnx_pipeline.parameters import PathLike, as_target

if TYPE_CHECKING:
    from onnx_pipeline.costmodel.devices import Device


@dataclass(frozen=True)
class StageCost:
    """What one stage pays, in ticks, and what it holds, in bytes and nodes.

    ``activation_bytes`` is peak(S), 0 where the target does not count it.
    """

    nodes: int
    work: int
    input: int
    output: int
    overflow: int
    overhead: int
    parameter_bytes: int
    activation_bytes: int = 0

    def __repr__(self) -> str:
        """Return the figures that matter, in one line."""
        from onnx_pipeline.brief import of_stage

        return of_stage(self)

    @property
    def total(self) -> int:
        """cost(S) in ticks."""
        return self.work + self.input + self.output + self.overflow + self.overhead


def stage_costs(
    graph: CostGraph,
    target: Target | Device | PathLike,
    stage_of: Sequence[int] | IntArray,
    stages: int,
    *,
    up: bool = False,
) -> list[StageCost]:
    """Evaluate the objective of Archer et al. 2024, section 2.

    Parameters
    ----------
    graph : CostGraph
    target : Target, Device, str or path-like
        Devices and links, a device also by name or as a TOML file.
    stage_of : sequence of int, length n
        Stage of every node, in ``range(stages)``.
    stages : int
        Number of stages k.
    up : bool
        Round what the target charges up, for figures that people rely on, instead of down, as every search
        and bound does.

    Returns
    -------
    list of StageCost, length k
        Empty stages cost nothing.

    Raises
    ------
    UsageError
        If a stage is missing or out of range, or a tensor flows backwards.
    """
    wrong = _impossible(graph, stage_of, stages)
    if wrong:
        raise UsageError(f"not a partition: {wrong[0]}")
    return price_stages(graph, as_target(target, graph), stage_of, stages, up=up)


def price_stages(
    graph: CostGraph, target: Target, stage_of: Sequence[int] | IntArray, stages: int, *, up: bool = False
) -> list[StageCost]:
    """Evaluate the objective in the plainest way, as :func:`stage_costs` does, whether or not stages can run.

    The cost of one set of nodes is that of stage 1 with everything else in stage 0.
    """
    # Plain integers: elements of arrays would take most of the time.
    transfer, stage_of = graph.net_ticks(target, up=up).tolist(), np.asarray(stage_of).tolist()
    tick = graph.ticks_per_second
    nodes, work, incoming, outgoing = [0] * stages, [0] * stages, [0] * stages, [0] * stages
    for s, cost in zip(stage_of, graph.work.tolist(), strict=True):
        nodes[s] += 1
        work[s] += cost
    to_host = graph.net_to_host.tolist()
    for t, producer in enumerate(graph.net_producer.tolist()):
        home = HOST if producer == HOST else stage_of[producer]
        others = {stage_of[v] for v in graph.readers[t]} - {home}
        if producer != HOST or target.host_io:
            for s in others:
                incoming[s] += transfer[t]
        if producer != HOST and (others or (target.host_io and to_host[t])):
            outgoing[home] += transfer[t]
    parameters = [0] * stages
    for users, size in zip(graph.users, graph.group_bytes.tolist(), strict=True):
        for s in {stage_of[v] for v in users}:
            parameters[s] += size
    overhead = target.overhead_ticks(tick, up=up)
    peaks = [0] * stages
    if target.counts_activations:
        peaks = stage_peaks(graph, stage_of, stages, [target.memory - held for held in parameters])
    return [
        StageCost(
            nodes=nodes[s],
            work=work[s],
            input=incoming[s],
            output=outgoing[s],
            overflow=target.overflow_ticks(parameters[s] + peaks[s], tick, up=up),
            overhead=overhead if nodes[s] else 0,
            parameter_bytes=parameters[s],
            activation_bytes=peaks[s],
        )
        for s in range(stages)
    ]


def countable(graph: CostGraph, target: Target, stages: int) -> CostGraph:
    """Return the graph with ticks so long that everything a partition pays can be counted.

    Raises
    ------
    UsageError
        If a link is so slow that ticks of a second are too short.
    """
    tick = graph.ticks_per_second
    transfer = graph.net_bytes / target.bandwidth + target.transfer_latency
    if graph.net_time is not None:
        transfer = graph.net_time / tick
    if graph.net_extra is not None:
        transfer = transfer + graph.net_extra / tick
    seconds = (
        float((transfer * (2 + np.diff(graph.net_ptr))).sum())
        + float(graph.work.sum(dtype=np.float64)) / tick
    )
    seconds += graph.num_nodes * target.stage_overhead
    if target.memory_mode == "overflow" and memory_binds(graph, target):
        held = int(graph.group_bytes.sum()) + int(graph.net_bytes.sum())
        seconds += stages * held / target.bandwidth
    most = 4 * MOST_TICKS // max(stages, 4)
    fitting = [ticks for ticks in TICKS if ticks <= tick and seconds * ticks < most]
    if not fitting:
        raise UsageError(
            f"a partition could pay {format_seconds(seconds)}, more than can be counted: "
            "is the link really so slow?"
        )
    return graph.counted(fitting[-1])


def memory_binds(graph: CostGraph, target: Target) -> bool:
    """Whether some stage may not fit: the whole model with all its tensors at once exceeds the memory."""
    tensors = int(graph.net_bytes.sum()) if target.activations else 0
    return int(graph.group_bytes.sum()) + tensors > target.memory


def useful_stages(graph: CostGraph, stages: int) -> int:
    """Return how many stages can matter: no more than nodes can fill, unless pins name stages."""
    return stages if (graph.pinned >= 0).any() else min(stages, max(1, graph.num_nodes))


def bottleneck(graph: CostGraph, target: Target, stage_of: Sequence[int] | IntArray, stages: int) -> int:
    """Return the largest stage cost in ticks."""
    return max(cost.total for cost in price_stages(graph, target, stage_of, stages))


def check_partition(graph: CostGraph, stage_of: Sequence[int] | IntArray, stages: int) -> list[str]:
    """Return all problems of a partition; an empty list means that it is valid."""
    wrong = _impossible(graph, stage_of, stages)
    if len(stage_of) != graph.num_nodes:
        return wrong
    home: dict[int, int] = {}
    colours, pins = graph.colocation.tolist(), graph.pinned.tolist()
    for v, stage in enumerate(np.asarray(stage_of).tolist()):
        if colours[v] >= 0 and home.setdefault(colours[v], stage) != stage:
            other = graph.node_names[colours.index(colours[v])]
            wrong.append(
                f"node {graph.node_names[v]!r} in stage {stage} is apart from node {other!r} "
                f"in stage {home[colours[v]]}, with which it must be"
            )
        if pins[v] >= 0 and pins[v] != stage:
            wrong.append(f"node {graph.node_names[v]!r} is not in stage {pins[v]}, to which it is pinned")
    return wrong


def _impossible(graph: CostGraph, stage_of: Sequence[int] | IntArray, stages: int) -> list[str]:
    """Return what keeps stages from running one after the other, whatever users demand."""
    if len(stage_of) != graph.num_nodes:
        return [f"{format_count(len(stage_of), 'stage')} given for {format_count(graph.num_nodes, 'node')}"]
    stage_of, names = np.asarray(stage_of).tolist(), graph.node_names
    wrong = [
        f"node {graph.node_names[v]!r} is in stage {stage}, outside 0..{stages - 1}"
        for v, stage in enumerate(stage_of)
        if not 0 <= stage < stages
    ]
    for t, u in enumerate(graph.net_producer.tolist()):
        if u == HOST:
            continue
        flows = f"tensor {graph.net_names[t]!r} flows back from node {names[u]!r} in stage {stage_of[u]}"
        wrong += [
            f"{flows} to node {names[v]!r} in stage {stage_of[v]}"
            for v in graph.readers[t]
            if stage_of[u] > stage_of[v]
        ]
    return wrong
