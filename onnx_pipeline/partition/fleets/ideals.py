"""Exact questions about fleets: is there a placement, one stage per device, with every load <= limit?

A state is an ideal (downset) I and a configuration, which says what devices are used up
(:mod:`.lines`): stages of the nodes in I are on those. From the states of one configuration, each device that
the line offers next takes every set S for which J = I + S is an ideal and that it can pay for; empty devices
are skipped. Of the states of one ideal those count that have used up least: whatever follows the others can
follow them. Let k be the kind of the device, L = limit - alpha_k, D the descendants of excluded nodes, y the
weights of what is left after it (:mod:`.rest`), n its counts, and R = sum of n y (limit - alpha).

* **P1** work_k(S) + what S pays on k whatever is still included + overflow > L: no extension fits.
* **P2, P3** keep J only if the weighed work outside J, tensors that some later stage pays and overflow are at
  most R, and extend S only if the weighed work of D and the tensors between J and D are. *Proof.* A later
  stage on kind l pays, on each side of a tensor and for each node, y_l times what it costs on l, at least the
  minimum over the kinds that are left; all of them together pay at most R, as an empty device pays nothing.
* **Bound nodes** that no kind left can run, that are pinned to a device passed, and all that these need, must
  be in S: they come first and are never excluded.
* **Saturation** drop J if an available unpinned x outside J joins S on k within the limit, and no later stage
  pays more without x, on any kind left that can run x: sum of c over nets of x without member in J, two
  members or more, not of the host <= work(x) + sum of c over nets of x whose other members are all in J.
  *Proof.* Let a completion of J have x on a device of kind l, which then runs x. Move x into S. S keeps the
  limit; the device loses work(x) and the nets that only x brought, and pays anew at most nets that were all
  its own: the left side, as it paid those with members in J before. Nobody else sees a difference. So every
  completion of J is one of J + x with the same devices, which is enumerated from the same I.

With one kind this is the search of :mod:`onnx_pipeline.partition.ideals.expand`; "none" holds for the true
objective too where activations count for less than their peak, and what is found has to be evaluated.
"""

from __future__ import annotations

from dataclasses import replace
from heapq import heappop, heappush
from typing import NamedTuple

import numpy as np

from onnx_pipeline.graph.costgraph import IntArray
from onnx_pipeline.partition.fleets.demand import demand
from onnx_pipeline.partition.fleets.hypergraphs import fleet_hypergraphs
from onnx_pipeline.partition.fleets.instance import FleetInstance
from onnx_pipeline.partition.fleets.lines import Line, Option
from onnx_pipeline.partition.fleets.rest import Rest, rest_of
from onnx_pipeline.partition.fleets.walk import AT, BUDGET_LEFT, IDEALS, STATES, States, Step, walk
from onnx_pipeline.partition.ideals.expand import BUDGET, DONE, FOUND, GROW
from onnx_pipeline.partition.ideals.question import MEMORY_BUDGET
from onnx_pipeline.partition.ideals.state import State, new_state
from onnx_pipeline.partition.ideals.table import Static, Table, grow, new_table, prepare
from onnx_pipeline.partition.instance.hypergraph import place_free_sources
from onnx_pipeline.stop import Stop

#: Decisions per kernel call: 5 to 50 ms, so that time limit and Ctrl-C are honoured.
CHUNK = 20_000
#: All room that is left, at most: sums of weighed costs stay below.
MOST_ROOM = 1 << 62


class FleetAnswer(NamedTuple):
    """What a question gave: ascending stages and their devices, a proof that there are none, or neither."""

    stage_of: IntArray | None = None
    device_of: tuple[int, ...] = ()
    proved_none: bool = False


class _Visited:
    """States reached so far; grows."""

    def __init__(self, words: int, capacity: int = 1024) -> None:
        self.table: Table = new_table(words, capacity)
        self.states = States(*(np.full(capacity, -1, dtype=np.int64) for _ in States._fields))
        self.states.ideal[0] = self.states.configuration[0] = self.states.latest[0] = 0
        self.at = np.array([0, 1, 1, 0], dtype=np.int64)

    def of(self, configuration: int) -> IntArray:
        """Return the states with a configuration."""
        return np.flatnonzero(self.states.configuration[: self.at[STATES]] == configuration)

    def grow(self) -> None:
        """Double the capacity."""
        self.table = grow(self.table, int(self.at[IDEALS]))
        self.states = States(*(np.append(each, np.full_like(each, -1)) for each in self.states))


