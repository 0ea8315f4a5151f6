"""Time in whole ticks, of a length that every graph chooses for itself.

Costs are integers, so "upper bound = lower bound" is an exact test and two runs agree bit for bit. A tick is
a negative power of ten of a second, so short that all work together takes 7e12 to 7e13 ticks: with 64 stages,
a stage that pays a thousand rounded costs is off by at most a hundredth of a millionth, and sums stay far
below 2**63. Costs are rounded *down*: a lower bound of the rounded graph is one of the unrounded graph.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from onnx_pipeline.errors import UsageError
from onnx_pipeline.figures import format_seconds

IntArray = npt.NDArray[np.int64]

#: Ticks per second of a graph that counts nanoseconds.
NS = 1_000_000_000
#: All work together takes at most this many ticks where a graph chooses their length.
WORK_TICKS = 1 << 46
#: What any partition could pay in all stays below: sums and products with k fit into 64 bits.
MOST_TICKS = 1 << 58
#: Every length that a tick may have, as ticks per second; floats hold all of these powers of ten exactly.
TICKS: tuple[int, ...] = tuple(10**power for power in range(19))


def choose_ticks(seconds: float) -> int:
    """Return the ticks per second of a graph whose work takes ``seconds`` in all.

    Raises
    ------
    UsageError
        If that is more than ticks of a second can count.
    """
    if seconds == 0:
        return NS
    fitting = [ticks for ticks in TICKS if seconds * ticks <= WORK_TICKS]
    if not fitting:
        raise UsageError(f"{format_seconds(seconds)} of work in all are more than can be counted")
    return fitting[-1]


def whole(values: npt.ArrayLike, *, up: bool = False) -> IntArray:
    """Round times in ticks down, or up; what is whole up to the precision of floats stays.

    Raises
    ------
    UsageError
        If one is beyond what ticks can count.
    """
    times = np.asarray(values, dtype=np.float64)
    if times.size and not times.max() < MOST_TICKS:
        raise UsageError("a transfer or another cost is too long to be counted next to the rest of the graph")
    nearest = np.rint(times)
    kept = np.abs(times - nearest) <= np.maximum(np.abs(times), 1.0) * 2.0**-50
    result: IntArray = np.where(kept, nearest, np.ceil(times) if up else np.floor(times)).astype(np.int64)
    return result
