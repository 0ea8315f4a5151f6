"""Which devices are used up: the configurations that a line of stages passes through.

Stages are made one after the other, and each takes a device. What matters for the rest is which devices are
left, never which stages have which of them:

* **order fixed** a configuration is the number of devices passed, 0..N. The next stage takes any later one;
  of each kind the first is as good as all others, since it leaves the most. Only where pins name devices, a
  device further on may be needed, so those that are pinned to are options, too.
* **order free** a configuration is the number of devices used of each kind, written as one number: digit d of
  radix (count of kind d) + 1. The next stage takes any kind with devices left.

Ascending numbers are a topological order in both.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

from onnx_pipeline.graph.fleet import FleetTarget

#: Kind of the device that a stage takes, and the configuration that follows.
Option = tuple[int, int]


class Line:
    """The configurations of a fleet with one stage per device.

    Parameters
    ----------
    fleet : FleetTarget
    pinned : collection of int
        Devices to which nodes are pinned; with a free order there are none.

    Attributes
    ----------
    start : int
        The configuration with all devices left.
    count : int
        Number of configurations.
    """

    start = 0

    def __init__(self, fleet: FleetTarget, pinned: Collection[int] = ()) -> None:
        self.fleet, self.pinned = fleet, frozenset(pinned)
        self._steps: list[int] = []
        self.count = 1 + len(fleet.devices)
        if fleet.free:
            self.count = 1
            for each in fleet.counts:
                self._steps.append(self.count)
                self.count *= each + 1

    def options(self, configuration: int) -> list[Option]:
        """Return what the next stage may take."""
        if self.fleet.free:
            left = self.left(configuration)
            return [(kind, configuration + step) for kind, step in enumerate(self._steps) if left[kind]]
        first: set[int] = set()
        found = []
        for device in range(configuration, len(self.fleet.devices)):
            kind = self.fleet.devices[device]
            if kind not in first or device in self.pinned:
                found.append((kind, device + 1))
            first.add(kind)
        return found

    def device(self, option: Option) -> int | None:
        """Return the device that an option takes, None where any of its kind serves: the order is free."""
        return None if self.fleet.free else option[1] - 1

    def left(self, configuration: int) -> tuple[int, ...]:
        """Return how many devices of each kind are left."""
        counts = self.fleet.counts
        if self.fleet.free:
            return tuple(
                most - configuration // step % (most + 1)
                for most, step in zip(counts, self._steps, strict=True)
            )
        rest = self.fleet.devices[configuration:]
        return tuple(rest.count(kind) for kind in range(len(counts)))

    def dominates(self, a: int, b: int) -> bool:
        """Whether a leaves all that b leaves: what can follow b can follow a."""
        if not self.fleet.free:
            return a <= b
        return all(mine >= other for mine, other in zip(self.left(a), self.left(b), strict=True))

    def devices(self, options: Sequence[Option]) -> tuple[int, ...]:
        """Return the device of every stage from the options that a path takes.

        With a free order, stages of one kind take its devices in ascending order.
        """
        if not self.fleet.free:
            return tuple(after - 1 for _, after in options)
        of_kind = [
            [device for device, other in enumerate(self.fleet.devices) if other == kind]
            for kind in range(len(self.fleet.kinds))
        ]
        return tuple(of_kind[kind].pop(0) for kind, _ in options)
