"""One stage per device: bounds, good orders cut for the devices, exact questions and annealing in turns."""

from __future__ import annotations

from onnx_pipeline.graph.target import INFEASIBLE
from onnx_pipeline.parameters import SearchParams
from onnx_pipeline.partition.fleets.annealing import FleetAnnealer
from onnx_pipeline.partition.fleets.cutting import Cutter
from onnx_pipeline.partition.fleets.fluid import fluid_bound
from onnx_pipeline.partition.fleets.instance import FleetInstance
from onnx_pipeline.partition.fleets.known import FleetKnown
from onnx_pipeline.partition.fleets.ladder import FleetLadder
from onnx_pipeline.partition.fleets.mincut import mincut_fleet
from onnx_pipeline.partition.fleets.task import FleetTask
from onnx_pipeline.partition.proving import EXACT_LIMIT
from onnx_pipeline.partition.searching import TABLE_LIMIT
from onnx_pipeline.stop import AnyOf, Asked, Stop

#: Effort beyond which no question gets.
MOST_DECISIONS = 1 << 40
#: Minimum cuts around nodes, at most.
MOST_CUTS = 100
#: Looks at the clock of the first turn of annealing, about a hundred a second.
FIRST_TURN = 20.0


def search(known: FleetKnown, inst: FleetInstance, params: SearchParams, stop: Stop) -> None:
    """Improve placement and bound until it is time to stop."""
    task = FleetTask(inst, known)
    fluid = fluid_bound(inst)
    known.bound(fluid.ticks, "fluid", {"weights": list(fluid.weights), "memory": list(fluid.memory)})
    cutter = Cutter(task, params.seed)
    cutter.start(stop)
    ladder = FleetLadder(known, inst, stop) if inst.n <= EXACT_LIMIT else None
    if ladder is not None:
        ladder.start()
    if not stop():
        pause = AnyOf(stop, Asked(MOST_CUTS))
        known.bound(mincut_fleet(inst, pause, known.upper), "min-cut")
    entries = (inst.n + max(each.m for each in inst.kinds)) * len(inst.fleet.devices)
    annealer = FleetAnnealer(task, cutter, params.seed) if entries <= TABLE_LIMIT else None
    length = FIRST_TURN
    while not stop():
        if annealer is not None and known.upper < INFEASIBLE:
            annealer.turn(AnyOf(stop, Asked(length)))
        elif ladder is None or ladder.cap > MOST_DECISIONS:
            break
        if ladder is not None and ladder.cap <= MOST_DECISIONS and not stop():
            ladder.round()
        length *= 1.5
