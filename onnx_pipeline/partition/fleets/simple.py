"""Bounds of a placement by arithmetic alone."""

from __future__ import annotations

from onnx_pipeline.graph.target import INFEASIBLE
from onnx_pipeline.partition.fleets.instance import FleetInstance


def simple_fleet(inst: FleetInstance) -> int:
    """Return, in ticks, the larger of (least work of all nodes / N) and the costliest node at its cheapest.

    *Proof.* A node works at least min over kinds of w(v), so some of at most N devices in use has an N-th of
    the sum or more, on top of its overhead; and whoever runs v pays for v and its overhead.

    ``INFEASIBLE`` if there is a node that no device runs.
    """
    if not inst.n:
        return 0
    least = inst.least_work
    if (least >= INFEASIBLE).any():
        return INFEASIBLE
    kinds = [inst.kinds[kind] for kind in inst.used]
    overhead = min(each.alpha for each in kinds)
    heaviest = max(min(int(each.work[v]) + each.alpha for each in kinds) for v in range(inst.n))
    total: int = sum(least.tolist())
    return max(heaviest, overhead + -(-total // len(inst.fleet.devices)))
