"""PipelineSession: the interface of an onnxruntime session over stages that run concurrently."""

from __future__ import annotations

import os
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np

from onnx_pipeline import manifest
from onnx_pipeline.errors import UsageError
from onnx_pipeline.manifest import Manifest
from onnx_pipeline.runtime.backend import make_backend
from onnx_pipeline.runtime.flow import Flow
from onnx_pipeline.runtime.inputs import NodeArg, blank_feeds, check_feeds, check_outputs
from onnx_pipeline.runtime.layout import Layout
from onnx_pipeline.runtime.placement import place
from onnx_pipeline.runtime.request import Request
from onnx_pipeline.runtime.stats import Recorder, Stats, Timeline
from onnx_pipeline.runtime.stream import stream
from onnx_pipeline.runtime.wiring import Wiring

Feeds = Mapping[str, Any]


class ModelMeta:
    """Metadata of the model, with onnxruntime's attributes."""

    def __init__(self, **fields: Any) -> None:
        self.__dict__.update(fields)


class PipelineSession:
    """Run the stages of an output directory as if they were one model, several requests at a time.

    A stage has as many workers as the manifest says replicas; stages on the same device have one worker,
    which does one thing at a time and serves the latest stage at which a request waits.

    Parameters
    ----------
    directory : path-like
        Output of ``split``.
    providers : sequence or mapping, optional
        Execution providers as for ``onnxruntime.InferenceSession``: names, or pairs of name and options. For
        all stages, or a mapping by stage number, whose entry None stands for the others. By default what the
        manifest says, else the CPU.
    provider_options : sequence of mapping, or mapping by stage number, optional
        Options of each provider, in the same order.
    sess_options : mapping or onnxruntime.SessionOptions, or mapping by stage number, optional
        ``{"intra_op_num_threads": 2, "session.intra_op.allow_spinning": "0"}``: attributes, and configuration
        entries (names with a dot). By default the ``threads`` of a stage in the manifest, else an even
        share of the cores for every worker. A SessionOptions object cannot be sent to other processes.
    backend : {"auto", "threads", "processes"}
        Where stages run. Threads hand tensors over by reference. Processes copy them through shared
        memory, but share no interpreter lock with each other or with the caller.
    queue_depth : int
        Requests of a worker that may wait for the next stage. Between stages of which one device serves some
        before and some after, only ``max_in_flight`` counts.
    max_in_flight : int, optional
        Requests in flight at most; a caller that submits more waits. By default as many as stages, their
        replicas and the queues hold, and one more for each worker of the first stage to take.
    restart : bool
        Start worker processes again that die. Requests that they had still fail.
    pin : bool
        Confine each worker to its own share of the cores. It helps only where nothing else runs.
    custom_ops : sequence of path-like
        Libraries of custom operators for onnxruntime. Loading one runs its code.
    allow_reference : path-like, optional
        Folder outside ``directory`` whose files may be read as weights, for splits that only refer to them.

    Raises
    ------
    InputError
        If the directory or a stage cannot be loaded.
    UsageError
        If an option makes no sense.

    Notes
    -----
    A request's arrays must not be changed before it is done; the session never changes them. Two calls
    may run in different threads at the same time.

    Examples
    --------
    >>> with PipelineSession("out") as session:  # doctest: +SKIP
    ...     (logits,) = session.run(None, {"image": image})
    ...     for (logits,) in session.map({"image": image} for image in images):
    ...         print(logits.argmax())
    """

    def __init__(
        self,
        directory: str | os.PathLike[str],
        providers: Any = None,
        provider_options: Any = None,
        sess_options: Any = None,
        backend: str = "auto",
        queue_depth: int = 2,
        max_in_flight: int | None = None,
        restart: bool = False,
        pin: bool = False,
        custom_ops: Sequence[str | os.PathLike[str]] = (),
        allow_reference: str | os.PathLike[str] | None = None,
    ) -> None:
        self.directory = Path(directory)
        self.manifest: Manifest = manifest.read(directory)
        self._wiring = wiring = Wiring.of(self.manifest)
        if queue_depth < 1 or (max_in_flight is not None and max_in_flight < 1):
            raise UsageError("queue_depth and max_in_flight must be at least 1")
        self.queue_depth = queue_depth
        layout = Layout.of(self.manifest)
        self.max_in_flight = max_in_flight or layout.capacity(queue_depth)
        self.custom_ops = tuple(custom_ops)
        self.allow_reference = allow_reference
        specs = place(
            self.directory,
            self.manifest,
            providers,
            provider_options,
            sess_options,
            pin,
            custom_ops,
            allow_reference,
        )
        self._flow = Flow(
            self.max_in_flight,
            Recorder(wiring.files, [len(workers) for workers in layout.serving]),
            lambda finish: make_backend(
                backend, specs, wiring, self.manifest, queue_depth, self.max_in_flight, finish, restart
            ),
        )

    def __enter__(self) -> Self:
        """Return the session itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close; after an exception without waiting for what is in flight."""
        self.close(drain=kind is None)

    @property
    def backend(self) -> str:
        """``"threads"`` or ``"processes"``."""
        return self._flow.backend.name

    def get_inputs(self) -> list[NodeArg]:
        """Return the inputs that :meth:`run` takes."""
        return [NodeArg.of(port) for port in self.manifest.model.inputs]

    def get_overridable_initializers(self) -> list[NodeArg]:
        """Return the inputs that :meth:`run` takes and has a default value for."""
        return [NodeArg.of(port) for port in self.manifest.model.defaults]

    def get_outputs(self) -> list[NodeArg]:
        """Return the outputs that :meth:`run` returns."""
        return [NodeArg.of(port) for port in self.manifest.model.outputs]

    def get_providers(self) -> list[str]:
        """Return the execution providers of all stages, each once."""
        return list(dict.fromkeys(name for info in self._flow.backend.infos for name in info.providers))

    def get_stage_providers(self) -> list[list[str]]:
        """Return the execution providers of each stage."""
        return [list(info.providers) for info in self._flow.backend.infos]

    def get_modelmeta(self) -> ModelMeta:
        """Return the metadata of the first stage's model."""
        return ModelMeta(**self._flow.backend.infos[0].meta)

    def run(
        self,
        output_names: Sequence[str] | None,
        feeds: Feeds,
        run_options: None = None,
        *,
        sequence: Hashable | None = None,
    ) -> list[Any]:
        """Run one request and wait for it.

        Parameters
        ----------
        output_names : sequence of str or None
            Model outputs to return, all of them by default.
        feeds : mapping of str to array
            Every model input; those with a default value as needed.
        run_options : None
            Accepted for the signature of InferenceSession; must be None.
        sequence : hashable, optional
            Requests of one sequence visit the same replica of every stage, in the order in which they were
            submitted, until :meth:`end_sequence`. Without one, whichever replica is free.

        Returns
        -------
        list
            One array (or list, for a sequence) per output.

        Raises
        ------
        InputError
            If an input or output is unknown or missing, or an input has a wrong type or shape.
        StageError
            If a stage fails; it names the stage and its file.
        PipelineError
            If the session is closed, or a replica that the sequence had begun on has died; it is told once,
            then the sequence begins anew.
        """
        if run_options is not None:
            raise UsageError("run_options are not supported by a pipeline")
        return self.submit(feeds, output_names, sequence=sequence).result()

    def submit(
        self,
        feeds: Feeds,
        output_names: Sequence[str] | None = None,
        *,
        sequence: Hashable | None = None,
    ) -> Future[list[Any]]:
        """Start a request; wait first while ``max_in_flight`` requests are in flight.

        Parameters as for :meth:`run`.

        Returns
        -------
        concurrent.futures.Future
            Its result is what :meth:`run` returns or raises; bad feeds raise at once.
        """
        return self._flow.submit(self._request(feeds, output_names, sequence))

    async def arun(
        self,
        output_names: Sequence[str] | None,
        feeds: Feeds,
        *,
        sequence: Hashable | None = None,
    ) -> list[Any]:
        """Run one request without blocking the event loop; otherwise as :meth:`run`."""
        return await self._flow.run(self._request(feeds, output_names, sequence))

    def end_sequence(self, sequence: Hashable) -> None:
        """Forget which replicas a sequence visited; all its requests are done."""
        self._flow.backend.forget(sequence)

    def map(
        self,
        feeds: Iterable[Feeds],
        ordered: bool = True,
        output_names: Sequence[str] | None = None,
        return_exceptions: bool = False,
    ) -> Iterator[list[Any]]:
        """Run a stream of requests, lazy on both ends.

        At most ``max_in_flight`` requests are taken from ``feeds`` and not yet yielded: a caller
        that stops reading stops the stream. If ``feeds`` raises, or a request is malformed, all earlier
        results are yielded first.

        Parameters
        ----------
        feeds : iterable of mapping
            One per request.
        ordered : bool
            Yield in the order of the requests; otherwise as they finish.
        output_names : sequence of str, optional
            As for :meth:`run`.
        return_exceptions : bool
            Yield the exception of a failed request in place of its outputs and go on instead of
            raising it.

        Returns
        -------
        iterator of list
            The outputs of each request.
        """

        def submit(request: Feeds) -> Future[list[Any]]:
            return self.submit(request, output_names)

        return stream(submit, feeds, ordered, self.max_in_flight, return_exceptions)

    def warm_up(self, runs: int = 1, feeds: Feeds | None = None) -> None:
        """Run every stage a few times, then reset the statistics; feeds zeros by default."""
        given = blank_feeds(self.manifest) if feeds is None else feeds
        for _ in range(runs):
            self.run(None, given)
        self._flow.forget()

    def stats(self) -> Stats:
        """Return the statistics of the session so far."""
        return self._flow.stats()

    def timelines(self) -> list[Timeline]:
        """Return which stage the last requests (at most 1024) were in, and when."""
        return self._flow.timelines()

    def close(self, drain: bool = True, timeout: float | None = None) -> None:
        """Admit no further requests and release the stages.

        Parameters
        ----------
        drain : bool
            Finish requests in flight first; otherwise they fail at once.
        timeout : float, optional
            Seconds after which requests in flight fail after all.
        """
        self._flow.close(drain, timeout)

    def _request(
        self, feeds: Feeds, output_names: Sequence[str] | None, sequence: Hashable | None
    ) -> Request:
        self._flow.check_open()
        if sequence is not None and not isinstance(sequence, Hashable):
            raise UsageError(f"sequence must be hashable, got {type(sequence).__name__}")
        wanted = check_outputs(self.manifest, output_names, self.directory)
        live = check_feeds(self.manifest, feeds)
        # An output that is an input passes no stage; the caller gets an array of its own.
        results = {name: _copy(live[name]) for name in wanted if name in live}
        read = self._wiring.last_reader
        live = {name: live[name] for name in self._wiring.fed if name in live and name in read}
        return self._flow.request(live, wanted, results, sequence)


def _copy(value: Any) -> Any:
    return value.copy() if isinstance(value, np.ndarray) else value
