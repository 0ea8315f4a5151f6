"""The target: k identical devices behind one kind of link."""

from __future__ import annotations

import math
from dataclasses import dataclass

from onnx_pipeline.errors import UsageError

NS = 1_000_000_000

#: Cost in nanoseconds of a stage that breaks a hard limit: 36 years.
INFEASIBLE = 1 << 60


@dataclass(frozen=True)
class Target:
    """k identical devices behind one kind of link.

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
        Whether a stage's peak of live activations needs room in ``memory`` beside its parameters.
    name : str
        Shown in reports.

    Raises
    ------
    UsageError
        If a figure is out of its range.
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
        """Check every range once."""
        for label, value in (("bandwidth", self.bandwidth), ("memory", self.memory)):
            if not value > 0:
                raise UsageError(f"{label} must be positive, got {value!r}")
        for label, value in (
            ("transfer_latency", self.transfer_latency),
            ("stage_overhead", self.stage_overhead),
        ):
            if not 0 <= value < math.inf:
                raise UsageError(f"{label} must be a finite number of seconds >= 0, got {value!r}")
        if self.memory_mode not in ("overflow", "hard"):
            raise UsageError(f"memory_mode must be 'overflow' or 'hard', got {self.memory_mode!r}")

    @property
    def ns_per_byte(self) -> float:
        """Nanoseconds to move one byte over the link."""
        return NS / self.bandwidth

    def transfer_ns(self, nbytes: int) -> int:
        """c(t) = lambda + size / B in nanoseconds, rounded down."""
        return int(self.transfer_latency * NS + nbytes * self.ns_per_byte)

    def overflow_ns(self, nbytes: int) -> int:
        """Nanoseconds to stream what does not fit into fast memory of a stage's bytes, rounded down."""
        if nbytes <= self.memory:
            return 0
        if self.memory_mode == "hard":
            return INFEASIBLE
        return int((nbytes - self.memory) * self.ns_per_byte)

    @property
    def counts_activations(self) -> bool:
        """Whether peak(S) can matter."""
        return self.activations and math.isfinite(self.memory)

    @property
    def overhead_ns(self) -> int:
        """Alpha in nanoseconds, rounded down."""
        return int(self.stage_overhead * NS)
