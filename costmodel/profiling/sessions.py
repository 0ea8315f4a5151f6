"""onnxruntime sessions for measurement, and their error messages."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from onnx_pipeline.costmodel.profiling.mapping import FloatArray, GraphNode, saved_model
from onnx_pipeline.costmodel.profiling.trace import read_trace
from onnx_pipeline.errors import InputError
from onnx_pipeline.model.limits import MAX_TRIAL_SECONDS
from onnx_pipeline.ort.call import is_foreign, run_session
from onnx_pipeline.ort.providers import CPU
from onnx_pipeline.ort.session import SessionSettings

if TYPE_CHECKING:
    from onnx_pipeline.model.source import SourceModel

Feeds = Mapping[str, np.ndarray[Any, Any]]
#: Returns seconds from any beginning.
Clock = Callable[[], float]
#: Models quicker than this run once more before every timed run. Their weights fit into a processor's caches,
#: where other sessions that run in turns would have replaced them; in use they would be there.
QUICK_SECONDS = 0.02


@dataclass(frozen=True)
class Runner:
    """Makes and runs sessions of one model under fixed conditions."""

    source: SourceModel
    feeds: Feeds
    dims: Mapping[str, int]
    provider: str = CPU
    threads: int = 1
    options: Mapping[str, Any] = field(default_factory=dict)

    @cached_property
    def _outputs(self) -> list[str] | None:
        """Names of the outputs where values may be of a type that numpy lacks; None where none is."""
        values = (*self.source.inputs, *self.source.overridable, *self.source.outputs)
        if any(value.dtype is None or is_foreign(value.dtype) for value in values):
            return [str(value.name) for value in self.source.outputs]
        return None

    def session(self, *, trace_to: Path | None = None, optimise: bool = True, save: bool = True) -> Any:
        """Make a session.

        Parameters
        ----------
        trace_to : Path or None
            Folder for the profile and the saved optimised model; None for a plain session.
        optimise : bool
            All optimisations, or none.
        save : bool
            Whether a session with a profile also saves its model.

        Raises
        ------
        InputError
            If onnxruntime cannot load the model, or not on this provider.
        UsageError
            If this onnxruntime has no such provider.
        """
        from onnx_pipeline.model.running import open_model

        settings = SessionSettings([(self.provider, self.options)], self.threads, optimise)
        if trace_to is not None:
            settings = replace(settings, profile_prefix=trace_to / "trace")
        if trace_to is not None and save:
            saved, options = trace_to / "optimised.onnx", _discard_weights(trace_to)
            settings = replace(settings, saved_model=saved, options=options)
        return open_model(self.source, settings)

    def try_out(self, seconds: float | None) -> None:
        """Run a model that has a Loop once: with these inputs it may never end.

        Parameters
        ----------
        seconds : float or None
            For how long, if that is more than usual.

        Raises
        ------
        CannotRunError
            If it does not end.
        """
        from onnx_pipeline.model.running import loops, run_once

        if loops(self.source):
            outputs = [str(value.name) for value in self.source.outputs]
            limit = max(MAX_TRIAL_SECONDS, seconds or 0)
            run_once(self.source, self.session(), outputs, self.feeds, limit)

    def run(self, session: Any) -> None:
        """Run once.

        Raises
        ------
        InputError
            If onnxruntime fails; the message says which dimensions disagree, where that can be found out.
        """
        from onnx_pipeline.model.running import explain_failure

        try:
            if self._outputs is None:
                session.run(None, self.feeds)
            else:
                run_session(session, self._outputs, self.feeds)
        except Exception as error:
            raise explain_failure(self.source, self.dims, error) from error

    @property
    def clock(self) -> Clock:
        """The clock that other work on the machine disturbs least.

        One thread of the processor computes whenever it has the processor, so its own time leaves out when
        others had it. What libraries of custom operators do with threads of their own is not known.
        """
        alone = self.threads == 1 and self.provider == CPU and not self.source.custom_ops
        return time.thread_time if alone else time.perf_counter

    def timed(self, session: Any) -> float:
        """Run once; return the seconds it took by :attr:`clock`."""
        start = self.clock()
        self.run(session)
        return self.clock() - start

    def traced(self, folder: Path, *, optimise: bool) -> Traced | None:
        """Make a session that records its kernels in ``folder``.

        None if the model cannot be saved: a provider that compiles whole subgraphs has no nodes to show.
        """
        folder.mkdir()
        try:
            return Traced(self.session(trace_to=folder, optimise=optimise), folder)
        except InputError:
            return None


@dataclass(frozen=True)
class Traced:
    """A profiled session and the folder with its saved model."""

    session: Any
    folder: Path

    def saved(self) -> tuple[list[GraphNode], dict[str, int]]:
        """Return the nodes that the session executes, in order, and the bytes of its weights by name."""
        return saved_model(self.folder / "optimised.onnx")

    def finish(self, kernels: Sequence[GraphNode], warm_up: int) -> FloatArray:
        """Stop profiling; return microseconds as rounds x kernels, rounds that do not match left out."""
        trace = read_trace(self.session.end_profiling())
        wanted = [kernel.op for kernel in kernels]
        rows = [[e.duration for e in run] for run in trace[warm_up:] if [e.op for e in run] == wanted]
        return np.array(rows, dtype=np.float64).reshape(len(rows), len(wanted))


def _discard_weights(folder: Path) -> dict[str, str]:
    """Let the saved model write its weights to nowhere: only its structure is of interest."""
    weights = folder / "weights.bin"
    with suppress(OSError):  # without links the weights take disk space until the folder is removed
        weights.symlink_to(os.devnull)
    return {
        "session.optimized_model_external_initializers_file_name": weights.name,
        "session.optimized_model_external_initializers_min_size_in_bytes": "1024",
    }