class FleetSearch:
    """Exact questions about one instance, from one end.

    Parameters
    ----------
    inst : FleetInstance
        For one stage per device.
    reverse : bool
        Start from the sinks and the last device.

    Attributes
    ----------
    spent : int
        Decisions that the last question took.
    """

    spent = 0

    def __init__(self, inst: FleetInstance, *, reverse: bool = False) -> None:
        self.inst, self.reverse = inst, reverse
        self.hypers, self.index = fleet_hypergraphs(inst, reverse=reverse)
        devices = inst.fleet.devices
        pin = self.hypers[0].pin
        if reverse and not inst.fleet.free:
            devices = devices[::-1]
            pin = np.where(pin >= 0, len(devices) - 1 - pin, -1)
            self.hypers = [hyper._replace(pin=pin) for hyper in self.hypers]
        self.line = Line(replace(inst.fleet, devices=devices), set(pin[pin >= 0].tolist()))
        self.used = _used_up(self.line, inst.fleet.free)
        self.works = np.array([hyper.work for hyper in self.hypers])
        self.costs = np.array([hyper.cost for hyper in self.hypers])
        self.demand = demand(inst)
        self._rests: dict[tuple[int, ...], tuple[Rest, Static]] = {}
        self.capacity_limit = MEMORY_BUDGET // (8 * (1 + self.hypers[0].work.shape[0] // 64) + 80)

    def ask(self, limit: int, decisions: int, stop: Stop) -> FleetAnswer:
        """Search for a placement with every load at most ``limit`` ticks.

        Parameters
        ----------
        limit : int
        decisions : int
            Effort allowed.
        stop : Stop
            Checked about twenty times a second.
        """
        if not self.inst.n:
            return FleetAnswer(np.zeros(0, dtype=np.int64))
        visited = _Visited(max(1, -(-len(self.hypers[0].work) // 64)))
        state = new_state(self.hypers[0], visited.table.ideals.shape[1])
        self.spent = 0
        waiting = [self.line.start]
        while waiting:
            configuration = heappop(waiting)  # their numbers are a topological order
            todo = visited.of(configuration)
            for option in self.line.options(configuration):
                if self.hypers[option[0]].alpha > limit:
                    continue
                known = int(visited.at[STATES])
                status = self._take(visited, state, todo, option, limit, decisions, stop)
                if visited.at[STATES] > known and option[1] not in waiting:
                    heappush(waiting, option[1])
                if status == FOUND:
                    return self._answer(visited)
                if status != DONE:
                    return FleetAnswer()
        return FleetAnswer(proved_none=True)

    def _take(
        self,
        visited: _Visited,
        state: State,
        todo: IntArray,
        option: Option,
        limit: int,
        decisions: int,
        stop: Stop,
    ) -> int:
        """Let a device take what it can from each of some states."""
        rest, static = self._rest_after(option[1], limit)
        step = self._step(option, limit)
        hyper = self.hypers[option[0]]._replace(rest_work=rest.work, rest_cost=rest.cost)
        visited.at[AT] = 0
        status = BUDGET
        while self.spent < decisions and not stop():
            allowed = min(CHUNK, decisions - self.spent)
            status = walk(
                hyper, static, visited.table, visited.states, state, todo, step, allowed, visited.at
            )
            self.spent += allowed - int(visited.at[BUDGET_LEFT])
            if status in (DONE, FOUND):
                break
            if status == GROW:
                if 2 * len(visited.table.keys) > self.capacity_limit:
                    break
                visited.grow()
        return status

    def _rest_after(self, configuration: int, limit: int) -> tuple[Rest, Static]:
        """Return what is left after a configuration, for devices that are of use within the limit."""
        left = self.line.left(configuration)
        count = tuple(
            devices if hyper.alpha <= limit else 0 for devices, hyper in zip(left, self.hypers, strict=True)
        )
        if count not in self._rests:
            rest = rest_of(self.hypers, self.demand, count)
            self._rests[count] = rest, prepare(self.hypers[0]._replace(rest_work=rest.work))
        return self._rests[count]

    def _step(self, option: Option, limit: int) -> Step:
        """Return what the walk has to know of a device and of those that are left after it."""
        kind, configuration = option
        rest, static = self._rest_after(configuration, limit)
        device = self.line.device(option)
        late = rest.orphan
        if device is not None:
            late = late | ((self.hypers[0].pin >= 0) & (self.hypers[0].pin <= device))
        bits = np.zeros(8 * static.words, dtype=np.uint8)
        packed = np.packbits(late, bitorder="little")
        bits[: len(packed)] = packed
        rooms = sum(
            devices * int(weight) * (limit - hyper.alpha)
            for devices, weight, hyper in zip(
                self.line.left(configuration), rest.weights, self.hypers, strict=True
            )
            if hyper.alpha <= limit
        )
        return Step(
            self.used,
            configuration,
            -1 if device is None else device,
            limit - self.hypers[kind].alpha,
            min(rooms, MOST_ROOM),
            self.works,
            self.costs,
            rest.left,
            np.asarray((static.desc & bits.view(np.uint64)).any(axis=1), dtype=np.bool_),
            rest.memory,
            rest.rate,
            rest.slack,
        )

    def _answer(self, visited: _Visited) -> FleetAnswer:
        """Follow the parents from everything back to the empty ideal."""
        states, n = visited.states, len(self.hypers[0].work)
        at = int(visited.at[STATES]) - 1
        chain = []
        options: list[Option] = []
        while at > 0:
            ideal = np.ascontiguousarray(visited.table.ideals[states.ideal[at]])
            chain.append(np.unpackbits(ideal.view(np.uint8), bitorder="little")[:n])
            after, at = int(states.configuration[at]), int(states.parent[at])
            options += [each for each in self.line.options(int(states.configuration[at])) if each[1] == after]
        # An ideal holds those before it, so the number of ideals with a node tells its stage.
        stage: IntArray = len(chain) - np.array(chain, dtype=np.int64).sum(axis=0)
        if self.reverse:
            stage = len(chain) - 1 - stage
        else:
            options.reverse()
        devices = self.line.devices(options)
        if self.reverse and not self.inst.fleet.free:
            devices = tuple(len(self.inst.fleet.devices) - 1 - device for device in devices)
        return FleetAnswer(place_free_sources(self.inst.kinds[0], self.index, stage), devices)


def _used_up(line: Line, free: bool) -> IntArray:
    """Return what each configuration has used up; no number larger leaves no less to follow."""
    if not free:
        return np.arange(line.count, dtype=np.int64)[:, None]
    left = np.array([line.left(configuration) for configuration in range(line.count)], dtype=np.int64)
    return np.asarray(left[0] - left, dtype=np.int64)
