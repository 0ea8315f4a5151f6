"""One request on its way through the stages, and what carries it: the interface of the backends."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any, Protocol

from onnx_pipeline.runtime.stats import Note, Span


@dataclass(eq=False, slots=True)
class Request:
    """A request.

    Attributes
    ----------
    number : int
        Counts the requests of a session.
    live : dict of str to value
        Tensors that are still needed.
    wanted : sequence of str
        Outputs to return.
    submitted : int
        Nanoseconds.
    results : dict of str to value
        Model outputs so far.
    spans : list of Span
        One per stage that is done.
    future : Future
    sequence : hashable, optional
        Requests of one sequence visit the same replica of every stage.
    """

    number: int
    live: dict[str, Any]
    wanted: Sequence[str]
    submitted: int
    results: dict[str, Any] = field(default_factory=dict)
    spans: list[Span] = field(default_factory=list)
    future: Future[list[Any]] = field(default_factory=Future)
    sequence: Hashable | None = None


#: Told once per request: its results are complete, or what went wrong.
Finish = Callable[[Request, BaseException | None], None]


@dataclass(frozen=True)
class StageInfo:
    """What a loaded stage says of itself: active providers and model metadata."""

    providers: tuple[str, ...]
    meta: dict[str, Any]


class Backend(Protocol):
    """Carries requests through the stages; each stage takes them in the order in which they reach it.

    A backend takes every request that :meth:`put` accepted to the ``finish`` it was made with, exactly once,
    whatever happens.
    """

    name: str
    infos: Sequence[StageInfo]

    @property
    def notes(self) -> Mapping[tuple[int, int], Note]:
        """What happened to replicas, by stage and replica; those without a note are as they were."""

    def put(self, request: Request) -> None:
        """Start a request; the caller limits how many are inside.

        Raises
        ------
        PipelineError
            If the stages are gone, or a replica that the request's sequence had begun on.
        """

    def forget(self, sequence: Hashable) -> None:
        """Let a sequence end."""

    def close(self, reason: BaseException | None = None) -> None:
        """Stop all workers.

        Parameters
        ----------
        reason : exception, optional
            Fail requests in flight with it, at once; without one there are none.
        """
