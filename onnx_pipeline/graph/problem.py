"""What a certificate is about: the same figures mean another thing where stages may have replicas."""

from __future__ import annotations

from typing import Any, NamedTuple


class Problem(NamedTuple):
    """Which arrangements a lower bound speaks of.

    Attributes
    ----------
    objective : {"bottleneck", "period"}
        What is as small as possible: the largest cost of a stage, or the time between two requests where a
        stage on r devices takes one each cost / r.
    devices : int
        How many there are.
    replicas : bool
        Whether a stage may have several devices.
    stages_per_device : int or None
        How many stages a device may hold, None for any number.
    order : {"identical", "fixed", "any"}
        Whether the devices are alike; if not, whether the stages take them in a fixed order.
    """

    objective: str
    devices: int
    replicas: bool = False
    stages_per_device: int | None = 1
    order: str = "identical"

    @classmethod
    def of_stages(cls, stages: int) -> Problem:
        """At most so many stages, one on each of as many devices that are alike."""
        return cls("bottleneck", stages)

    @classmethod
    def of_replicas(cls, devices: int) -> Problem:
        """Any stages with replicas on so many devices that are alike."""
        return cls("period", devices, replicas=True)

    def to_json(self) -> dict[str, Any]:
        """Return the ``problem`` object of manifests and plans."""
        return self._asdict()
