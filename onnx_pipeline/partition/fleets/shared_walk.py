"""The walk over maps of nodes to devices that annealing takes: its books, and the kernels that keep them.

A walk holds a topological order and the device of every node, whatever its neighbours are on: the stages are
the runs of nodes on one device along the order, so any map is a valid placement. What a device pays is kept
up with every move, its number of runs included. Between walks :func:`squeeze` reorders the nodes so that
there are fewer runs.

A move takes a node, or the nodes of a run, of a part of one or of any segment of the order, to another
device; those that it cannot run stay. Two runs may also change places. With aim below every known placement,
the energy is

    E = sum over devices of max(0, load(d) - aim)^2

and moves that raise it are taken with probability exp(-dE / temperature).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from onnx_pipeline.graph.costgraph import IntArray
from onnx_pipeline.graph.target import INFEASIBLE
from onnx_pipeline.partition.fleets.shared_fabric import Fabric
from onnx_pipeline.partition.jit import inner, kernel
from onnx_pipeline.partition.search.walk import below, random


class Walk(NamedTuple):
    """Working memory of the walk."""

    order: IntArray  # [n] node at each position
    place: IntArray  # [n] position of each node
    device: IntArray  # [n]
    load: IntArray  # [D] without what stages cost
    runs: IntArray  # [D] number of stages
    held: IntArray  # [D] parameter bytes
    top: IntArray  # [D] largest need of a node
    filled: IntArray  # [D] number of nodes
    inside: npt.NDArray[np.int32]  # members of each net on each device
    users: npt.NDArray[np.int32]  # users of each parameter group on each device
    nodes: npt.NDArray[np.int32]  # [D, n] nodes of each device, the first ``filled[d]`` entries
    slot: IntArray  # [n] place of each node in its row of ``nodes``
    moved: IntArray  # [2 * n] nodes that the last move moved
    origin: IntArray  # [2 * n] where each of them was
    best: IntArray  # [n] devices of the best map
    rng: npt.NDArray[np.uint64]  # [1] xorshift state


def new_walk(f: Fabric, order: IntArray, device: IntArray, seed: int) -> Walk:
    """Set up a walk that starts from a map of nodes to devices that run them."""
    devices, n = len(f.kind), f.n
    each = np.zeros((5, devices), dtype=np.int64)
    w = Walk(
        order.astype(np.int64),
        np.zeros(n, dtype=np.int64),
        device.astype(np.int64),
        each[0],
        each[1],
        each[2],
        each[3],
        each[4],
        np.zeros(int(f.net_base[-1]), dtype=np.int32),
        np.zeros(int(f.group_base[-1]), dtype=np.int32),
        np.zeros((devices, n), dtype=np.int32),
        np.zeros(n, dtype=np.int64),
        np.zeros(2 * n, dtype=np.int64),
        np.zeros(2 * n, dtype=np.int64),
        np.zeros(n, dtype=np.int64),
        np.array([seed * 2 + 0x9E3779B97F4A7C15 & (2**64 - 1)], dtype=np.uint64),
    )
    reset(f, w)
    return w


@inner
def _over(f, d, used):  # type: ignore[no-untyped-def]
    """Ticks for what does not fit into a device's memory."""
    k = f.kind[d]
    return np.int64((used - f.memory[k]) * f.rate[k]) + f.step[k] if used > f.memory[k] else np.int64(0)


@inner
def _total(f, w, d):  # type: ignore[no-untyped-def]
    """Load of a device, stages and fines included."""
    runs = w.runs[d]
    beyond = runs - f.most
    return w.load[d] + f.alpha[f.kind[d]] * runs + (f.fine * beyond if beyond > 0 else 0)


@inner
def _join(f, w, v, d):  # type: ignore[no-untyped-def]
    """Put a node that is nowhere on a device."""
    at = f.kind[d] * f.work.shape[1] + v
    change = f.work[f.kind[d], v] - _over(f, d, w.held[d] + w.top[d])
    base = f.net_base[d]
    for e in range(f.net_ptr[at], f.net_ptr[at + 1]):
        t = f.nets[e]
        count = w.inside[base + t]
        if count == 0:
            change += f.cost[t]
        elif count == f.size[t] - 1 and not f.always[t]:
            change -= f.cost[t]
        w.inside[base + t] = count + 1
    base = f.group_base[d]
    for e in range(f.use_ptr[at], f.use_ptr[at + 1]):
        g = f.uses[e]
        if w.users[base + g] == 0:
            w.held[d] += f.group_bytes[g]
        w.users[base + g] += 1
    w.top[d] = max(w.top[d], f.need[f.kind[d], v])
    w.slot[v] = w.filled[d]
    w.nodes[d, w.filled[d]] = v
    w.filled[d] += 1
    w.device[v] = d
    w.load[d] += change + _over(f, d, w.held[d] + w.top[d])


