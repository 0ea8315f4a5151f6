"""What all devices together have to do, whatever the stages."""

from __future__ import annotations

import math
from fractions import Fraction

from onnx_pipeline.partition.bounds.crossings import paid_once
from onnx_pipeline.partition.bounds.windows import parameters
from onnx_pipeline.partition.instance.instance import Instance


def simple_period(inst: Instance, devices: int) -> Fraction:
    """Return (work + tensors of the host + overflow + alpha per stage) / N, in ticks.

    *Proof.* A stage of cost c on r devices has c <= r T, so all costs together are at most N T. They are at
    least all work, every tensor of the host once, the overflow that N stages cannot avoid, and alpha for each
    stage; under a hard limit of M bytes there are at least ceil(P / M) stages for P bytes of parameters, else
    one. Of one stage alone, only its cost over N bounds the period, which this contains: the heaviest node,
    minimum cuts around a node and windows bound what one device does, which replicas divide.
    """
    if not inst.n:
        return Fraction(0)
    stages = 1
    if inst.ns_per_byte < 0:
        sizes, room = parameters(inst)
        stages = max(1, math.ceil(Fraction(sum(sizes), room))) if room else 1
    return Fraction(paid_once(inst, devices) + inst.alpha * stages, devices)
