"""What the devices that are left pay for nodes and tensors at least, weighed: for the exact search."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from onnx_pipeline.graph.costgraph import BoolArray, IntArray
from onnx_pipeline.graph.target import INFEASIBLE
from onnx_pipeline.partition.fleets.demand import Demand
from onnx_pipeline.partition.fleets.weights import fluid_weights
from onnx_pipeline.partition.instance.hypergraph import Hypergraph

#: The largest weight of a tick, and what all weighed costs together may come to.
SCALE, MOST = 1 << 20, 1 << 61
#: Classes of nodes for the weights: twenty times as many save no decision on real graphs.
CLASSES = 40
#: What products of floats may be too much, relatively.
SHORT = 1 - 2.0**-40


class Rest(NamedTuple):
    """What is left to do for devices of some kinds; everything in weighed ticks."""

    work: IntArray  # [n] least over the kinds that are left and can run a node, 0 where none can
    cost: IntArray  # [m] least over the kinds that are left
    orphan: BoolArray  # [n] nodes that no kind left can run
    left: BoolArray  # [kinds] whether a device of the kind is left
    weights: IntArray  # [kinds]
    memory: float  # bytes of all devices left
    rate: float  # ticks per byte beyond, negative for a hard limit
    slack: int  # what rounding of overflow may take


def rest_of(hypers: Sequence[Hypergraph], demand: Demand, count: Sequence[int]) -> Rest:
    """Weigh what is left for so many devices of each kind.

    For any weights y >= 0, devices left that hold the nodes U together pay at least sum over v in U of min
    over kinds left of y w(v), and for every tensor that one of them pays sum of min over kinds left of
    y c(t). Of the parameters P, overflow is at least min y r (P - sum of M) less one tick for each device,
    the minimum taken over kinds with overflow, where every kind left has a limit.
    """
    kinds = [kind for kind, devices in enumerate(count) if devices]
    left = np.array([devices > 0 for devices in count])
    n, m = len(hypers[0].work), len(hypers[0].cost)
    weights = np.zeros(len(count), dtype=np.int64)
    if not kinds:
        zeros = np.zeros(m, dtype=np.int64)
        return Rest(
            np.zeros(n, dtype=np.int64), zeros, np.ones(n, dtype=np.bool_), left, weights, 0.0, -1.0, 0
        )
    works = np.array([hypers[kind].work for kind in kinds])
    costs = np.array([hypers[kind].cost for kind in kinds])
    rates = np.array([hypers[kind].ns_per_byte for kind in kinds])
    room = float(sum(count[kind] * hypers[kind].memory for kind in kinds))
    orphan = np.asarray((works >= INFEASIBLE).all(axis=0), dtype=np.bool_)
    worth = fluid_weights(demand, count, memory=False, overheads=False, classes=CLASSES)[0][kinds]
    worth = worth / worth.max() if worth.any() else np.ones(len(kinds))
    priced = np.where(works >= INFEASIBLE, np.inf, works * worth[:, None])
    total = priced.min(axis=0)[~orphan].sum() + (costs * worth[:, None]).min(axis=0).sum()
    total += float(hypers[0].group_bytes.sum()) * rates.max()
    weights[kinds] = np.floor(worth * min(SCALE, MOST / max(total, 1.0)))
    over = rates >= 0
    return Rest(
        np.where(orphan, 0, _least(works, weights[kinds])),
        _least(costs, weights[kinds]),
        orphan,
        left,
        weights,
        room,
        float((weights[kinds] * rates)[over].min()) * SHORT if over.any() else -1.0,
        int((np.array(count) * weights)[kinds][over].sum()) + 1,
    )


def _least(costs: IntArray, weights: IntArray) -> IntArray:
    """Return the least weighed cost over kinds, never more than can be added up."""
    weighed = np.where(costs * weights[:, None].astype(np.float64) < MOST, costs * weights[:, None], MOST)
    return np.asarray(weighed.min(axis=0), dtype=np.int64)