@inner
def _leave(f, w, v):  # type: ignore[no-untyped-def]
    """Take a node off its device."""
    d = w.device[v]
    at = f.kind[d] * f.work.shape[1] + v
    change = -f.work[f.kind[d], v] - _over(f, d, w.held[d] + w.top[d])
    base = f.net_base[d]
    for e in range(f.net_ptr[at], f.net_ptr[at + 1]):
        t = f.nets[e]
        count = w.inside[base + t]
        if count == 1:
            change -= f.cost[t]
        elif count == f.size[t] and not f.always[t]:
            change += f.cost[t]
        w.inside[base + t] = count - 1
    base = f.group_base[d]
    for e in range(f.use_ptr[at], f.use_ptr[at + 1]):
        g = f.uses[e]
        w.users[base + g] -= 1
        if w.users[base + g] == 0:
            w.held[d] -= f.group_bytes[g]
    w.filled[d] -= 1
    last = w.nodes[d, w.filled[d]]
    w.nodes[d, w.slot[v]] = last
    w.slot[last] = w.slot[v]
    if f.need[f.kind[d], v] == w.top[d] and w.top[d] > 0:
        w.top[d] = 0
        for i in range(w.filled[d]):
            w.top[d] = max(w.top[d], f.need[f.kind[d], w.nodes[d, i]])
    w.load[d] += change + _over(f, d, w.held[d] + w.top[d])


@inner
def _shift(f, w, v, b):  # type: ignore[no-untyped-def]
    """Move a node to another device."""
    at, a = w.place[v], w.device[v]
    before = w.device[w.order[at - 1]] if at > 0 else -1
    after = w.device[w.order[at + 1]] if at + 1 < w.order.shape[0] else -1
    w.runs[a] -= before != a
    w.runs[b] += before != b
    if after >= 0:
        w.runs[after] += np.int64(after != b) - np.int64(after != a)
    _leave(f, w, v)
    _join(f, w, v, b)


@kernel
def reset(f, w):  # type: ignore[no-untyped-def]
    """Recompute everything from ``w.order`` and ``w.device``."""
    w.load[:], w.runs[:], w.held[:], w.top[:], w.filled[:] = 0, 0, 0, 0, 0
    w.inside[:], w.users[:] = 0, 0
    before = np.int64(-1)
    for at in range(w.order.shape[0]):
        v = w.order[at]
        w.place[v] = at
        d = w.device[v]
        w.runs[d] += d != before
        before = d
        _join(f, w, v, d)


@kernel
def largest(f, w):  # type: ignore[no-untyped-def]
    """Largest load of a device."""
    most = np.int64(0)
    for d in range(w.load.shape[0]):
        most = max(most, _total(f, w, d))
    return most


@inner
def _energy(f, w, aim):  # type: ignore[no-untyped-def]
    """Sum of squared excesses, and the largest load."""
    energy, most = 0.0, np.int64(0)
    for d in range(w.load.shape[0]):
        total = _total(f, w, d)
        most = max(most, total)
        if total > aim:
            energy += float(total - aim) ** 2
    return energy, most


@inner
def _worst(f, w):  # type: ignore[no-untyped-def]
    """Device with the largest load."""
    worst = 0
    for d in range(1, w.load.shape[0]):
        if _total(f, w, d) > _total(f, w, worst):
            worst = d
    return worst


@inner
def _take(f, w, first, last, b, count):  # type: ignore[no-untyped-def]
    """Move what a device can run of a segment of the order; return the new number of moved nodes."""
    for at in range(first, last):
        v = w.order[at]
        if w.device[v] != b and f.work[f.kind[b], v] < INFEASIBLE:
            w.moved[count], w.origin[count] = v, w.device[v]
            count += 1
            _shift(f, w, v, b)
    return count


@inner
def _run_of(w, at):  # type: ignore[no-untyped-def]
    """First position of the run around a position, and the first after it."""
    d = w.device[w.order[at]]
    first, last = at, at + 1
    while first > 0 and w.device[w.order[first - 1]] == d:
        first -= 1
    while last < w.order.shape[0] and w.device[w.order[last]] == d:
        last += 1
    return first, last


@inner
def _neighbour(w, first, last):  # type: ignore[no-untyped-def]
    """Device before or after a segment, or any."""
    choice = below(w.rng, 3)
    if choice == 0 and first > 0:
        return w.device[w.order[first - 1]]
    if choice == 1 and last < w.order.shape[0]:
        return w.device[w.order[last]]
    return below(w.rng, w.load.shape[0])


