"""Why a fleet cannot run a graph: what is refused before a search, and what to say after one."""

from __future__ import annotations

import numpy as np

from onnx_pipeline.errors import Advice, InfeasibleError, UsageError
from onnx_pipeline.figures import format_bytes, format_count, rounded_bytes
from onnx_pipeline.graph.costgraph import BoolArray, CostGraph, IntArray
from onnx_pipeline.graph.fleet import FleetTarget, graph_on
from onnx_pipeline.graph.target import INFEASIBLE
from onnx_pipeline.partition.fleets.instance import FleetInstance
from onnx_pipeline.partition.fleets.known import FleetKnown


def check_pins(graph: CostGraph, fleet: FleetTarget) -> None:
    """Refuse pins that name no device, or one that cannot run the node, or where devices have no order.

    Raises
    ------
    UsageError, InfeasibleError
    """
    last = int(graph.pinned.max(initial=-1))
    if last < 0:
        return
    name = graph.node_names[int(graph.pinned.argmax())]
    if fleet.free or fleet.shared:
        how = "stages may take devices in any order" if fleet.free else "devices may hold several stages"
        raise UsageError(f"node {name!r} is pinned to device {last}, but {how}", "leave such pins out")
    devices = len(fleet.devices)
    if last >= devices:
        there_are = f"devices are 0 to {devices - 1}" if devices > 1 else "there is only device 0"
        raise UsageError(f"node {name!r} is pinned to device {last}: {there_are}")
    for v in np.flatnonzero(graph.pinned >= 0).tolist():
        kind = fleet.kind_of(int(graph.pinned[v]))
        if graph_on(graph, kind).work[v] >= INFEASIBLE:
            name, device = graph.node_names[v], graph.pinned[v]
            raise InfeasibleError(
                f"node {name!r} is pinned to device {device} ({kind.name}), which cannot run it"
            )


def check_support(graph: CostGraph, fleet: FleetTarget) -> None:
    """Refuse nodes that no device of the fleet runs.

    Raises
    ------
    InfeasibleError
    """
    kinds = [kind for number, kind in enumerate(fleet.kinds) if number in fleet.devices]
    lacking = np.all([graph_on(graph, kind).work >= INFEASIBLE for kind in kinds], axis=0)
    nodes = np.flatnonzero(lacking)
    if len(nodes):
        names = " or ".join(kind.name for kind in kinds)
        more = f" and {format_count(len(nodes) - 1, 'other node')}" if len(nodes) > 1 else ""
        raise InfeasibleError(
            f"node {graph.node_names[int(nodes[0])]!r}{more} cannot run on {names}, the devices of the fleet",
            "add a device that can run what the others cannot",
        )


def check_between(graph: CostGraph, fleet: FleetTarget, inst: FleetInstance) -> None:
    """Refuse groups of nodes that have to be on one device, where no device runs all of them.

    Raises
    ------
    InfeasibleError
    """
    lacking = np.flatnonzero(inst.least_work >= INFEASIBLE)
    if not len(lacking):
        return
    members = np.flatnonzero(inst.kinds[0].node_of == lacking[0])
    runs = {kind: graph_on(graph, fleet.kinds[kind]).work[members] < INFEASIBLE for kind in inst.used}
    sole = next(
        (kind for kind, each in runs.items() if fleet.counts[kind] == 1 and _only(runs, kind).any()), None
    )
    names = [graph.node_names[v] for v in members.tolist()]
    if sole is None or fleet.shared:
        raise InfeasibleError(
            f"node {names[0]!r} and {format_count(len(names) - 1, 'other node')} have to share a device, "
            "but no device runs all of them"
        )
    first, outside = names[int(_only(runs, sole).argmax())], names[int((~runs[sole]).argmax())]
    name = fleet.kinds[sole].name
    raise InfeasibleError(
        f"only the one {name} runs node {first!r} and others, but it cannot run {outside!r} between them",
        Advice("let devices hold several stages: {stages_per_device}", stages_per_device="any"),
    )


def _only(runs: dict[int, BoolArray], kind: int) -> BoolArray:
    """Whether each node runs on a kind and on no other."""
    return np.asarray(runs[kind] & (np.sum(list(runs.values()), axis=0) == 1))


def infeasible(known: FleetKnown) -> InfeasibleError:
    """Say why no placement is known."""
    graph, fleet = known.graph, known.fleet
    devices = format_count(len(fleet.devices), "device")
    hard = all(fleet.kinds[kind].target.memory_mode == "hard" for kind in fleet.devices)
    rooms = [fleet.kinds[kind].target.memory for kind in fleet.devices]
    held = int(graph.group_bytes[np.diff(graph.group_ptr) > 0].sum())
    hint = 'add devices, or memory, or let some stream: memory_mode = "overflow"'
    largest = _largest(graph)
    if hard and largest[1] > max(rooms):
        name, needs = graph.node_names[largest[0]], format_bytes(rounded_bytes(largest[1], up=True))
        most = format_bytes(max(rooms))
        return InfeasibleError(f"node {name!r} needs {needs}, more than any device has: {most}", hint)
    if hard and held > sum(rooms):
        lacking = format_bytes(rounded_bytes(int(held - sum(rooms)), up=True))
        return InfeasibleError(
            f"{format_bytes(held)} of parameters do not fit in {format_bytes(sum(rooms))}, which {devices} "
            f"have in all: {lacking} are lacking",
            hint,
        )
    found = "" if known.lower >= INFEASIBLE else " was found that"
    limited = any(fleet.kinds[kind].target.memory_mode == "hard" for kind in fleet.devices)
    memory = f" ({format_bytes(held)} of parameters, {format_bytes(sum(rooms))} of memory in all)"
    return InfeasibleError(
        f"no placement on {devices}{found} runs{memory if limited else ''}",
        hint if limited else "allow any order, or several stages on a device",
    )


def _largest(graph: CostGraph) -> tuple[int, int]:
    """Return the node that reads most parameters, and their bytes."""
    size: IntArray = np.zeros(graph.num_nodes, dtype=np.int64)
    np.add.at(size, graph.group_nodes, np.repeat(graph.group_bytes, np.diff(graph.group_ptr)))
    v = int(size.argmax())
    return v, int(size[v])
