"""Who serves which stage: one worker per device, a device of its own for every replica."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from onnx_pipeline.manifest import Manifest


@dataclass(frozen=True)
class Layout:
    """The workers of a pipeline; a worker never does two things at once.

    Attributes
    ----------
    workers : tuple of tuple of int
        Stages of every worker, ascending: several where stages share a device. The replicas of a stage follow
        each other.
    stages : int
        Number of stages k.
    """

    workers: tuple[tuple[int, ...], ...]
    stages: int

    @classmethod
    def of(cls, document: Manifest) -> Layout:
        """Read from a manifest who serves what: stages of one device share its worker."""
        shared: dict[int, list[int]] = {}
        for stage in document.stages:
            if stage.device is not None:
                shared.setdefault(stage.device, []).append(stage.index)
        workers: list[tuple[int, ...]] = []
        for stage in document.stages:
            together = [stage.index] if stage.device is None else shared[stage.device]
            if together[0] == stage.index:
                workers += [tuple(together)] * stage.replicas
        return cls(tuple(workers), len(document.stages))

    @classmethod
    def chain(cls, stages: int) -> Layout:
        """A worker for every stage."""
        return cls(tuple((stage,) for stage in range(stages)), stages)

    @cached_property
    def serving(self) -> tuple[tuple[int, ...], ...]:
        """Workers of every stage, its replicas in order."""
        return tuple(
            tuple(w for w, own in enumerate(self.workers) if stage in own) for stage in range(self.stages)
        )

    @cached_property
    def replica(self) -> tuple[int, ...]:
        """For every worker, which replica of its stages it is."""
        return tuple(self.serving[own[0]].index(w) for w, own in enumerate(self.workers))

    @cached_property
    def bounded(self) -> tuple[bool, ...]:
        """For every stage, whether few requests may wait behind it; never behind the last.

        A worker that has finished a request waits until the next stage has room for it. That must not happen
        in a circle, so no device may have stages on both sides of such a border. Then all borders that are
        bounded cut the pipeline into segments, every device belongs to one of them, and whoever waits, waits
        for a worker of a later segment. Workers of the last segment wait for nobody; so those of the segment
        before it do not wait for ever, and so on. Inside a segment nobody waits for room at all; there, as in
        the whole pipeline, are never more requests than ``max_in_flight``.
        """
        return tuple(
            stage + 1 < self.stages and not any(own[0] <= stage < own[-1] for own in self.workers)
            for stage in range(self.stages)
        )

    def is_plain(self, stage: int) -> bool:
        """Whether a stage has one worker, and it only that stage."""
        return [self.workers[w] for w in self.serving[stage]] == [(stage,)]

    def capacity(self, depth: int) -> int:
        """Return the default of ``max_in_flight``: what workers hold and what may wait for them.

        There is a request for every stage of every worker, as many as the queues are deep wait behind each
        worker for the next stage, and one before each of the first. With this, simulated devices that hold
        several stages and have equal loads lose 0 to 3 % of their rate by waiting for each other.
        """
        last = sum(own[-1] + 1 == self.stages for own in self.workers)
        return sum(map(len, self.workers)) + depth * (len(self.workers) - last) + len(self.serving[0])

    def load(self, seconds: Sequence[float]) -> list[float]:
        """Return seconds per request that every worker is busy, if its stages take so many."""
        return [sum(seconds[stage] / len(self.serving[stage]) for stage in own) for own in self.workers]
