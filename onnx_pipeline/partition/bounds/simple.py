"""The simple bound: some stage gets at least the average work, and some stage the heaviest node.

References
----------
Archer et al. 2024, section 5.
"""

from __future__ import annotations

from onnx_pipeline.partition.instance.instance import Instance


def simple(inst: Instance, k: int) -> int:
    """Return alpha + max(ceil(total work / k), largest work of a node), in nanoseconds."""
    if not inst.n:
        return 0
    return inst.alpha + max(-(-inst.total_work // k), int(inst.work.max()))
