"""The target: k identical devices behind one kind of link."""

from __future__ import annotations

import math
from dataclasses import dataclass

from onnx_pipeline.errors import UsageError
from onnx_pipeline.graph.ticks import IntArray, whole
from onnx_pipeline.graph.units import parse_bandwidth, parse_bytes, parse_seconds

#: Cost in ticks of a stage that breaks a hard limit; nothing real comes near.
INFEASIBLE = 1 << 60


@dataclass(frozen=True)
class Target:
    """k identical devices behind one kind of link.

    Quantities may be given as text with a unit: ``Target(bandwidth="16GB/s", memory="8GiB")``.

    Parameters
    ----------
    bandwidth : float
        Interconnect bandwidth in bytes/second; ``math.inf`` makes transfers free of size cost.
    memory : float
        Fast memory per device in bytes; ``math.inf`` for no limit.
    transfer_latency : float
        Fixed seconds per transferred tensor (lambda).
    stage_overhead : float
        Fixed seconds per non-empty stage and inference (alpha).
    host_io : bool
        Whether model inputs and outputs are paid for as transfers.
    memory_mode : {"overflow", "hard"}
        What happens to bytes beyond ``memory``: streamed over the link in every inference, or forbidden.
    activations : bool
        Whether the peak of live activations counts against ``memory``, next to parameters.
    name : str
        Shown in reports.

    Raises
    ------
    UsageError
        If a figure is no number or quantity, or out of its range.
    """

    bandwidth: float = math.inf
    memory: float = math.inf
    transfer_latency: float = 0.0
    stage_overhead: float = 0.0
    host_io: bool = True
    name: str = "custom"
    memory_mode: str = "overflow"
    activations: bool = True

    def __post_init__(self) -> None:
        """Read every quantity and check its range once."""
        for label, read in (
            ("bandwidth", parse_bandwidth),
            ("memory", parse_bytes),
            ("transfer_latency", parse_seconds),
            ("stage_overhead", parse_seconds),
        ):
            object.__setattr__(self, label, read(getattr(self, label), label))
        if self.memory_mode not in ("overflow", "hard"):
            raise UsageError(f"memory_mode must be 'overflow' or 'hard', got {self.memory_mode!r}")

    def __repr__(self) -> str:
        """Return the figures that matter, in one line."""
        from onnx_pipeline.brief import of_target

        return of_target(self)

    def ticks_per_byte(self, ticks_per_second: int) -> float:
        """Ticks to move one byte over the link."""
        return ticks_per_second / self.bandwidth

    def transfer_ticks(self, nbytes: IntArray, ticks_per_second: int, *, up: bool = False) -> IntArray:
        """c(t) = lambda + size / B of every size, rounded down, or up."""
        fixed = self.transfer_latency * ticks_per_second
        return whole(fixed + nbytes * self.ticks_per_byte(ticks_per_second), up=up)

    def overflow_ticks(self, nbytes: int, ticks_per_second: int, *, up: bool = False) -> int:
        """Ticks to stream what does not fit into fast memory of a stage's bytes, rounded down, or up."""
        if nbytes <= self.memory:
            return 0
        if self.memory_mode == "hard":
            return INFEASIBLE
        ticks = (nbytes - self.memory) * self.ticks_per_byte(ticks_per_second)
        return int(whole(ticks, up=True)) if up else int(ticks)  # kernels truncate, too

    def overhead_ticks(self, ticks_per_second: int, *, up: bool = False) -> int:
        """Alpha, rounded down, or up."""
        return int(whole(self.stage_overhead * ticks_per_second, up=up))

    @property
    def counts_activations(self) -> bool:
        """Whether peak(S) can matter."""
        return self.activations and math.isfinite(self.memory)
