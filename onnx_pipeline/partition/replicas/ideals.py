"""Exact questions with replicas: is there a chain of ideals that N devices serve in less than a period?

The enumeration is that of :mod:`onnx_pipeline.partition.ideals.expand`; the level of an ideal is the number
of devices that its stages take, the least over all chains to it. Ideals are expanded level by level, and one
that is reached again with fewer devices moves down: all lower levels are done before its own. Let S be
the set that is grown from ideal I at level d, J = I + S, D the descendants of excluded nodes, and devices(c)
the fewest devices that serve a cost c in time.

* **P1, P3** devices(what S pays whatever is still included) + devices(alpha + work(D) + tensors between J and
  D) > N - d: no extension of S fits. (Stages after S on R devices pay less than R periods together, so what
  they pay takes no more devices in one piece.)
* **P2** with R = N - d - devices(cost(S)): keep J only if alpha + work(V \\ J) + live(J) + overflow of what
  is still needed beyond R M is less than R periods.
* **Saturation** drop J if an available x outside J joins S without another device, and no later stage pays
  more without x: every completion of J is then one of J + x with as many devices. The proof for stages on one
  device asks no more of the rest than that no stage's cost rises, and it does not.

A pin names a stage, and stages are not counted here: pinned nodes only keep their order. "None" is as true
without the rest of what pins demand; what is found has to be numbered, which may fail.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from onnx_pipeline.graph.costgraph import IntArray
from onnx_pipeline.partition.ideals.expand import (
    BUDGET,
    BUDGET_LEFT,
    COUNT,
    DONE,
    FIRST,
    FOUND,
    GROW,
    LAST,
    LEVEL,
    bottom,
    dominated,
    frontier,
    rest,
)
from onnx_pipeline.partition.ideals.question import CHUNK, MEMORY_BUDGET
from onnx_pipeline.partition.ideals.state import (
    ACTIVE,
    CROSSING,
    DOOMED,
    FIXED,
    FLAGS,
    HELD,
    INSIDE,
    PENDING,
    WORK,
    drop,
    include,
    load,
    new_state,
    remove,
    unflag,
)
from onnx_pipeline.partition.ideals.table import Table, find, grow, insert, new_table, prepare
from onnx_pipeline.partition.instance.hypergraph import hypergraph, place_free_sources
from onnx_pipeline.partition.instance.instance import Instance
from onnx_pipeline.partition.jit import inner, kernel
from onnx_pipeline.partition.replicas.slicing import devices_for
from onnx_pipeline.partition.search.tapes import overflow
from onnx_pipeline.stop import Stop


@inner
def _reach(table, count, current, key, parent, level):  # type: ignore[no-untyped-def]
    """Add an ideal, or move a known one down to a lower level; return whether it is new."""
    known = table.slots[find(table, current, key)]
    if known < 0:
        return insert(table, count, current, key, parent, 0, level)
    if level < table.level[known]:
        table.level[known] = level
        table.parent[known] = parent
    return False


@inner
def _hopeless(h, s, capacity, dropped_work, drops, left):  # type: ignore[no-untyped-def]
    """P1 and P3: whether no extension of S leaves enough devices for what is excluded."""
    over = overflow(h, s.x[HELD] + s.x[ACTIVE])
    needed = devices_for(capacity, h.alpha + s.x[WORK] + s.x[FIXED] + s.x[DOOMED] + over)
    if drops > 0:
        needed += devices_for(capacity, h.alpha + dropped_work[drops] + s.x[CROSSING])
    return needed > left


@kernel
def climb(h, static, table, s, capacity, budget, at):  # type: ignore[no-untyped-def]
    """Expand level after level.

    Parameters
    ----------
    h, static, table, s : Hypergraph, Static, Table, State
    capacity : int64[N + 1]
        Largest cost that so many devices serve in time.
    budget : int
        Decisions allowed.
    at : int64[5], changed
        Where the search stands, see ``FIRST`` and the names next to it.

    Returns
    -------
    int
        DONE when nothing is left to expand: there is no such chain; FOUND (everything is reached); BUDGET;
        GROW (enlarge the table). After the last two call again with the same state.
    """
    n, most = h.work.shape[0], capacity.shape[0] - 1
    total_work = np.int64(0)
    for v in range(n):
        total_work += h.work[v]
    border, avail, choice = s.border, s.avail, s.choice
    size_before, flags_before, need_before = s.size_before, s.flags_before, s.need_before
    dropped, dropped_work = s.dropped, s.dropped_work
    count = at[COUNT]
    while at[LEVEL] < most:
        level = at[LEVEL]
        left = most - level
        for start in range(at[FIRST], at[LAST]):
            if table.level[start] != level:
                continue
            if s.paused[0]:
                s.paused[0] = 0
                borders, size = s.paused[1], s.paused[2]
                depth, drops, forward = s.paused[4], s.paused[5], s.paused[6] == 1
                key = table.keys[start]
                for d in range(depth):
                    if choice[d] == 1:
                        key ^= static.zobrist[avail[d]]
            else:
                load(h, s, table.ideals[start])
                borders, size = frontier(h, s, static.rank)
                key = table.keys[start]
                depth = drops = np.int64(0)
                forward = True
            while True:
                if budget <= 0 or count == table.keys.shape[0]:
                    s.paused[0], s.paused[1], s.paused[2] = 1, borders, size
                    s.paused[4], s.paused[5], s.paused[6] = depth, drops, 1 if forward else 0
                    at[FIRST], at[COUNT], at[BUDGET_LEFT] = start, count, max(budget, 0)
                    return BUDGET if budget <= 0 else GROW
                if forward and depth < size:
                    v = avail[depth]
                    budget -= 1
                    choice[depth], size_before[depth], flags_before[depth] = 1, size, s.x[FLAGS]
                    need_before[depth] = s.x[ACTIVE]
                    size = include(h, s, v, dropped[drops], avail, size)
                    key ^= static.zobrist[v]
                    depth += 1
                    if _hopeless(h, s, capacity, dropped_work, drops, left):
                        forward = False
                        continue
                    over = overflow(h, s.x[HELD] + s.x[ACTIVE])
                    taken = devices_for(capacity, h.alpha + s.x[WORK] + s.x[FIXED] + s.x[PENDING] + over)
                    if taken > left:
                        continue
                    if s.x[INSIDE] < n and (
                        rest(h, s, total_work, left - taken) + h.alpha > capacity[left - taken]  # P2
                        or dominated(h, s, avail, choice, depth, size, capacity[taken] - h.alpha)
                    ):
                        continue
                    if _reach(table, count, s.current, key, start, level + taken):
                        count += 1
                        if s.x[INSIDE] == n:
                            at[COUNT], at[BUDGET_LEFT] = count, budget
                            return FOUND
                    continue
                # Go back to the last inclusion and exclude that node instead.
                forward = False
                while depth > 0 and not forward:
                    depth -= 1
                    v = avail[depth]
                    unflag(h, s, flags_before[depth])
                    if choice[depth] == 0:
                        drops -= 1
                        continue
                    remove(h, s, v, need_before[depth])
                    key ^= static.zobrist[v]
                    size = size_before[depth]
                    budget -= 1
                    dropped_work[drops + 1] = dropped_work[drops] + drop(
                        h, static, s, v, dropped[drops], dropped[drops + 1], border, borders
                    )
                    if _hopeless(h, s, capacity, dropped_work, drops + 1, left):
                        unflag(h, s, flags_before[depth])
                        continue
                    drops += 1
                    choice[depth] = 0
                    depth += 1
                    forward = True
                if not forward:
                    break
        at[LEVEL] = level + 1
        at[FIRST], at[LAST] = 0, count
    at[COUNT], at[BUDGET_LEFT] = count, budget
    return DONE


class ReplicaAnswer(NamedTuple):
    """What a question gave: stages in ascending order, a proof that there are none, or neither."""

    stage_of: IntArray | None = None
    proved_none: bool = False


class ReplicaSearch:
    """Exact questions about one instance, from one end.

    Parameters
    ----------
    inst : Instance
    reverse : bool
        Start from the sinks.
    """

    def __init__(self, inst: Instance, *, reverse: bool = False) -> None:
        self.inst, self.reverse = inst, reverse
        self.hyper, self.index = hypergraph(inst, reverse=reverse)
        self.static = prepare(self.hyper)
        self.capacity_limit = MEMORY_BUDGET // (8 * self.static.words + 40)

    def ask(self, capacity: IntArray, decisions: int, stop: Stop) -> ReplicaAnswer:
        """Search for stages that the devices serve in time.

        Parameters
        ----------
        capacity : int64[N + 1]
            Largest cost that so many devices serve in time, see
            :func:`onnx_pipeline.graph.replicas.capacities`.
        decisions : int
            Effort allowed.
        stop : Stop
            Checked about twenty times a second.
        """
        if not len(self.hyper.work):
            return ReplicaAnswer()
        table = new_table(self.static.words, 1024)
        state = new_state(self.hyper, self.static.words)
        at = bottom()
        left = decisions
        while left > 0 and not stop():
            allowed = min(CHUNK, left)
            status = climb(self.hyper, self.static, table, state, capacity, allowed, at)
            left -= allowed - int(at[BUDGET_LEFT])
            if status == FOUND:
                return ReplicaAnswer(self._stages(table, int(at[COUNT]) - 1))
            if status == DONE:
                return ReplicaAnswer(proved_none=True)
            if status == GROW:
                if 2 * len(table.keys) > self.capacity_limit:
                    break
                table = grow(table, int(at[COUNT]))
        return ReplicaAnswer()

    def _stages(self, table: Table, at: int) -> IntArray:
        """Follow the parents from V back to the empty ideal."""
        n = len(self.hyper.work)
        chain = []
        while at > 0:
            chain.append(table.ideals[at])
            at = int(table.parent[at])
        stage = np.zeros(n, dtype=np.int64)
        for number, ideal in enumerate(chain):  # from V down, so that the smallest ideal counts
            inside = np.unpackbits(np.ascontiguousarray(ideal).view(np.uint8), bitorder="little")[:n]
            stage[inside == 1] = len(chain) - 1 - number
        if self.reverse:
            stage = len(chain) - 1 - stage
        return place_free_sources(self.inst, self.index, stage)