@inner
def _move(f, w, worst):  # type: ignore[no-untyped-def]
    """Make a random move; return the number of moved nodes."""
    n = w.order.shape[0]
    choice = below(w.rng, 16)
    at = below(w.rng, n)
    if choice & 1 and w.filled[worst]:
        at = w.place[w.nodes[worst, below(w.rng, w.filled[worst])]]
    if choice < 6:  # a node
        return _take(f, w, at, at + 1, _neighbour(w, at, at + 1), 0)
    if choice < 8:  # a segment of up to 2, 4, 8, ... nodes
        last = min(n, at + 1 + below(w.rng, 2 << below(w.rng, 8)))
        return _take(f, w, at, last, _neighbour(w, at, last), 0)
    first, last = _run_of(w, at)
    if choice < 10:  # the run up to here
        return _take(f, w, first, at + 1, _neighbour(w, first, at + 1), 0)
    if choice < 12:  # the run from here on
        return _take(f, w, at, last, _neighbour(w, at, last), 0)
    if choice < 14:
        return _take(f, w, first, last, _neighbour(w, first, last), 0)
    one, two = _run_of(w, below(w.rng, n))
    a, b = w.device[w.order[first]], w.device[w.order[one]]
    return _take(f, w, one, two, a, _take(f, w, first, last, b, 0)) if a != b else 0


@kernel
def anneal(f, w, aim, hot, cold, effort, best):  # type: ignore[no-untyped-def]
    """Walk, and keep the best map in ``w.best``.

    Parameters
    ----------
    f : Fabric
    w : Walk
        Changed in place.
    aim : int
        In ticks; see the module's docstring.
    hot, cold : float
        First and last temperature, in squared ticks.
    effort : int
        Nodes to move, rejected moves included.
    best : int
        Largest load of ``w.best``.

    Returns
    -------
    int
        Largest load of ``w.best`` now.
    """
    energy, most = _energy(f, w, aim)
    cooling = np.log(cold / hot)
    done = 0
    step = 0
    worst = _worst(f, w)
    while done < effort:
        step += 1
        if step & 63 == 0:
            worst = _worst(f, w)
        count = _move(f, w, worst)
        done += 1 + count
        if count == 0:
            continue
        after, most = _energy(f, w, aim)
        change = after - energy
        if change > 0:
            chance = np.float64(random(w.rng) >> np.uint64(11)) / 9007199254740992.0
            if chance >= np.exp(-change / (hot * np.exp(cooling * done / effort))):
                for i in range(count - 1, -1, -1):
                    _shift(f, w, w.moved[i], w.origin[i])
                continue
        energy = after
        if most < best:
            best = most
            w.best[:] = w.device
    return best


@inner
def _label(f, w, word, reverse, stage):  # type: ignore[no-untyped-def]
    """Give every node the first stage of its device that its producers allow, or the last for its readers."""
    n, length = w.order.shape[0], word.shape[0]
    near = np.full((w.load.shape[0], length), -1, np.int64)
    for at in range(length):
        s = at if reverse else length - 1 - at
        near[word[s], s] = s
        if at > 0:
            for d in range(near.shape[0]):
                if d != word[s]:
                    near[d, s] = near[d, s - 1 if reverse else s + 1]
    for at in range(n):
        v = w.order[n - 1 - at if reverse else at]
        s = np.int64(length - 1 if reverse else 0)
        if reverse:
            for e in range(f.succ_ptr[v], f.succ_ptr[v + 1]):
                s = min(s, stage[f.succ[e]])
        else:
            for e in range(f.pred_ptr[v], f.pred_ptr[v + 1]):
                s = max(s, stage[f.pred[e]])
        stage[v] = near[w.device[v], s]


@inner
def _runs(w):  # type: ignore[no-untyped-def]
    """Devices of the runs along the order."""
    word = np.empty(w.order.shape[0], np.int64)
    length = 0
    for at in range(w.order.shape[0]):
        d = w.device[w.order[at]]
        if at == 0 or d != word[length - 1]:
            word[length] = d
            length += 1
    return word[:length]


@kernel
def squeeze(f, w):  # type: ignore[no-untyped-def]
    """Reorder the nodes so that there are fewer runs, or as many, on every device.

    Given the devices of the runs, every node goes to the first run that can have it, then to the last one, in
    turn; runs that stay empty are left out, and what was apart because of them becomes one. A node's own run
    can have it, so none is ever added.
    """
    n = w.order.shape[0]
    stage = np.empty(n, np.int64)
    word = _runs(w)
    for turn in range(64):
        _label(f, w, word, turn & 1 == 1, stage)
        w.order[:] = w.order[np.argsort(stage[w.order], kind="mergesort")]
        shorter = _runs(w)
        if turn > 1 and shorter.shape[0] == word.shape[0]:
            break
        word = shorter
    reset(f, w)
